"""What cells do and what that costs, from Liberty: functions, capacitances, delays, energies. Units here: ps, fF, fJ, nW, V."""

import re
from dataclasses import dataclass

import numpy as np

from synth.cells import liberty
from synth.cells.cell_library import CellLibrary, LibraryError

PINS = 6
"""Inputs that a function can have at most: a table of 64 bits."""


class Tables:
    """All lookup tables of a library, looked up at once: energy or time against input slew and load. What lies outside is held at the rim."""

    def __init__(self, templates: dict[str, liberty.Group]):
        self._templates, self._known = templates, {}
        self._entries = [(np.zeros(1), np.zeros(1), np.zeros((1, 1)))]  # number 0: costs nothing

    def add(self, groups: list[liberty.Group | None], scale: float, slew: float, load: float) -> int:
        """Number of the mean of these tables; 0 if there is none. ``slew``, ``load``: units of the library's axes in ps and fF."""
        parts = [self._read(group, scale, slew, load) for group in groups if group is not None]
        if not parts:
            return 0
        alike = [part for part in parts if part[2].shape == parts[0][2].shape]
        entry = (*parts[0][:2], sum(part[2] for part in alike) / len(parts))
        key = tuple(axis.tobytes() for axis in entry)
        if key not in self._known:
            self._known[key] = len(self._entries)
            self._entries.append(entry)
        return self._known[key]

    def _read(self, group, scale, slew, load):
        template = self._templates.get(group.name, liberty.Group("", ""))
        axes = {"slew": np.zeros(1), "load": np.zeros(1)}
        order = []
        for n in (1, 2):
            if variable := template.attributes.get(f"variable_{n}"):
                name = "load" if "capacitance" in variable else "slew"
                axes[name] = np.array(group.numbers(f"index_{n}") or template.numbers(f"index_{n}")) * (load if name == "load" else slew)
                order.append(name)
        values = np.array(group.numbers("values")) * scale
        shape = [len(axes[name]) for name in order] or [1]
        if values.size != np.prod(shape):
            raise ValueError(f"{group.kind} has {values.size} values, its axes ask for {np.prod(shape)}")
        values = values.reshape(shape)
        if order == ["load", "slew"]:
            values = values.T
        return axes["slew"], axes["load"], values.reshape(len(axes["slew"]), len(axes["load"]))

    def freeze(self) -> None:
        """Make ready for lookups: equally large arrays, axes continued with infinity."""
        number, sizes = len(self._entries), [max(2, *(e[2].shape[k] for e in self._entries)) for k in (0, 1)]
        self._axes = [np.full((number, size), np.inf) for size in sizes]
        self._values = np.zeros((number, *sizes))
        for n, (slews, loads, values) in enumerate(self._entries):
            for axis, points in zip(self._axes, (slews, loads)):
                axis[n, : len(points)] = points
            self._values[n] = np.pad(values, [(0, s - v) for s, v in zip(sizes, values.shape)], mode="edge")

    def look_up(self, numbers: np.ndarray, slew: np.ndarray, load: np.ndarray) -> np.ndarray:
        at, share = [], []
        numbers, *values = np.broadcast_arrays(numbers, slew, load)
        for axis, value in zip(self._axes, values):
            points = axis[numbers]
            last = np.isfinite(points).sum(axis=-1) - 1
            low = np.clip((points <= value[..., None]).sum(axis=-1) - 1, 0, np.maximum(last - 1, 0))
            begin, end = (np.take_along_axis(points, n[..., None], -1)[..., 0] for n in (low, np.minimum(low + 1, last)))
            width = end - begin
            at.append(low)
            share.append(np.clip(np.where(width > 0, (value - begin) / np.where(width > 0, width, 1), 0), 0, 1))
        corners = [[self._values[numbers, at[0] + i, at[1] + j] for j in (0, 1)] for i in (0, 1)]
        rows = [corners[i][0] * (1 - share[1]) + corners[i][1] * share[1] for i in (0, 1)]
        return rows[0] * (1 - share[0]) + rows[1] * share[0]


