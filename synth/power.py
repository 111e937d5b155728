"""Power per unit: the mapped netlist of the array, simulated with the delays of its cells on what its ports did while the RTL ran layers of a real
network; every output compared with the RTL's in every cycle; events times energies from the Liberty file."""

import argparse
import importlib.metadata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hw.accelerator import Accelerator
from hw.verilog import export
from sdp.config import Config, load
from sdp.encoding import encode
from sim.build_cache import content_hash
from sim.harness import Harness
from synth import output
from synth.area import TOP, UNITS
from synth.cells import hierarchy, mapping
from synth.cells.cell_library import CellLibrary, read_liberty
from synth.cells.yosys import find_yosys, yosys_version
from synth.gate_level import activity, cell_model, netlist, switching
from synth.gate_level.meter import Measured, Meter, PowerError
from synth.gate_level.switching import PARTS
from synth.power_jobs import Job, Jobs, Workload, chosen, terms, workload
from synth.sta.opensta import sta_version

ARRAY, ARRAY_PATH = f"{TOP}_convolution", "core.convolution"
"""The unit that is measured: elements, selectors, operands, their sequencing; and its place in the machine."""
CLOCK = 100.0
"""MHz; energy per cycle follows it through leakage alone"""
CYCLES = 256
"""Counted per layer, budget and weight mode, at least, if the layer has as many; rounded up to whole tiles."""
CHECKED = (UNITS["pe"], "element")
"""The unit that OpenSTA looks at, too: the first of these that the array has."""


def record(config: Config, verilog: str, jobs: list[Job], ports: dict[str, int], progress) -> list[activity.Trace]:
    """What the array's ports do in each; kept by the hash of all that it follows from."""
    harness, traces, source = None, [], Path(activity.__file__).read_bytes()
    for done, job in enumerate(jobs):
        key = content_hash(verilog, *(encode(config, program) for program in job.programs), f"{job.layer} {job.key} {CYCLES} {sorted(ports.items())}", source)
        path = mapping.CACHE / f"trace-{key}.npz"
        if not path.is_file():
            if harness is None:
                progress("building the simulation of the RTL, minutes when it is new")
                harness = Harness(config, verilog, trace=3 + max(name.count(".") for name in ports))
            progress(f"recording {done + 1} of {len(jobs)}: {job.text}")
            activity.record(config, harness, job.programs, job.layer, ARRAY_PATH, ports, CYCLES, job.key, job.masks).save(path)
        traces.append(activity.Trace.load(path))
    return traces


def report(config: Config, library: CellLibrary, clock: float, work: Workload, progress=lambda *_: None, jobs: Jobs = terms, by: str = "budget") -> dict:
    """What ``power.json`` holds. ``jobs``: what is measured, of the layers that were chosen; ``by``: what their keys are."""
    progress("writing Verilog")
    verilog = export(Accelerator(config), TOP)
    bodies = hierarchy.parse(verilog)
    modules = list(hierarchy.instances(bodies, ARRAY))
    mapped = mapping.map_bodies(bodies, modules, library,
                                lambda done, of, name, _: progress(f"mapped {done} of {of} modules: {name}"))
    progress("reading the netlist")
    meter = Meter({name: mapped[name]["netlist"] for name in modules}, ARRAY, library, clock, memories={
        f"{name}_memory": netlist.memory_pins(bodies[name].text, mapped[name]["memory_ports"]) for name in modules if mapped[name]["memories"]})
    traces = record(config, verilog, list(jobs(config, work, chosen(config, work.network))), meter.ports, progress)
    measured = []
    with ThreadPoolExecutor(mapping.PROCESSES) as pool:
        for found in pool.map(meter.measure, traces):
            measured.append(found)
            progress(f"simulated {len(measured)} of {len(traces)}: {found.trace.layer}, {by} {found.trace.key}")
    progress("cross-check with OpenSTA")
    middle = max((m for m in measured if m.trace.w4), default=measured[0], key=lambda m: m.pj_per_cycle)
    return {**summary(measured, clock, by), "cross_check": {"layer": middle.trace.layer, by: middle.trace.key,
                                                     **meter.check(middle.trace, next(unit for unit in CHECKED if unit in middle.units))}, "by": by,
            "config": config.parameters(), "clock_mhz": clock, "library": library.name, "library_sha256": library.digest,
            "voltage": meter.models.voltage, "tools": {"yosys": yosys_version(), "opensta": sta_version(), "amaranth": importlib.metadata.version("amaranth")},
            "network": work.name, "layers": list(dict.fromkeys(t.layer for t in traces)), "images": len({t.layer for t in traces}),
            "gates": len(meter.flat.gates), "flip_flops": len(meter.flat.flops), "instances": "all", "differences": 0,
            "cycles": sum(t.cycles for t in traces), "assumptions": {
                "wire": f"{switching.WIRE} fF per pin driven", "slew": f"{switching.SLEW} ps at ports and clock, elsewhere as the cells make it",
                "clock": f"no gating; every flip-flop's pin, wire and inside, and a tree of buffers of {switching.CLOCK_FANOUT} pins",
                "glitches": "inertial delays by instance, input, direction, load and slew; ports change once, as registers before them would",
                "outputs": "what an output of the array drives is not in it; memories, also those in it, channel unit, output stage and control neither"}}


