"""Area per unit: every distinct module mapped once, its area times its instances, memories as bits."""

import argparse
import importlib.metadata
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hw.accelerator import Accelerator
from hw.dense_array import DenseArray
from hw.verilog import export
from sdp.config import Config, load
from synth import output
from synth.cells import hierarchy, mapping
from synth.cells.cell_library import CellLibrary, generic_gates, read_liberty
from synth.cells.yosys import find_yosys, yosys_version

TOP, DENSE = "accelerator", "dense"
UNITS = {
    "selector": "term selectors",
    "pe": "processing elements",
    "multiplier": "nibble multipliers",
    "operands": "operand staging",
    "array": "array wiring",
    "convolution": "array sequencing",
    "activations": "activation crossbar",
    "weights": "weight memory access",
    "scales": "scale memory access",
    "channel_lane": "channel lanes",
    "channel": "channel unit",
    "output_lane": "output lanes",
    "output_stage": "output stage",
    "controller": "controller",
    "drain": "drain",
    "decoder": "command decoder",
    "stored": "store queue",
    "registers": "registers and counters",
    "core": "layer header",
    "": "top",
}
"""What a reader calls the instances of the hierarchy; an instance that is not here goes by its own name."""


@dataclass(frozen=True)
class Unit:
    """All modules of one name in the machine, without what they instantiate."""

    name: str
    instances: int
    cells: int
    flip_flops: int
    combinational: float
    sequential: float
    in_array: bool

    @property
    def area(self) -> float:
        return self.combinational + self.sequential


@dataclass(frozen=True)
class Report:
    """Areas in the unit of ``library``. ``dense``: that of ``hw.dense_array`` with as many rows, columns and lanes."""

    config: Config
    library: CellLibrary
    units: list[Unit]
    memories: list[dict]
    dense: float

    @property
    def total(self) -> float:
        return sum(unit.area for unit in self.units)

    @property
    def array(self) -> float:
        """Area of all that the number of nibble multipliers scales: elements, selectors, operand registers, their sequencing."""
        return sum(unit.area for unit in self.units if unit.in_array)

    @property
    def per_multiplier(self) -> float:
        return self.array / self.config.nibble_multipliers

    @property
    def dense_per_multiplier(self) -> float:
        return self.dense / self.config.nibble_multipliers

    @property
    def selector_share(self) -> float:
        """The part of the array that choosing terms takes."""
        return sum(unit.area for unit in self.units if unit.name == UNITS["selector"]) / self.array

    def as_json(self) -> dict:
        return {
            "config": self.config.parameters(),
            "library": self.library.name, "library_sha256": self.library.digest, "unit": self.library.unit,
            "yosys": yosys_version(), "amaranth": importlib.metadata.version("amaranth"), "abc": mapping.abc(self.library),
            "units": [{**asdict(unit), "area": unit.area, "share": unit.area / self.total} for unit in self.units],
            "total": self.total,
            "memories": self.memories,
            "memory_bits": sum(memory["instances"] * memory["words"] * memory["bits"] for memory in self.memories),
            "array": self.array,
            "nibble_multipliers": self.config.nibble_multipliers,
            "array_per_nibble_multiplier": self.per_multiplier,
            "dense_int4_per_multiplier": self.dense_per_multiplier,
            "ratio_to_dense_int4": self.per_multiplier / self.dense_per_multiplier,
            "selector_share_of_array": self.selector_share,
        }


def unit_name(module: str) -> str:
    """``accelerator_pe_3``, a third variant of the element, belongs to the processing elements."""
    stem = re.sub(r"_\d+$", "", module.removeprefix(TOP).removeprefix("_"))
    return UNITS.get(stem, stem.replace("_", " "))