@dataclass(frozen=True, eq=False)
class Gate:
    """One output of a combinational cell; numbers of tables by (input, direction of the output: fall, rise).

    ``hidden``: by (input, its direction), where the output stays as it is. ``capacitance`` of the inputs, ``hidden`` and ``leakage`` belong
    to the cell's first output alone.
    """

    cell: str
    pin: str
    inputs: tuple[str, ...]
    table: int
    delay: np.ndarray
    slew: np.ndarray
    power: np.ndarray
    hidden: np.ndarray
    capacitance: np.ndarray
    leakage: float


@dataclass(frozen=True, eq=False)
class Flop:
    """A flip-flop of one data input, clocked by the rising edge; ``quiet``: other inputs and the value at which they do nothing.

    ``delay``, ``slew``, ``power``: by direction of Q; ``clock``: by (edge: fall, rise; data; Q); ``hidden``: of the data input, by
    (clock is high, direction); ``outputs``: pin and whether it is inverted; ``capacitance``: of data and clock.
    """

    cell: str
    clock_pin: str
    data_pin: str
    quiet: dict[str, int]
    outputs: tuple[tuple[str, bool], ...]
    delay: np.ndarray
    slew: np.ndarray
    power: np.ndarray
    clock: np.ndarray
    hidden: np.ndarray
    capacitance: tuple[float, float]
    leakage: float


@dataclass(frozen=True, eq=False)
class CellModels:
    """``gates``: of each cell one per output."""

    gates: dict[str, list[Gate]]
    flops: dict[str, Flop]
    tables: Tables
    voltage: float


def read(library: CellLibrary) -> CellModels:
    """The models of all cells that can be used; others are left out, and named where a netlist has one.

    Raises
    ------
    LibraryError
        The library has no tables of internal power, so energies cannot be had from it.
    """
    try:
        top = liberty.parse(library.text)
        models = _Reader(top).models
    except (ValueError, IndexError, KeyError) as error:
        raise LibraryError(f"library {library.name}: {error}") from None
    if not any(gate.power.any() for gates in models.gates.values() for gate in gates):
        raise LibraryError(f"library {library.name} has no tables of internal power (internal_power, rise_power), so no energy can be had from it")
    return models


def _unit(text: str, base: dict[str, float]) -> float:
    """``1ns`` in ps, for example."""
    number, unit = re.fullmatch(r"\s*([\d.]+)\s*,?\s*\"?(\w+)\"?\s*", text).groups()
    return float(number) * base[unit.lower()]


