"""Drive strengths across module borders. ABC maps each body alone and sees no load behind its ports: here cells grow and buffers come in
until no net loads its driver with more than the library allows, children's inputs included."""

import math
from collections import Counter
from dataclasses import dataclass

from synth.cells import liberty
from synth.cells.cell_library import CellLibrary
from synth.cells.macros import DRIVE, LOAD

FILL = 0.5
"""The part of a cell's ``max_capacitance`` that may be used; the rest is for wires, which are not counted."""
ROUNDS = 4
"""A cell that grows loads what drives it: so often are all nets looked at anew."""


@dataclass(frozen=True)
class Cells:
    """From Liberty. ``load``: (cell, input) to pF; ``limit``: cell to pF that its outputs may drive; ``outputs``: its output pins;
    ``larger``: cell to cells of the same function, by area; ``buffers``: (cell, input, output), by area."""

    load: dict
    limit: dict
    outputs: dict
    larger: dict
    buffers: list

    @classmethod
    def of(cls, library: CellLibrary) -> "Cells":
        load, limit, outputs, alike, buffers = {}, {}, {}, {}, []
        for cell in liberty.parse(library.text).all("cell"):
            pins, functions = {}, []
            for pin in cell.all("pin"):
                pins.setdefault(pin.name, pin.attributes)
            for name, pin in pins.items():
                if pin.get("direction") == "output":
                    outputs.setdefault(cell.name, []).append(name)
                    limit[cell.name] = min(limit.get(cell.name, 1e9), FILL * float(pin.get("max_capacitance", 2e9)))
                    functions.append((name, pin.get("function", "?"), "three_state" in pin))
                else:
                    load[cell.name, name] = float(pin.get("capacitance", 0))
            state = sorted((g.kind, g.name, *g.attributes.items()) for g in cell.groups if g.kind in ("ff", "latch", "statetable"))
            if cell.attributes.get("dont_use") == "true" or cell.name not in library.area:
                continue
            alike.setdefault(repr((sorted(pins), sorted(functions), state)), []).append(cell.name)
            if not state and len(pins) == 2 and len(functions) == 1 and functions[0][1] in pins and not functions[0][2]:
                buffers.append((cell.name, functions[0][1], functions[0][0]))
        larger = {cell: sorted(group, key=library.area.get) for group in alike.values() for cell in group}
        # Of two delay cells and a buffer of equal drive, the cheapest.
        buffers.sort(key=lambda b: (library.area[b[0]], -limit[b[0]]))
        return cls(load, limit, outputs, larger, [b for n, b in enumerate(buffers) if all(limit[b[0]] > limit[a[0]] for a in buffers[:n])])


@dataclass(frozen=True)
class Border:
    """What a parent must know: ``load`` of each input bit and how much each output bit can drive outside, pF."""

    load: dict
    drive: dict


def macro(pins: dict, directions: dict) -> Border:
    """The border of a memory."""
    return Border(*({pin: [value] * len(bits) for pin, bits in pins.items() if directions[pin] == way} for way, value in (("input", LOAD), ("output", DRIVE))))


def strengthen(body: dict, children: dict[str, Border], cells: Cells, library: CellLibrary) -> Border:
    """Changes ``body`` (see ``gates.read``) in place."""
    own_inputs = {bit for way, bits in body["ports"].values() if way == "input" for bit in bits}
    clocks = set(body["ports"].get("clk", ("", []))[1])
    port_limit = cells.limit[cells.buffers[0][0]] if cells.buffers else 1e9
    fresh = 1 + max((bit for _, pins, _ in body["cells"] for bits in pins.values() for bit in bits if isinstance(bit, int)), default=0)
    for _ in range(ROUNDS):
        sinks, drivers = _nets(body, children, cells)
        changed = False
        for bit, loads in sinks.items():
            if not isinstance(bit, int) or bit in clocks:
                continue
            driver = drivers.get(bit)
            limit = driver[1] if driver else port_limit if bit in own_inputs else 1e9
            total = sum(load for load, *_ in loads)
            if total <= limit + 1e-9:
                continue
            changed = True
            number = driver[0] if driver else None
            kind = body["cells"][number][0] if number is not None else None
            buffer = next((b for b in cells.buffers if cells.limit[b[0]] >= total - 1e-9), cells.buffers[-1])
            grown = next((cell for cell in cells.larger.get(kind, ()) if cells.limit[cell] >= total - 1e-9), None)
            if grown and library.area[grown] - library.area[kind] < library.area[buffer[0]]:
                body["cells"][number][0] = grown
                continue
            for group in _groups(loads, cells.limit[buffer[0]]):
                for _, cell, pin, place in group:
                    body["cells"][cell][1][pin][place] = fresh
                body["cells"].append([buffer[0], {buffer[1]: [bit], buffer[2]: [fresh]}, None])
                body["instances"].append("")
                fresh += 1
        if not changed:
            break
    sinks, drivers = _nets(body, children, cells)
    total = {bit: sum(load for load, *_ in loads) for bit, loads in sinks.items()}
    load = {name: [total.get(bit, 0.0) for bit in bits] for name, (way, bits) in body["ports"].items() if way == "input"}
    drive = {name: [max(0.0, drivers[bit][1] - total.get(bit, 0.0)) if bit in drivers else port_limit for bit in bits]
             for name, (way, bits) in body["ports"].items() if way == "output"}
    return Border(load, drive)


def count(body: dict) -> Counter:
    """Cells by type, without children and memories."""
    return Counter(kind for kind, _, directions in body["cells"] if directions is None)


def _nets(body, children, cells):
    """Sinks of each bit as (load, cell, pin, place), and its driver as (cell or None, what it may drive)."""
    sinks, drivers = {}, {}
    for number, (kind, pins, directions) in enumerate(body["cells"]):
        border = children.get(kind)
        for pin, bits in pins.items():
            output = directions[pin] == "output" if directions else pin in cells.outputs.get(kind, ())
            for place, bit in enumerate(bits):
                if output:
                    drivers[bit] = (number, cells.limit[kind]) if not directions else (None, border.drive[pin][place] if border else 1e9)
                else:
                    load = cells.load.get((kind, pin), 0.0) if not directions else border.load[pin][place] if border else 0.0
                    sinks.setdefault(bit, []).append((load, number, pin, place))
    return sinks, drivers


def _groups(loads, limit):
    """Sinks in groups of nearly equal load, none above the limit unless one sink alone is."""
    number = max(1, math.ceil(sum(load for load, *_ in loads) / limit - 1e-9))
    groups = [[] for _ in range(number)]
    weights = [0.0] * number
    for sink in sorted(loads, key=lambda sink: (-sink[0], *map(str, sink[1:]))):
        n = weights.index(min(weights))
        groups[n].append(sink)
        weights[n] += sink[0]
    return [group for group in groups if group]
