"""What a configuration takes of a Lattice ECP5, and its highest clock: synthesis by Yosys, place and route by nextpnr.

Without a board: the accelerator's hundreds of ports end in registers on the chip (``synth.harness``), whose cost is a row of its own. The clock
is nextpnr's, for the slowest speed grade, after routing; one seed is one sample.
"""

import argparse
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hw.accelerator import Accelerator
from hw.verilog import export
from hw.verilog_ports import flat_ports
from sdp import UserError
from sdp.config import Config, load
from synth import output
from synth.area import unit_name
from synth.cells.yosys import find_yosys, yosys_version
from synth.ecp5 import synthesis
from synth.ecp5.harness import harness
from synth.ecp5.nextpnr import find_nextpnr, nextpnr_version, route_patiently, run_nextpnr
from synth.ecp5.platform import Ecp5
from synth.ecp5.spacers import add_spacers

MODULE, TOP = "accelerator", "harness"
DEVICES = {"25k": "LFE5U-25F", "45k": "LFE5U-45F", "85k": "LFE5U-85F"}
"""nextpnr's name of a device and Lattice's, the smallest first."""
UNCHECKED = tuple(f"{MODULE}_{unit}" for unit in ("activations", "weights", "scales", "registers"))
"""A load never writes the words that the running layer reads (``sync``, docs/architecture.md), and a layer's log is read when the layer counter
says that it is there. A part of an activation word that is written is not needed by a read of that cycle, which tests/test_ecp5_platform.py
tries."""
PACKAGE = "CABGA381"
"""One that all three come in; of its pins the harness uses five."""
CLOCK_PIN = "P3"
"""A pin beside the clock network, in all DEVICES: from any other the clock enters through the fabric, which fails where that is full."""
SPEED = 6
"""Speed grade: the slowest of 6, 7, 8."""
ROOM = 0.9
"""Part of a device's LUTs that may be used where the device is ours to choose; beyond it routing gets slow or fails."""
RESOURCES = {"TRELLIS_COMB": "LUTs", "TRELLIS_FF": "flip-flops", "MULT18X18D": "DSPs (MULT18X18D)", "DP16KD": "block RAMs (DP16KD)"}
"""What nextpnr counts, and what a reader calls it."""


class FpgaError(UserError, RuntimeError):
    """An unknown device, or a design that does not fit; the message is one sentence."""


@dataclass
class Steps:
    """Shows which step runs and for how long, and keeps the seconds of each."""

    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str):
        begin = time.monotonic()
        if not self.console.is_terminal:
            print(f"{name} ...", flush=True)
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=self.console, transient=True,
                      disable=not self.console.is_terminal) as progress:
            progress.add_task(name, total=None)
            yield
        self.seconds[name] = round(time.monotonic() - begin, 1)
        print(f"{name}: {self.seconds[name]:.0f} s", flush=True)


@dataclass(frozen=True)
class Report:
    """``utilization``: used and available by nextpnr's names, the harness included, ``spacers`` (``synth.ecp5.spacers``) not. ``fmax`` in MHz.
    ``path``: the slowest one, see ``slowest``."""

    name: str
    device: str
    seed: int
    frequency: float
    mapped: synthesis.Synthesis
    utilization: dict[str, dict[str, int]]
    spacers: int
    fmax: float
    path: dict
    seconds: dict[str, float]

    @property
    def units(self) -> list[dict]:
        """What the modules of one name take in all, without what they instantiate; the largest first."""
        units = {}
        for module, cells in self.mapped.cells.items():
            name = "ports (harness)" if module == TOP else unit_name(module)
            unit = units.setdefault(name, dict.fromkeys(("instances", "luts", "flip_flops", "dsps", "block_rams"), 0))
            instances = self.mapped.instances[module]
            unit["instances"] += instances
            unit["luts"] += instances * sum(number * cells[kind] for kind, number in synthesis.LUTS.items())
            for key, kind in (("flip_flops", "TRELLIS_FF"), ("dsps", "MULT18X18D"), ("block_rams", synthesis.RAM)):
                unit[key] += instances * cells[kind]
        return sorted(({"name": name, **unit} for name, unit in units.items() if any(list(unit.values())[1:])), key=lambda unit: -unit["luts"])

    def as_json(self) -> dict:
        return {
            "config": self.name,
            "part": DEVICES[self.device], "package": PACKAGE, "speed_grade": SPEED, "seed": self.seed,
            "yosys": yosys_version(), "nextpnr": nextpnr_version(),
            "resources": {RESOURCES[kind]: self.utilization[kind] for kind in RESOURCES}, "spacers": self.spacers,
            "fmax_mhz": self.fmax, "target_mhz": self.frequency, "slowest_path": self.path,
            "units": self.units, "memories": [asdict(memory) for memory in self.mapped.memories],
            "seconds": self.seconds,
        }