class _Reader:
    def __init__(self, top: liberty.Group):
        value = top.attributes
        self.ps = _unit(value.get("time_unit", "1ns"), {"ps": 1, "ns": 1e3})
        self.ff = _unit(value.get("capacitive_load_unit", "1,pf"), {"ff": 1, "pf": 1e3})
        # Energies have no unit of their own in Liberty: square of the voltage's times the capacitance's.
        volt = _unit(value.get("voltage_unit", "1V"), {"v": 1, "mv": 1e-3})
        self.fj = self.ff * volt**2
        nw = _unit(value.get("leakage_power_unit", "1nW"), {"pw": 1e-3, "nw": 1, "uw": 1e3, "mw": 1e6, "fw": 1e-6})
        self.templates = {g.name: g for g in top.groups if g.kind in ("lu_table_template", "power_lut_template")}
        self.models = CellModels({}, {}, Tables(self.templates), float(value["nom_voltage"]) * volt)
        for cell in top.all("cell"):
            pins = {pin.name: pin for pin in cell.all("pin")}
            inputs = tuple(name for name, pin in pins.items() if pin.attributes.get("direction") == "input")
            leaks = [float(state.attributes["value"]) for state in cell.all("leakage_power")]
            leakage = nw * float(cell.attributes.get("cell_leakage_power", np.mean(leaks) if leaks else 0))
            outputs = {name: pin for name, pin in pins.items() if "function" in pin.attributes and "three_state" not in pin.attributes}
            if flop := cell.all("ff"):
                self._flop(cell.name, flop[0], pins, inputs, outputs, leakage)
            elif not cell.all("latch") and not cell.all("statetable") and len(inputs) <= PINS and outputs:
                self.models.gates[cell.name] = [self._gate(cell.name, name, pins, inputs, leakage, n == 0) for n, name in enumerate(outputs)]
        self.models.tables.freeze()

    def _energy(self, groups, kind):
        return self.models.tables.add([next(iter(g.all(kind)), None) for g in groups], self.fj, self.ps, self.ff)

    def _time(self, groups, kind):
        return self.models.tables.add([next(iter(g.all(kind)), None) for g in groups], self.ps, self.ps, self.ff)

    def _arcs(self, pin, related):
        """Numbers of tables (delay, slew, power) by direction of an output: without a condition where there is such, otherwise the mean."""
        def of(kind, wanted=lambda g: True):
            return _general([g for g in pin.all(kind) if related in g.attributes.get("related_pin", "").split() and wanted(g)])

        timing = of("timing", lambda g: g.attributes.get("timing_type", "combinational") in ("combinational", "rising_edge"))
        return ([self._time(timing, f"cell_{d}") for d in ("fall", "rise")], [self._time(timing, f"{d}_transition") for d in ("fall", "rise")],
                [self._energy(of("internal_power"), f"{d}_power") for d in ("fall", "rise")])

    def _capacitance(self, pin):
        return float(pin.attributes.get("capacitance", 0)) * self.ff

    def _gate(self, cell, name, pins, inputs, leakage, first):
        arcs, hidden, capacitance = np.zeros((3, PINS, 2), dtype=np.int64), np.zeros((PINS, 2), dtype=np.int64), np.zeros(PINS)
        for n, related in enumerate(inputs):
            arcs[:, n] = self._arcs(pins[name], related)
            if first:
                groups, capacitance[n] = _general(pins[related].all("internal_power")), self._capacitance(pins[related])
                hidden[n] = [self._energy(groups, f"{d}_power") for d in ("fall", "rise")]
        return Gate(cell, name, inputs, liberty.truth_table(pins[name].attributes["function"], list(inputs)), *arcs, hidden, capacitance, leakage * first)

    def _flop(self, cell, flop, pins, inputs, outputs, leakage):
        clock, data = flop.attributes.get("clocked_on", ""), flop.attributes.get("next_state", "").strip(" ()")
        if clock.strip(" ()") not in inputs or data not in inputs:
            return  # negative edges, scan, enables: nothing is mapped to them
        clock, rest = clock.strip(" ()"), [pin for pin in inputs if pin not in (clock.strip(" ()"), data)]
        active = [flop.attributes[kind] for kind in ("clear", "preset") if kind in flop.attributes]
        quiet = next((values for n in range(1 << len(rest)) if not any(
            liberty.truth_table(f, rest) >> n & 1 for f in active) for values in [{p: n >> k & 1 for k, p in enumerate(rest)}]), {})
        state, inverse = (flop.name.replace('"', "").replace(" ", "").split(",") + [""])[:2]
        made = {name: pin.attributes["function"].strip(" ()") for name, pin in outputs.items()}
        if any(function not in (state, inverse) for function in made.values()):
            return
        values = {data: None, clock: None, **quiet}

        def when(pin, q, **known):
            """Of the groups of a pin's power those whose condition holds, or that have none."""
            known = {**values, **known, **{name: q ^ (function == inverse) for name, function in made.items()}}
            names = list(known)
            groups = [g for g in pins[pin].all("internal_power") if "when" in g.attributes]
            index = sum(known[name] << n for n, name in enumerate(names))
            holds = [g for g in groups if liberty.truth_table(g.attributes["when"], names) >> index & 1]
            return holds or [g for g in pins[pin].all("internal_power") if "when" not in g.attributes]

        both = ("fall_power", "rise_power")
        on_clock = [[[self._energy(when(clock, q, **{clock: edge, data: d}), both[edge]) for q in (0, 1)] for d in (0, 1)] for edge in (0, 1)]
        on_data = [[self._energy(when(data, 1 - d, **{clock: high, data: d}), both[d]) for d in (0, 1)] for high in (0, 1)]
        arcs = np.array([self._arcs(pins[name], clock) for name in made])  # outputs, delay/slew/power, direction
        arcs[[function == inverse for function in made.values()]] = arcs[[function == inverse for function in made.values()], :, ::-1]
        self.models.flops[cell] = Flop(cell, clock, data, quiet, tuple((name, function == inverse) for name, function in made.items()),
                                       *arcs[0], np.array(on_clock), np.array(on_data),
                                       (self._capacitance(pins[data]), self._capacitance(pins[clock])), leakage)


def _general(groups: list[liberty.Group]) -> list[liberty.Group]:
    return [group for group in groups if "when" not in group.attributes] or groups
