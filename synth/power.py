"""Power per unit: the mapped netlist of the array, simulated with the delays of its cells on what its ports did while the RTL ran layers of a real
network; every output compared with the RTL's in every cycle; events times energies from the Liberty file."""

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from compiler import quantize, schedule
from compiler.network import Network
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import Config, load
from sdp.encoding import decode, encode
from sdp.program import Command, Layer
from sim import data, flow
from sim.build_cache import content_hash
from sim.harness import Harness
from synth import output
from synth.area import TOP, UNITS, unit_name
from synth.cells import hierarchy, mapping
from synth.cells.cell_library import CellLibrary, read_liberty
from synth.cells.yosys import find_yosys, yosys_version
from synth.gate_level import activity, cell_model, gate_sim, netlist, power_check, switching
from synth.gate_level.switching import PARTS
from synth.sta.opensta import sta_version

ARRAY, ARRAY_PATH = f"{TOP}_convolution", "core.convolution"
"""The unit that is measured: elements, selectors, operands, their sequencing; and its place in the machine."""
CLOCK = 100.0
"""MHz; energy per cycle follows it through leakage alone"""
CYCLES = 256
"""Counted per layer, budget and weight mode, at least, if the layer has as many; rounded up to whole tiles."""
LAYERS = 3
"""Of the network, from the first suitable one to the last."""
CHECKED = "pe"
"""The unit that OpenSTA looks at, too."""


class PowerError(UserError):
    """A measurement that cannot be made or that contradicts itself."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One trace. ``units``: fJ per cycle by unit and part; ``glitches``: of it; ``spread``: least and most of a unit's instances, fJ per cycle, and their
    number; ``slowest``: ps until all was at rest; ``toggles``: of all nets, per cycle."""

    trace: activity.Trace
    units: dict[str, np.ndarray]
    glitches: dict[str, float]
    spread: dict[str, tuple[float, float, int]]
    slowest: int
    toggles: float

    @property
    def pj_per_cycle(self) -> float:
        return sum(float(parts.sum()) for parts in self.units.values()) / 1e3

    @property
    def pj_per_mac(self) -> float:
        return self.pj_per_cycle * self.trace.cycles / self.trace.macs