def measure(name: str, verilog: str, ports: dict[str, tuple[int, str]], folder: Path, *, device: str | None = None, seed: int = 1,
            frequency: float = 50, unchecked: tuple[str, ...] = (), steps: Steps) -> Report:
    """The module ``accelerator`` of ``verilog``, which has ``ports``, through the whole flow; files are left in ``folder``.

    Raises
    ------
    FpgaError, synthesis.MappingError, YosysError, NextpnrError
        One sentence each.
    """
    with steps("synthesis"):
        mapped = synthesis.synthesize(verilog + harness(MODULE, ports, TOP), TOP, folder, unchecked)
    with steps("packing"):
        device, packed = _fitting(name, folder, device)
        spacers = add_spacers(folder / "netlist.json", TOP, device, packed["TRELLIS_COMB"]["used"])
    options = "--seed", f"{seed}", "--freq", f"{frequency}", "--timing-allow-fail", "--router", "router2"
    with steps(f"placement on {DEVICES[device]}"):
        _nextpnr(folder, device, "netlist.json", *options, "--no-route", "--write", "placed.json", "--log", "placement.log")
        if spacers:
            route_patiently(folder / "placed.json")
    with steps("routing"):
        result = _nextpnr(folder, device, "placed.json", *options, "--no-pack", "--no-place", "--log", "routing.log")
    (clock,) = result["fmax"].values()
    result["utilization"]["TRELLIS_COMB"]["used"] -= spacers
    return Report(name, device, seed, frequency, mapped, result["utilization"], spacers, clock["achieved"], slowest(result), dict(steps.seconds))


def slowest(report: dict) -> dict:
    """Of nextpnr's report: where the slowest path from flip-flop to flip-flop begins and ends, and its nanoseconds in cells and in wires."""
    path = next(p["path"] for p in report["critical_paths"] if all(p[end].startswith("posedge") for end in ("from", "to")))
    wires = sum(part["delay"] for part in path if part["type"] == "routing")
    return {"from": path[0]["from"]["cell"], "to": path[-1]["to"]["cell"], "cells_ns": round(sum(part["delay"] for part in path) - wires, 2),
            "wires_ns": round(wires, 2), "levels": sum(part["type"] == "logic" for part in path)}


def _fitting(name, folder, device):
    """The device asked for, or the smallest with room, or the largest; and what the design takes of it."""
    for candidate in [device] if device else DEVICES:
        packed = _nextpnr(folder, candidate, "netlist.json", "--pack-only")["utilization"]
        luts = packed["TRELLIS_COMB"]
        if luts["used"] <= ROOM * luts["available"] and not _lacking(packed):
            return candidate, packed
    if lacking := _lacking(packed):
        raise FpgaError(f"{name} does not fit into {DEVICES[candidate]}: {', '.join(lacking)}")
    return candidate, packed


