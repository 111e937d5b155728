"""Energy per inference: array, memories, DRAM. Bits moved are exact (``golden.traffic``); what each costs, and how sure that is, stands in
``energy_constants.toml`` and nowhere else.

Two bases, which are never mixed: ``published``, all figures as they were published at 45 nm, and ``library``, the node of the cell library
(130 nm): memories as its foundry publishes them, the array as measured on our own netlist (``sdp power``), or, where that was not done, the published
elements scaled by the rule in the constants. DRAM is another chip and the same in both. Leakage of memories is in neither, nor are cycles between layers.
"""

import json
import math
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from golden.cycles import layer_cycles
from golden.traffic import Traffic, moved_bits, program_traffic, shares
from sdp import UserError
from sdp.config import Config
from sdp.program import Command, Kind, Layer

PARTS = ("array", "activations", "weights", "scales", "dram")
BASES = ("published", "library")
CONSTANTS = Path(__file__).with_name("energy_constants.toml")
ARRAY_UNITS = ("term selectors", "processing elements", "nibble multipliers", "operand staging", "array wiring", "array sequencing")
"""Names of ``synth.area.UNITS`` below the convolution unit."""


class EnergyError(UserError):
    """Figures or programs that cannot be used."""


@dataclass(frozen=True)
class Bounded:
    """A figure, and the bounds between which it is believed to lie. Bounds of sums and products are those of bounds: all errors go one way."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Bounded") -> "Bounded":
        return Bounded(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, by: "Bounded | float") -> "Bounded":
        by = by if isinstance(by, Bounded) else Bounded(by, by, by)
        return Bounded(self.value * by.value, self.low * by.low, self.high * by.high)


class Constants:
    """What a bit and a cycle cost, in pJ, on one of the ``BASES``.

    Parameters
    ----------
    power : what ``sdp power`` wrote: ``{"pj_per_cycle": {budget: {unit: pJ}}}``, units named as in ``synth.area``; or None
    """

    def __init__(self, basis: str, power: dict | None = None, path: Path = CONSTANTS):
        self.basis, self.table = basis, tomllib.loads(path.read_text())
        self.scale = Bounded(1, 1, 1) if basis == "published" else self._scale()
        self.measured = _by_budget(power) if power and basis == "library" else {}

    def _bounds(self, *path: str) -> Bounded:
        entry = self.table
        for key in path:
            entry = entry[key]
        return Bounded(entry.get("value", 1.0), entry["low"], entry["high"])

    def _scale(self) -> Bounded:
        rule = self.table["scaling"]

        def energy(node):
            a2, a1, a0 = rule["nodes"][node]["coefficients"]
            volts = rule["nodes"][node]["volts"]
            return a2 * volts**2 + a1 * volts + a0

        return Bounded(energy(rule["to"]) / energy(rule["from"]), rule["low"], rule["high"])

    def sram(self, words: int, access: str) -> Bounded:
        """Per bit, of a memory of so many words; ``access``: "read" or "write"."""
        entry = self.table["sram"][self.basis]
        depths, points = entry["words"], entry[access]
        at = min(max(sum(words > depth for depth in depths), 1), len(depths) - 1)
        slope = math.log(points[at] / points[at - 1]) / math.log(depths[at] / depths[at - 1])
        return self._bounds("sram", self.basis) * (points[at - 1] * (max(words, depths[0]) / depths[at - 1]) ** slope)

    def dram(self) -> Bounded:
        """Per bit, in or out."""
        return self._bounds("dram")

    def element(self, bits: int) -> Bounded:
        """Per cycle, of a multiply-accumulate element of ``bits`` by ``bits`` that works."""
        return self._bounds("pe", str(bits)) * self.scale

    def array(self, config: Config, layer: Layer) -> Bounded:
        """Of the unit that computes ``layer``, over all its cycles.

        Published: nibble multipliers in the cycles in which terms are taken; the channel unit as an 8-bit element per channel and tap.
        Measured: the array's units in all cycles of the layer, its sums between budgets that were measured linear in the budget.
        """
        timing = layer_cycles(config, layer)
        if layer.kind is not Kind.CONV:
            return self.element(8) * (timing.tiles * timing.steps * config.word)
        if self.measured:
            return self._bounds("measured") * (self.per_cycle(layer.budget) * timing.total)
        return self.element(4) * (timing.tiles * timing.steps * layer.budget * config.nibble_multipliers)

    def per_cycle(self, budget: int) -> float:
        """pJ of the measured array at a budget."""
        return _between(self.measured, budget)

    @property
    def array_source(self) -> str:
        if self.measured:
            return f"measured on our netlist at budgets of {', '.join(map(str, sorted(self.measured)))}"
        return "published 4-bit element per nibble multiplier" + (", scaled" if self.basis == "library" else "")


def _by_budget(power: dict) -> dict[int, float]:
    """pJ per cycle of the array by budget, from either nesting, unit in budget or budget in unit."""
    found, table = {}, power["pj_per_cycle"]
    for outer, entries in table.items():
        for inner, value in entries.items():
            unit, budget = (inner, outer) if outer.isdigit() else (outer, inner)
            if unit in ARRAY_UNITS and budget.isdigit():
                found[int(budget)] = found.get(int(budget), 0.0) + value
    if not found:
        raise EnergyError(f"the power report has no budget with a unit of the array, which are {', '.join(ARRAY_UNITS)}")
    return found


def _between(points: dict[int, float], at: int) -> float:
    """Linear between the points, constant beyond them."""
    below, above = max((p for p in points if p <= at), default=min(points)), min((p for p in points if p >= at), default=max(points))
    return points[below] if below >= above else points[below] + (points[above] - points[below]) * (at - below) / (above - below)


def memories(config: Config) -> dict[str, int]:
    """Words of one physical memory of each: a bank of activations, all of weights, all of scales."""
    return {"activations": config.activation_words // 2 // config.ports, "weights": config.weight_words, "scales": config.scale_words}


@dataclass(frozen=True)
class Row:
    """A layer, or a program without one. ``parts``: pJ by :data:`PARTS`."""

    name: str
    kind: str
    cycles: int
    traffic: Traffic
    parts: dict[str, Bounded]

    @property
    def total(self) -> Bounded:
        return sum(self.parts.values(), Bounded())

    def as_json(self) -> dict:
        return {"name": self.name, "kind": self.kind, "cycles": self.cycles, "pj": {name: vars(value) for name, value in self.parts.items()},
                "pj_total": vars(self.total), "traffic": vars(self.traffic)}


def moved(config: Config, constants: Constants, traffic: Traffic) -> dict[str, Bounded]:
    """pJ of what moves."""
    bits = moved_bits(config, traffic)
    found = {name: constants.sram(words, "read") * bits[name][0] + constants.sram(words, "write") * bits[name][1]
             for name, words in memories(config).items()}
    return {**found, "dram": constants.dram() * sum(bits["dram"])}


def energy(config: Config, programs: list[list[Command]], constants: Constants) -> list[Row]:
    """A row per layer of the programs, which are those of one inference, in their order; rows of one name are one layer in parts.

    Loads belong to the layer that follows them, stores to the one before: weights that are not resident cost their way in, image by image.
    """
    rows: dict[str, Row] = {}
    for program in programs:
        layers = [command for command in program if isinstance(command, Layer)]
        parts = zip(layers, shares(config, program)) if layers else [(None, program_traffic(config, program))]
        for layer, traffic in parts:
            name = layer.tag if layer else "loads"
            cycles, array = (layer_cycles(config, layer).total, constants.array(config, layer)) if layer else (0, Bounded())
            new = {"array": array, **moved(config, constants, traffic)}
            old = rows.get(name, Row(name, layer.kind.name.lower() if layer else "", 0, Traffic(), dict.fromkeys(PARTS, Bounded())))
            rows[name] = Row(name, old.kind, old.cycles + cycles, old.traffic + traffic, {part: old.parts[part] + new[part] for part in PARTS})
    return list(rows.values())


def total(rows: list[Row], name: str = "total") -> Row:
    return Row(name, "", sum(row.cycles for row in rows), sum((row.traffic for row in rows), Traffic()),
               {part: sum((row.parts[part] for row in rows), Bounded()) for part in PARTS})


def report(config: Config, setup: list[Command], programs: list[list[Command]], power: dict | None = None) -> dict:
    """Both bases as JSON: per layer and in total, an inference; ``setup``: what is loaded once for all of them."""
    found = {}
    for basis in BASES:
        constants = Constants(basis, power)
        rows = energy(config, programs, constants)
        found[basis] = {"array_source": constants.array_source, "scale": vars(constants.scale), "layers": [row.as_json() for row in rows],
                        "total": total(rows).as_json(), "setup": total(energy(config, [setup], constants), "setup").as_json()}
    return {"config": config.name, "bits": moved_bits(config, sum((program_traffic(config, p) for p in programs), Traffic())), "bases": found}


def show(console: Console, title: str, found: dict, basis: str) -> None:
    entry = found["bases"][basis]
    table = Table(title=f"energy of {title} on {found['config']}, nJ per inference, {basis}", title_justify="left")
    for name in ("layer", "kind", "cycles", *PARTS, "total"):
        table.add_column(name, justify="left" if name in ("layer", "kind") else "right")

    def add(row, scale=1.0, bound="value", **options):
        figures = [row["pj"][part][bound] for part in PARTS] + [row["pj_total"][bound]]
        table.add_row(row["name"], row["kind"], f"{row['cycles']:,}" if row["cycles"] else "", *(f"{x * scale / 1e3:,.1f}" for x in figures), **options)

    for row in entry["layers"]:
        add(row)
    table.add_section()
    add(entry["total"], style="bold")
    for bound in ("low", "high"):
        add(entry["total"] | {"name": bound, "cycles": 0}, bound=bound)
    whole = entry["total"]["pj_total"]["value"] or 1.0
    table.add_row("share", "", "", *(f"{entry['total']['pj'][part]['value'] / whole:.1%}" for part in PARTS), "")
    table.add_section()
    add(entry["setup"] | {"name": "setup, once"})
    console.print(table)


def main(args) -> int:
    """``args.file``: what ``sdp run`` left, a program file, or an ONNX model; ``args.power``, ``args.basis``: optional."""
    from sim import programs

    config, path = args.config, Path(args.file)
    sequence = programs.commands(path, config)
    frame, setup = [], []
    for program in sequence:
        if any(isinstance(command, Layer) for command in program):
            frame.append(program)
        else:
            setup += program
    if not frame:
        raise EnergyError(f"{path} has no layer")
    power_path = args.power or Path("build") / config.name / "power.json"
    if args.power and not args.power.is_file():
        raise EnergyError(f"--power: there is no file {args.power}")
    power = json.loads(power_path.read_text()) if power_path.is_file() else None
    found = report(config, setup, frame, power)
    out = args.out or (path if path.is_dir() else Path("build") / "energy" / path.stem)
    out.mkdir(parents=True, exist_ok=True)
    target = out / "energy.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    console = Console(width=None if sys.stdout.isatty() else 150)
    show(console, path.name, found, args.basis or ("library" if power else "published"))
    for basis, entry in found["bases"].items():
        whole = entry["total"]["pj_total"]
        console.print(f"{basis}: {whole['value'] / 1e6:.2f} uJ per inference ({whole['low'] / 1e6:.2f} ... {whole['high'] / 1e6:.2f}); "
                      f"array: {entry['array_source']}", highlight=False)
    console.print(f"made {target}")
    return 0
