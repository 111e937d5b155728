"""Critical paths: of every unit and of the machine, beside that of a plain INT8 multiply-accumulate, from the netlists that area counts.

An ideal clock without skew, no wires (cells and buffers may use half of what the library lets them drive, ``synth.drive``), inputs that change with the
clock's edge and outputs that must stand at the next one. Memories are black boxes with the delays of ``synth.macros``. The time of a path
is the shortest clock period that it allows, setup included, in ns; a path belongs to the unit in which it ends.
"""

import argparse
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hw.accelerator import Accelerator
from hw.verilog import export
from sdp.config import Config, load
from synth import output
from synth.area import TOP, unit_name
from synth.cells import hierarchy, macros, mapping
from synth.cells.cell_library import CellLibrary, read_liberty
from synth.cells.yosys import find_yosys, yosys_version
from synth.sta.opensta import PERIOD, Session, TimingError, find_sta, sta_version
from synth.sta.reference import IntegerMac

REFERENCE = "mac"
ASSUMPTIONS = {
    "clock": f"ideal, no skew or jitter; analysed at {PERIOD:g} ns, which moves no path",
    "wires": "none; no cell drives more than half of its max_capacitance",
    "inputs": "change with the clock's edge, delay 0", "outputs": "stand at the clock's edge, delay 0",
    "memories": f"clock to output {', '.join(f'{ns} ns ({words} words)' for words, ns in macros.CLOCK_TO_OUTPUT)}, setup {macros.SETUP} ns: "
                "foundry's SRAM for sg13g2, typical corner (synth/cells/macros.py)",
}


@dataclass(frozen=True)
class Critical:
    """The latest path that ends in ``unit``. ``through``: (unit, cells, ns) in the order in which it passes them; the first has the start's delay."""

    unit: str
    ns: float
    start: str
    through: list[tuple[str, int, float]]
    end: str

    @property
    def words(self) -> str:
        return f"{self.start} > {' > '.join(f'{unit} {ns:.2f}' for unit, _, ns in self.through)} > {self.end}"


def analyse(verilog: str, top: str, library: CellLibrary, progress=lambda *_: None) -> list[Critical]:
    """The critical path of every unit below ``top``, the longest first. ``progress`` as in ``mapping.map_bodies``."""
    bodies = hierarchy.parse(verilog)
    mapped = mapping.map_bodies(bodies, list(hierarchy.instances(bodies, top)), library, progress)
    mapping.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sta.", dir=mapping.CACHE) as scratch:
        folder = Path(scratch)
        (folder / "library.lib").write_text(library.text)
        (folder / "memories.lib").write_text(macros.memories_liberty({
            f"{name}_memory": (max(memory["words"] for memory in result["memories"]), result["memory_ports"])
            for name, result in mapped.items() if result["memories"]}))
        (folder / "netlist.v").write_text("\n".join(result["netlist"] for result in mapped.values()))
        owner = _Owner(top, {name: result["netlist"] for name, result in mapped.items()})
        with Session(folder, top) as sta:
            ends = sta.ends()
            if not ends:
                raise TimingError(f"library {library.name} gives no path a time: it has no delays")
            latest = {}
            for end, ns in ends.items():
                unit = owner.unit(end)
                if unit not in latest or ns > latest[unit][1]:
                    latest[unit] = end, ns
            paths = [_critical(unit, end, ns, sta.path(end), owner) for unit, (end, ns) in latest.items()]
    return sorted(paths, key=lambda path: -path.ns)


class _Owner:
    """Which unit an instance, pin or port belongs to."""

    def __init__(self, top, netlists):
        self.top = top
        self.children = {module: {instance: kind for kind, instance in re.findall(r"^  (\w+) (\w+) \(", text, re.MULTILINE) if kind in netlists}
                         for module, text in netlists.items()}

    def unit(self, name):
        module = self.top
        for part in name.split("/"):
            if part not in self.children[module]:
                break
            module = self.children[module][part]
        return unit_name(module)