def _lacking(utilization):
    return [f"{n['used']:,} {text} needed and {n['available']:,} there" for kind, text in RESOURCES.items() if (n := utilization[kind])["used"] > n["available"]]


def _nextpnr(folder, device, design, *arguments):
    (folder / "pins.lpf").write_text(f'LOCATE COMP "clk" SITE "{CLOCK_PIN}";\n')
    run_nextpnr(folder, f"--{device}", "--package", PACKAGE, "--speed", f"{SPEED}", "--json", design, "--lpf", "pins.lpf",
                "--lpf-allow-unconstrained", "--report", "report.json", *arguments)
    return json.loads((folder / "report.json").read_text())


def show(report: Report, console: Console) -> None:
    """What the device holds, where it goes, how fast it is."""
    part = DEVICES[report.device]
    table = Table(title=f"{report.name} on {part}", title_justify="left")
    for heading, justify in (("unit", "left"), ("instances", "right"), ("LUTs", "right"), ("flip-flops", "right"), ("DSPs", "right"),
                             ("block RAMs", "right")):
        table.add_column(heading, justify=justify)
    for unit in report.units:
        table.add_row(unit["name"], *(f"{unit[key]:,}" for key in ("instances", "luts", "flip_flops", "dsps", "block_rams")))
    table.add_section()
    found = [report.utilization[kind] for kind in RESOURCES]
    table.add_row("placed and routed", "", *(f"{n['used']:,}" for n in found), style="bold")
    table.add_row(f"{part} has", "", *(f"{n['available']:,}" for n in found))
    table.add_row("share", "", *(f"{n['used'] / n['available']:.0%}" for n in found))
    console.print(table)

    table = Table(title="Memories", title_justify="left")
    for heading, justify in (("memory", "left"), ("instances", "right"), ("words x bits", "right"), ("made of", "left")):
        table.add_column(heading, justify=justify)
    for memory in report.mapped.memories:
        made_of = ", ".join(f"{number} {kind}" for kind, number in memory.cells.items()) or "flip-flops"
        table.add_row(f"{unit_name(memory.module)}: {memory.name}", f"{memory.instances}", f"{memory.words:,} x {memory.bits}", made_of)
    console.print(table)
    path = report.path
    console.print(f"fmax {report.fmax:.1f} MHz after place and route (target {report.frequency:g} MHz), {part}-{SPEED}{PACKAGE}, seed {report.seed}, "
                  f"{report.spacers:,} spacers\n"
                  f"slowest path: {path['from']} to {path['to']}, {path['levels']} cells {path['cells_ns']} ns, wires {path['wires_ns']} ns\n"
                  f"{yosys_version()}; {nextpnr_version()}", highlight=False, soft_wrap=True)


def main(args: argparse.Namespace) -> int:
    """The command: ``args.config`` (a ``Config``, or what ``sdp.config.load`` takes), ``args.device`` (of ``DEVICES``, or None for the smallest
    that fits), ``args.seed``, ``args.frequency`` in MHz, ``args.out`` (folder of the builds). Returns the exit code; raises ``UserError``."""
    console = output.console(140)
    config = args.config if isinstance(args.config, Config) else load(args.config)
    if args.device and args.device not in DEVICES:
        raise FpgaError(f"device {args.device!r} is none of {', '.join(DEVICES)}")
    find_yosys(), find_nextpnr()
    folder = output.made(Path(args.out or "build") / config.name)
    work, steps = output.made(folder / "fpga"), Steps(console)
    with steps("Verilog"):
        component = Accelerator(config)
        verilog = export(component, MODULE, platform=Ecp5())
    report = measure(config.name, verilog, flat_ports(component), work, device=args.device, seed=args.seed, frequency=args.frequency,
                     unchecked=UNCHECKED, steps=steps)
    path = output.save(folder / "fpga.json", report.as_json())
    show(report, console)
    for file in (path, work / "netlist.json", work / "placement.log", work / "routing.log"):
        print(file)
    return 0