def summary(measured: list[Measured], clock: float, by: str = "budget") -> dict:
    """Means over layers by key; ``pj_per_cycle`` over both weight modes as well."""
    def mean(values):
        return float(np.mean(list(values)))

    def table(some):
        return {unit: mean(m.units[unit].sum() / 1e3 for m in some) for unit in some[0].units}

    found, modes = sorted({m.trace.key for m in measured}), [mode for mode in ("w4", "w8") if any(m.trace.w4 == (mode == "w4") for m in measured)]
    at = {budget: [m for m in measured if m.trace.key == budget] for budget in found}
    rows = [{"layer": m.trace.layer, by: m.trace.key, "weights": "w4" if m.trace.w4 else "w8", "cycles": m.trace.cycles, "macs": m.trace.macs,
             "sensitive": m.trace.sensitive, "pj_per_cycle": m.pj_per_cycle, "pj_per_mac": m.pj_per_mac,
             "without_glitches": 1 - sum(m.glitches.values()) / 1e3 / m.pj_per_cycle,
             "toggles_per_cycle": m.toggles, "settles_ns": m.slowest / 1e3,
             "parts": {part: sum(float(u[n]) for u in m.units.values()) / 1e3 for n, part in enumerate(PARTS)}} for m in measured]
    spread = {unit: {"instances": measured[0].spread[unit][2], "least_pj": min(m.spread[unit][0] for m in measured) / 1e3,
                     "most_pj": max(m.spread[unit][1] for m in measured) / 1e3} for unit in measured[0].units}
    per_mac = {mode: {str(b): mean(m.pj_per_mac for m in at[b] if m.trace.w4 == (mode == "w4")) for b in found} for mode in modes}
    pj = {str(b): table(at[b]) for b in found}
    layers = {mode: {str(b): [m.pj_per_cycle for m in at[b] if m.trace.w4 == (mode == "w4")] for b in found} for mode in modes}
    layers = {mode: {b: max(values) / min(values) - 1 for b, values in at_budget.items()} for mode, at_budget in layers.items()}
    return {"pj_per_cycle": pj, "mw": {b: {unit: value * clock / 1e3 for unit, value in units.items()} for b, units in pj.items()}, "pj_per_mac": per_mac,
            "pj_per_cycle_without_glitches": {str(b): {unit: mean((m.units[unit].sum() - m.glitches[unit]) / 1e3 for m in at[b]) for unit in pj[str(b)]} for b in found},
            "spread": spread, "spread_over_layers": layers, "measurements": rows, "settles_ns": max(m.slowest for m in measured) / 1e3}


def show(found: dict, console: Console) -> None:
    clock, columns = found["clock_mhz"], list(found["pj_per_cycle"])
    table = Table(title=f"Power of the array, {found['config']['name']}: {found['library']}, {found['voltage']} V, {clock:g} MHz; {found['network']}, "
                  f"{', '.join(found['layers'])}; mW (pJ per cycle) by {found['by']}", title_justify="left")
    table.add_column("unit")
    for budget in columns:
        table.add_column(f"{budget}", justify="right")
    units = sorted(found["pj_per_cycle"][columns[0]], key=lambda unit: -found["pj_per_cycle"][columns[0]][unit])

    def add(name, values, **style):
        table.add_row(name, *(f"{v * clock / 1e3:,.2f} ({v:,.1f})" for v in values), **style)

    for unit in units:
        add(unit, [found["pj_per_cycle"][b][unit] for b in columns])
    table.add_section()
    add("total", [sum(found["pj_per_cycle"][b].values()) for b in columns], style="bold")
    add("without glitches", [sum(found["pj_per_cycle_without_glitches"][b].values()) for b in columns])
    table.add_section()
    for mode in found["pj_per_mac"]:
        table.add_row(f"pJ per MAC, {mode}", *(f"{found['pj_per_mac'][mode][b]:.3f}" for b in columns))
    table.add_row("most above least layer", *(f"{max(at[b] for at in found['spread_over_layers'].values()):.1%}" for b in columns))
    console.print(table)
    check = found["cross_check"]
    console.print(f"{found['cycles']:,} cycles of all {found['gates']:,} gates and {found['flip_flops']:,} flip-flops: {found['differences']} bits of outputs differ "
                  f"from the RTL's; at rest {found['settles_ns']:.1f} ns after the edge at the latest", highlight=False)
    console.print(f"OpenSTA on the {check['gates']:,} gates of {check['part']}: {sum(check['opensta_mw'].values()):.3f} mW, "
                  f"ours {sum(check['ours_mw'].values()):.3f} mW ({check['difference_of_total']:+.1%})", highlight=False)
    if found["settles_ns"] > 1e3 / clock:
        console.print(f"note: that is longer than a cycle of {clock:g} MHz; energies per cycle hold, the clock does not")


def main(args: argparse.Namespace) -> int:
    """The command; raises ``UserError``."""
    console = output.console(140)
    config = args.config if isinstance(args.config, Config) else load(args.config)
    if not config.array_kind.terms:
        raise PowerError(f"configuration {config.name!r}: its {config.array} array has no budgets to measure; 'python -m compare.power' measures the rivals' arrays")
    if not args.liberty:
        raise PowerError("--liberty is missing: energies come from a cell library")
    library = read_liberty(args.liberty)
    cell_model.read(library)
    find_yosys()
    sta_version()
    folder = output.made(Path(args.out or "build") / config.name)
    with console.status(config.name) as status:
        def progress(text):
            if console.is_terminal:
                status.update(f"{config.name}: {text}")
            else:
                print(text, flush=True)

        work = workload(args)
        found = report(config, library, args.clock or CLOCK, work, progress)
    # `sdp energy` takes power.json: what another network gave does not replace it.
    path = output.save(folder / (f"power-{work.name}.json" if args.model else "power.json"), found)
    show(found, console)
    print(path)
    return 0