def measure(config: Config, library: CellLibrary, verilog: str, progress=lambda *_: None) -> Report:
    """Map and sum up. ``progress`` as in ``mapping.map_bodies``."""
    bodies = hierarchy.parse(verilog)
    counts = hierarchy.instances(bodies, TOP)
    mapped = mapping.map_bodies(bodies, list(counts), library, progress)
    dense_bodies = hierarchy.parse(export(DenseArray(config), DENSE))
    dense = mapping.map_bodies(dense_bodies, list(dense_bodies), library, progress)
    array = hierarchy.instances(bodies, f"{TOP}_convolution") if f"{TOP}_convolution" in bodies else {}
    units, memories = {}, []
    for module, number in counts.items():
        cells = mapped[module]["cells"]
        flops = {cell: count for cell, count in cells.items() if cell in library.sequential}
        sequential = sum(count * library.area[cell] for cell, count in flops.items())
        combinational = sum(count * library.area[cell] for cell, count in cells.items()) - sequential
        name = unit_name(module)
        old = units.get(name, Unit(name, 0, 0, 0, 0.0, 0.0, module in array))
        units[name] = Unit(
            name, old.instances + number, old.cells + number * sum(cells.values()), old.flip_flops + number * sum(flops.values()),
            old.combinational + number * combinational, old.sequential + number * sequential, old.in_array)
        memories += [{"unit": name, "instances": number, **memory} for memory in mapped[module]["memories"]]
    present = [unit for unit in units.values() if unit.cells]
    return Report(config, library, sorted(present, key=lambda unit: -unit.area), memories, sum(
        number * count * library.area[cell] for module, number in hierarchy.instances(dense_bodies, DENSE).items()
        for cell, count in dense[module]["cells"].items()))


def show(report: Report, console: Console) -> None:
    """The tables, and the two figures that a design is compared by."""
    unit = report.library.unit
    table = Table(title=f"Area of {report.config.name}: {report.library.name}, {unit}", title_justify="left")
    table.add_column("unit")
    for heading in ("instances", "cells", "flip-flops", "combinational", "sequential", "area", "share"):
        table.add_column(heading, justify="right")

    def add(name, instances, units, **options):
        area = sum(u.area for u in units)
        table.add_row(name, instances, f"{sum(u.cells for u in units):,}", f"{sum(u.flip_flops for u in units):,}",
                      f"{sum(u.combinational for u in units):,.0f}", f"{sum(u.sequential for u in units):,.0f}", f"{area:,.0f}",
                      f"{area / report.total:.1%}", **options)

    for u in report.units:
        add(u.name, f"{u.instances:,}", [u])
    table.add_section()
    add("of which array", "", [u for u in report.units if u.in_array])
    add("total", "", report.units, style="bold")
    console.print(table)

    table = Table(title="Memories, not in the area above", title_justify="left")
    for heading, justify in (("unit", "left"), ("macros", "right"), ("words x bits", "right"), ("ports", "left"), ("bits", "right")):
        table.add_column(heading, justify=justify)
    alike = {}
    for m in report.memories:
        shape = (m["unit"], m["words"], m["bits"], m["ports"])
        alike[shape] = alike.get(shape, 0) + m["instances"]
    for (name, words, bits, ports), number in alike.items():
        table.add_row(name, f"{number}", f"{words:,} x {bits}", ports, f"{number * words * bits:,}")
    table.add_section()
    table.add_row("total", "", "", "", f"{report.as_json()['memory_bits']:,}", style="bold")
    console.print(table)
    console.print(f"array per nibble multiplier (selectors and operand registers included): {report.per_multiplier:,.1f} {unit}; "
                  f"selectors: {report.selector_share:.1%} of the array", highlight=False)
    console.print(f"a dense INT4 array of as many rows, columns and lanes: {report.dense_per_multiplier:,.1f} {unit} per multiplier; the array of "
                  f"terms takes {report.per_multiplier / report.dense_per_multiplier:.2f} times that", highlight=False)


def main(args: argparse.Namespace) -> int:
    """The command: ``args.config`` (a ``Config``, or what ``sdp.config.load`` takes), ``args.liberty`` (path or None), ``args.out`` (folder of the
    builds, default ``build``). Returns the exit code; raises ``UserError``."""
    console = output.console(140)
    config = args.config if isinstance(args.config, Config) else load(args.config)
    library = read_liberty(args.liberty) if args.liberty else generic_gates()
    find_yosys()
    folder = output.made(Path(args.out or "build") / config.name)
    with output.mapping_progress(console, config.name) as progress:
        report = measure(config, library, export(Accelerator(config), TOP), progress)
    path = output.save(folder / "area.json", report.as_json())
    show(report, console)
    print(path)
    return 0