class Meter:
    """A mapped unit, ready to be measured: ``netlists`` are mapped Verilog of ``top`` and all that it instantiates, by module."""

    def __init__(self, netlists: dict[str, str], top: str, library: CellLibrary, clock: float, wire: float = switching.WIRE, name=unit_name):
        self.library, self.period, self.name = library, 1e6 / clock, name
        self.models = cell_model.read(library)
        self.flat = netlist.flatten(netlist.read(netlists), top, self.models)
        self.state = switching.electrical(self.flat, self.models, wire)
        sources = [Path(module.__file__).read_bytes() for module in (cell_model, gate_sim, netlist, switching)]
        self.key = content_hash(*(text for item in sorted(netlists.items()) for text in item), top, library.digest, f"{clock} {wire}", *sources,
                                Path(gate_sim.__file__).with_suffix(".cpp").read_bytes())

    @property
    def ports(self) -> dict[str, int]:
        return {name: len(nets) for name, nets in {**self.flat.inputs, **self.flat.outputs}.items()}

    def measure(self, trace: activity.Trace) -> Measured:
        """Kept by the hash of all that it follows from. Raises ``PowerError`` if the netlist's outputs are not the recorded ones."""
        ports = [part for name, bits in sorted(trace.ports.items()) for part in (name, np.packbits(bits, axis=1).tobytes())]
        path = mapping.CACHE / f"power-{content_hash(self.key, str(trace.warm), *ports)}.json"
        if not path.is_file():
            found = self._measure(trace)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({**found, "units": {unit: parts.tolist() for unit, parts in found["units"].items()}}))
            os.replace(temporary, path)
        found = json.loads(path.read_text())
        return Measured(trace, **{**found, "units": {unit: np.array(parts) for unit, parts in found["units"].items()}})

    def _measure(self, trace):
        flat, counts = self.flat, self._count(trace)
        if counts.wrong:
            cycle, bit = counts.first_wrong
            raise PowerError(f"layer {trace.layer}: {counts.wrong} bits of the netlist's outputs differ from the RTL's, the first in cycle {cycle}, output bit {bit}")
        found, glitches = switching.energies(flat, self.models, self.state, counts, self.period)
        units, shares, spread = {}, {}, {}
        for (module, _), parts, glitch in zip(flat.owners, found, glitches):
            unit = self.name(module)
            units[unit] = units.get(unit, np.zeros(len(PARTS))) + parts
            shares[unit] = shares.get(unit, 0.0) + float(glitch)
            low, high, number = spread.get(unit, (np.inf, 0.0, 0))
            spread[unit] = min(low, float(parts.sum())), max(high, float(parts.sum())), number + 1
        units = {unit: parts for unit, parts in units.items() if parts.any()}
        return {"units": units, "glitches": shares, "spread": spread, "slowest": counts.slowest, "toggles": int(counts.toggles.sum()) / counts.cycles}

    def _count(self, trace):
        return gate_sim.simulate(self.flat, self.state.delays, trace.ports, trace.ports, warm=trace.warm, half=self.period / 2)

    def check(self, trace: activity.Trace, unit: str) -> dict:
        """The instance in the middle of all those of ``unit``, with what is below it, by OpenSTA."""
        paths = [path for module, path in self.flat.owners if self.name(module) == unit]
        return power_check.compare(self.flat, self.models, self.state, self._count(trace), self.library, paths[len(paths) // 2], self.period)


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with images: what runs while power is measured."""

    name: str
    network: Network
    calibration: np.ndarray
    images: np.ndarray


def workload(args: argparse.Namespace) -> Workload:
    """The network that was asked for, otherwise the digits of the demonstration."""
    if args.model is None:
        from examples.digits import data as digits
        from examples.digits.demo import MODEL

        split = digits.load()
        return Workload("digits", flow.read(MODEL), split["calibration"].images, split["test"].images)
    if not (args.test and args.calibration):
        raise PowerError("--model needs --test and --calibration, npz files as for 'sdp run'")
    network, preprocess = flow.read(args.model), data.preprocessing(args.preprocess)
    images = [data.load(path, network.input_shape, preprocess, limit=limit, what=what, labels_optional=True).images
              for path, limit, what in ((args.calibration, None, "calibration data"), (args.test, LAYERS, "test data"))]
    stem = args.model.stem if args.model.stem != "model" else args.model.resolve().parent.name
    return Workload(stem, network, *images)


@dataclass(frozen=True, eq=False)
class Job:
    """A layer, by its tag, in the programs of an image, setup among them."""

    layer: str
    programs: list[list[Command]]

    @property
    def text(self) -> str:
        layer = next(c for program in self.programs for c in program if isinstance(c, Layer) and c.tag == self.layer)
        return f"{self.layer}, budget {layer.budget}, w{4 if layer.w4 else 8}"


Jobs = Callable[[Config, Workload, list[str]], Iterator[Job]]


def chosen(config: Config, network: Network) -> list[str]:
    """``LAYERS`` of those that keep the array busy, from the first to the last."""
    layers = activity.suitable(network, config)
    return [layers[round(n)] for n in np.linspace(0, len(layers) - 1, min(LAYERS, len(layers)))]


def budgets(config: Config) -> list[int]:
    """Powers of two and all terms."""
    most = 2 * config.group
    return sorted({1 << n for n in range(most.bit_length()) if 1 << n <= most} | {most})


def programs(compiled: schedule.Compiled, image: np.ndarray) -> list[list[Command]]:
    """Setup and the programs of one image (h, w, c); commands of layers have the layers' names as tags."""
    found = [decode(compiled.config, program) for program in flow.programs(compiled, compiled.network.encode(image))]
    names = iter(flow.layer_names(compiled))
    return [[replace(command, tag=next(names)) if isinstance(command, Layer) else command for command in program] for program in found]


def terms(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """Each layer on an image of its own, at every budget, in both weight modes; all other layers exact, so that its input is the same at every budget."""
    calibration = quantize.calibrate(work.network, work.calibration)
    for n, layer in enumerate(layers):
        for mode in ((budget, w4) for budget in budgets(config) for w4 in (True, False)):
            yield Job(layer, programs(schedule.compile(quantize.quantize(calibration, config, {layer: mode}), config), work.images[n]))


def record(config: Config, verilog: str, jobs: list[Job], ports: dict[str, int], progress) -> list[activity.Trace]:
    """What the array's ports do in each; kept by the hash of all that it follows from."""
    harness, traces, source = None, [], Path(activity.__file__).read_bytes()
    for done, job in enumerate(jobs):
        key = content_hash(verilog, *(encode(config, program) for program in job.programs), f"{job.layer} {CYCLES} {sorted(ports.items())}", source)
        path = mapping.CACHE / f"trace-{key}.npz"
        if not path.is_file():
            if harness is None:
                progress("building the simulation of the RTL, minutes when it is new")
                harness = Harness(config, verilog, trace=3)
            progress(f"recording {done + 1} of {len(jobs)}: {job.text}")
            activity.record(config, harness, job.programs, job.layer, ARRAY_PATH, ports, CYCLES).save(path)
        traces.append(activity.Trace.load(path))
    return traces


def report(config: Config, library: CellLibrary, clock: float, work: Workload, progress=lambda *_: None, jobs: Jobs = terms) -> dict:
    """What ``power.json`` holds. ``jobs``: what is measured, of the layers that were chosen."""
    progress("writing Verilog")
    verilog = export(Accelerator(config), TOP)
    bodies = hierarchy.parse(verilog)
    modules = list(hierarchy.instances(bodies, ARRAY))
    mapped = mapping.map_bodies(bodies, modules, library,
                                lambda done, of, name, _: progress(f"mapped {done} of {of} modules: {name}"))
    progress("reading the netlist")
    meter = Meter({name: mapped[name]["netlist"] for name in modules}, ARRAY, library, clock)
    traces = record(config, verilog, list(jobs(config, work, chosen(config, work.network))), meter.ports, progress)
    measured = []
    with ThreadPoolExecutor(mapping.PROCESSES) as pool:
        for found in pool.map(meter.measure, traces):
            measured.append(found)
            progress(f"simulated {len(measured)} of {len(traces)}: {found.trace.layer}, budget {found.trace.budget}")
    progress("cross-check with OpenSTA")
    middle = max((m for m in measured if m.trace.w4), default=measured[0], key=lambda m: m.pj_per_cycle)
    return {**summary(measured, clock), "cross_check": {"layer": middle.trace.layer, "budget": middle.trace.budget, **meter.check(middle.trace, UNITS[CHECKED])},
            "config": config.parameters(), "clock_mhz": clock, "library": library.name, "library_sha256": library.digest,
            "voltage": meter.models.voltage, "tools": {"yosys": yosys_version(), "opensta": sta_version(), "amaranth": importlib.metadata.version("amaranth")},
            "network": work.name, "layers": list(dict.fromkeys(t.layer for t in traces)), "images": len({t.layer for t in traces}),
            "gates": len(meter.flat.gates), "flip_flops": len(meter.flat.flops), "instances": "all", "differences": 0,
            "cycles": sum(t.cycles for t in traces), "assumptions": {
                "wire": f"{switching.WIRE} fF per pin driven", "slew": f"{switching.SLEW} ps at ports and clock, elsewhere as the cells make it",
                "clock": f"no gating; every flip-flop's pin, wire and inside, and a tree of buffers of {switching.CLOCK_FANOUT} pins",
                "glitches": "inertial delays by instance, input, direction, load and slew; ports change once, as registers before them would",
                "outputs": "what an output of the array drives is not in it; memories, channel unit, output stage and control neither"}}


def summary(measured: list[Measured], clock: float) -> dict:
    """Means over layers; ``pj_per_cycle`` over both weight modes as well."""
    def mean(values):
        return float(np.mean(list(values)))

    def table(some):
        return {unit: mean(m.units[unit].sum() / 1e3 for m in some) for unit in some[0].units}

    found, modes = sorted({m.trace.budget for m in measured}), [mode for mode in ("w4", "w8") if any(m.trace.w4 == (mode == "w4") for m in measured)]
    at = {budget: [m for m in measured if m.trace.budget == budget] for budget in found}
    rows = [{"layer": m.trace.layer, "budget": m.trace.budget, "weights": "w4" if m.trace.w4 else "w8", "cycles": m.trace.cycles, "macs": m.trace.macs,
             "pj_per_cycle": m.pj_per_cycle, "pj_per_mac": m.pj_per_mac, "without_glitches": 1 - sum(m.glitches.values()) / 1e3 / m.pj_per_cycle,
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
                  f"{', '.join(found['layers'])}; mW (pJ per cycle) by budget", title_justify="left")
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

        found = report(config, library, args.clock or CLOCK, workload(args), progress)
    path = output.save(folder / "power.json", found)
    show(found, console)
    print(path)
    return 0
