"""A mapped unit on the scales: simulated with its delays on what its ports did, checked against them, events times energies."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdp import UserError
from sim.build_cache import content_hash
from synth.area import unit_name
from synth.cells import mapping
from synth.cells.cell_library import CellLibrary
from synth.gate_level import activity, cell_model, gate_sim, netlist, power_check, switching
from synth.gate_level.switching import PARTS


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
    """A mapped unit, ready to be measured: ``netlists`` are mapped Verilog of ``top`` and all that it instantiates, by module, but ``memories``.

    Energy inside of memories, and what it takes to drive their pins, is not measured; what their read data drive is.
    """

    def __init__(self, netlists: dict[str, str], top: str, library: CellLibrary, clock: float, wire: float = switching.WIRE, name=unit_name,
                 memories: netlist.Memories | None = None):
        self.library, self.period, self.name = library, 1e6 / clock, name
        self.models = cell_model.read(library)
        self.flat = netlist.flatten(netlist.read(netlists), top, self.models, memories)
        self.state = switching.electrical(self.flat, self.models, wire)
        sources = [Path(module.__file__).read_bytes() for module in (cell_model, gate_sim, netlist, switching)]
        self.key = content_hash(*(text for item in sorted(netlists.items()) for text in item), top, library.digest, f"{clock} {wire} {memories}", *sources,
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
