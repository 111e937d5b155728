"""What the machines that are compared take: area, clock and power, from the reports that ``sdp area``, ``sdp timing`` and the meters of power left.

Two that are not in the shell, OLAccel's groups and Eyeriss' element, are mapped here by the same script.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from compare.built import MACHINES
from golden import eyeriss_mapping, olaccel_cycles
from hw.verilog import export
from sdp.config import CONFIGS
from synth import area
from synth.cells import hierarchy, mapping
from synth.cells.cell_library import CellLibrary

UNITS = {
    "OLAccel, normal group": ("hw.olaccel_normal", "NormalGroup", 16),
    "OLAccel, outlier group": ("hw.olaccel_outlier", "OutlierGroup", 17),
    "Eyeriss, element": ("hw.eyeriss_element", "EyerissElement", 1),
}
"""Module, class and multipliers of what is not in the shell."""
ELEMENTS = eyeriss_mapping.ROWS * eyeriss_mapping.COLUMNS
EYERISS_MULTIPLIERS = 16 * ELEMENTS
"""Eyeriss' 16-bit multipliers in nibble multipliers."""


@dataclass(frozen=True)
class Hardware:
    """Of one machine, um2. ``array``: elements and all that feeds them; ``logic``: of the whole machine; ``memory_bits``: on the chip; ``ns``: critical
    path, if it was measured; ``power``: what the meter wrote, if it did; ``dense``: per multiplier of the plain INT4 array that is measured beside it, which
    has no way to compute eight bits."""

    config: str
    multipliers: int
    array: float
    logic: float
    memory_bits: int
    ns: float | None
    power: dict | None
    dense: float | None = None

    @property
    def per_multiplier(self) -> float:
        """Of the array, per nibble multiplier."""
        return self.array / self.multipliers


def read(build: Path, name: str) -> Hardware | None:
    """From ``build/NAME/*.json``; none without an area in um2."""
    def report(what):
        path = build / name / f"{what}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    found, timing = report("area"), report("timing")
    if found is None or found["unit"] != "um2":
        return None
    return Hardware(name, found["nibble_multipliers"], found["array"], found["total"], found["memory_bits"],
                    timing and timing["critical_ns"], report("power"), found["dense_int4_per_multiplier"])


def machines(build: Path, shared: dict[str, str] = MACHINES) -> tuple[dict[str, Hardware], list[str]]:
    """By method, and the commands that would make what is missing."""
    found, missing = {}, []
    for method, name in shared.items():
        if one := read(build, name):
            found[method] = one
        else:
            missing.append(f"python -m sdp area --config {name} --liberty FILE.lib")
        if one and one.power is None and CONFIGS[name].array != "int16":
            missing.append(f"python -m sdp power --config {name} --liberty FILE.lib" if CONFIGS[name].array_kind.terms
                           else f"python -m compare.power --method {method} --liberty FILE.lib")
    return found, missing


def olaccel(units: dict[str, float]) -> Hardware | None:
    """A cluster of OLAccel: its normal groups and their outlier group, per normal multiplier; without buffers, address logic and control."""
    if not units:
        return None
    normal, outlier = (units[f"OLAccel, {kind} group"] for kind in ("normal", "outlier"))
    groups = olaccel_cycles.Array().groups
    array = groups * normal + outlier
    return Hardware("a cluster", groups * UNITS["OLAccel, normal group"][2], array, array, 0, None, None)


def eyeriss(units: dict[str, float]) -> dict[str, Hardware]:
    """By method: its 168 elements, without their filter memories, the buffer and the network that feeds them; nothing where no unit was measured."""
    array = ELEMENTS * units.get("Eyeriss, element", 0.0)
    return {"eyeriss": Hardware(f"{ELEMENTS} elements", EYERISS_MULTIPLIERS, array, array, 0, None, None)} if array else {}


def unit_area(name: str, library: CellLibrary) -> float:
    """Of one of ``UNITS``, by the library."""
    module, component, _ = UNITS[name]
    made = getattr(__import__(module, fromlist=[component]), component)()
    bodies = hierarchy.parse(export(made, area.TOP))
    mapped = mapping.map_bodies(bodies, list(bodies), library)
    return sum(number * count * library.area[cell] for body, number in hierarchy.instances(bodies, area.TOP).items()
               for cell, count in mapped[body]["cells"].items())