def _critical(unit, end, ns, steps, owner):
    through, before = [], 0.0
    for step in steps:
        where = owner.unit(step.pin)
        if not through or through[-1][0] != where:
            through.append([where, set(), 0.0])
        through[-1][1].add(step.pin.rsplit("/", 1)[0])
        through[-1][2] += step.time - before
        before = step.time
    through[-1][2] += ns - before  # setup
    return Critical(unit, ns, _register(steps[0].pin), [(where, len(cells), round(t, 4)) for where, cells, t in through], _register(end))


def _register(pin):
    """``sums_low[3] of pe_0_0`` for ``core/convolution/array/pe_0_0/sums_low_3_reg/D``."""
    parts = pin.split("/")
    if len(parts) == 1:
        return f"port {pin}"
    at = f" of {parts[-3]}" if len(parts) > 2 else ""
    if (held := parts[-2]).endswith("_memory"):
        return f"memory{at}"
    return re.sub(r"_(\d+)$", r"[\1]", re.sub(r"_reg_*$", "", held)) + at


@dataclass(frozen=True)
class Report:
    """Critical paths of a configuration and of the reference."""

    config: Config
    library: CellLibrary
    units: list[Critical]
    reference: Critical

    @property
    def machine(self) -> Critical:
        return self.units[0]

    @property
    def ratio(self) -> float:
        return self.machine.ns / self.reference.ns

    def as_json(self) -> dict:
        return {
            "config": self.config.parameters(), "library": self.library.name, "library_sha256": self.library.digest,
            "sta": sta_version(), "yosys": yosys_version(), "abc": mapping.abc(self.library), "assumptions": ASSUMPTIONS,
            "critical_ns": self.machine.ns, "critical_unit": self.machine.unit, "megahertz": 1000 / self.machine.ns,
            "reference": asdict(self.reference), "ratio": self.ratio,
            "units": [{**asdict(path), "ratio": path.ns / self.reference.ns, "words": path.words} for path in self.units],
        }


def measure(config: Config, library: CellLibrary, progress=lambda *_: None) -> Report:
    """The machine and the reference, mapped and timed alike."""
    reference = analyse(export(IntegerMac(), REFERENCE), REFERENCE, library, progress)[0]
    return Report(config, library, analyse(export(Accelerator(config), TOP), TOP, library, progress), reference)


def show(report: Report, console: Console) -> None:
    table = Table(title=f"Critical paths of {report.config.name}, {report.library.name}: ns, setup included, no wires", title_justify="left")
    table.add_column("path ends in")
    table.add_column("ns", justify="right")
    table.add_column("INT8 MAC = 1", justify="right")
    table.add_column("from > units it passes, ns in each > to", overflow="fold")
    for path in report.units:
        table.add_row(path.unit, f"{path.ns:.2f}", f"{path.ns / report.reference.ns:.2f}", path.words)
    table.add_section()
    table.add_row("INT8 multiply-accumulate", f"{report.reference.ns:.2f}", "1.00", report.reference.words)
    console.print(table)
    console.print(f"machine: {report.machine.ns:.2f} ns, {1000 / report.machine.ns:.0f} MHz, {report.ratio:.2f} times an INT8 multiply-accumulate; "
                  "ideal clock, memories as the foundry's SRAM (synth/cells/macros.py)", highlight=False)


def main(args: argparse.Namespace) -> int:
    """The command: ``args.config``, ``args.liberty``, ``args.out`` as for ``synth.area``. Returns the exit code; raises ``UserError``."""
    console = output.console(160)
    config = args.config if isinstance(args.config, Config) else load(args.config)
    if not args.liberty:
        raise TimingError("delays come from a cell library: name one with --liberty FILE.lib (make timing LIBERTY=FILE.lib)")
    library = read_liberty(args.liberty)
    find_sta(), find_yosys()
    folder = output.made(Path(args.out or "build") / config.name)
    with output.mapping_progress(console, config.name) as progress:
        report = measure(config, library, progress)
    path = output.save(folder / "timing.json", report.as_json())
    show(report, console)
    print(path)
    return 0
