"""Spacers: rows of LUTs that are kept free, so that the placer spreads a design over the whole device.

nextpnr's placer fills the ECP5 from the middle up to a fixed density of three quarters, the router then fights for the wires there, and those at the
edges are idle. A LUT that is connected to nothing and has its place costs nothing, yet counts towards the density: with rows of them the
design is everywhere as dense as the device is full.
"""

import json
from pathlib import Path

DENSITY = 0.75
"""Part of a device's LUTs that spacers and design take together; nextpnr's own limit (``placer_heap`` for ECP5)."""
CROWDED = 0.5
"""From this part on a design gets spacers; a smaller one routes as it is, and would only get longer wires."""
_LOGIC = {"25k": (70, 48, range(13, 49, 12)), "45k": (88, 69, range(10, 70, 12)), "85k": (124, 93, range(10, 94, 12))}
"""Last column and last row of a device's logic, both from 2, and the rows that are block RAMs and DSPs instead."""


def rows(device: str) -> list[list[str]]:
    """By rows of the device (nextpnr's name): where its LUTs are, by nextpnr's names; eight to a column."""
    last_column, last_row, others = _LOGIC[device]
    return [[f"X{x}/Y{y}/SLICE{part}.K{half}" for x in range(2, last_column + 1) for part in "ABCD" for half in (0, 1)]
            for y in range(2, last_row + 1) if y not in others]


def add_spacers(netlist: Path, top: str, device: str, used: int) -> int:
    """Into the module ``top``, which takes ``used`` of the device's LUTs; returns how many, 0 where the design leaves them room or has none to give."""
    places = rows(device)
    available = sum(map(len, places))
    number = int((DENSITY * available - used) // len(places[0])) if used >= CROWDED * available else 0
    if number <= 0:
        return 0
    design = json.loads(netlist.read_text())
    spacers = [place for i in range(number) for place in places[i * len(places) // number]]
    design["modules"][top]["cells"] |= {f"spacer_{place}": _lut(place) for place in spacers}
    netlist.write_text(json.dumps(design))
    return len(spacers)


def _lut(place):
    return {"hide_name": 0, "type": "LUT4", "parameters": {"INIT": "0" * 16}, "attributes": {"BEL": place},
            "port_directions": dict.fromkeys("ABCD", "input") | {"Z": "output"}, "connections": dict.fromkeys("ABCDZ", [])}
