"""From what switched to energy: each event's charge, each cell's internal energy, the clock, leakage; by the instance that owns the cell.

The charge of a net is divided among the pins that it drives, each with its wire, and belongs to who owns the pin: so a unit's inputs are its
own expense and nothing is counted twice. What an output of the whole netlist drives is not in it.
"""

from dataclasses import dataclass

import numpy as np

from synth.gate_level.cell_model import CellModels
from synth.gate_level.gate_sim import Counts
from synth.gate_level.netlist import Netlist

WIRE = 4.0
"""fF of wire per pin that a net drives: 20 to 25 um, the mean in a placed block of a few thousand cells in 130 nm, at 0.17 fF/um."""
SLEW = 100.0
"""ps, of the netlist's inputs and of the clock."""
CLOCK_FANOUT = 16
"""Pins per buffer of the clock's tree."""
PARTS = ("pins", "wires", "internal", "clock", "leakage")


@dataclass(frozen=True, eq=False)
class Electrical:
    """By net: ``load`` in fF, ``slew`` in ps; ``delays``: ps by (driver, input, direction), for ``gate_sim``."""

    load: np.ndarray
    slew: np.ndarray
    delays: np.ndarray
    wire: float


class _Arrays:
    """The models' fields, per gate and per flip-flop."""

    def __init__(self, netlist: Netlist):
        def of(kinds, numbers, name, shape, dtype=np.int64):
            table = np.array([getattr(kind, name) for kind in kinds], dtype=dtype).reshape(len(kinds), *shape)
            return table[numbers] if len(kinds) else np.zeros((0, *shape), dtype)

        pins = netlist.pins.shape[1]
        self.used = np.arange(pins) < np.array([len(kind.inputs) for kind in netlist.kinds] or [0])[netlist.gates, None] if len(
            netlist.gates) else np.zeros((0, pins), bool)
        for name, shape in (("delay", (pins, 2)), ("slew", (pins, 2)), ("power", (pins, 2)), ("hidden", (pins, 2))):
            setattr(self, name, of(netlist.kinds, netlist.gates, name, shape))
        self.capacitance = of(netlist.kinds, netlist.gates, "capacitance", (pins,), float)
        self.leakage = of(netlist.kinds, netlist.gates, "leakage", (), float)
        for name, shape in (("delay", (2,)), ("slew", (2,)), ("power", (2,)), ("hidden", (2, 2)), ("clock", (2, 2, 2))):
            setattr(self, f"flop_{name}", of(netlist.flop_kinds, netlist.flops, name, shape))
        self.flop_capacitance = of(netlist.flop_kinds, netlist.flops, "capacitance", (2,), float)
        self.flop_leakage = of(netlist.flop_kinds, netlist.flops, "leakage", (), float)


def electrical(netlist: Netlist, models: CellModels, wire: float = WIRE) -> Electrical:
    """Loads, slews and delays of an unplaced netlist. Slews and loads beyond the library's tables count as their last entries: where a net
    drives more than a cell can, a layout has buffers."""
    arrays, look_up = _Arrays(netlist), models.tables.look_up
    load = np.zeros(netlist.nets)
    np.add.at(load, netlist.pins, np.where(arrays.used, arrays.capacitance + wire * (arrays.capacitance > 0), 0))
    np.add.at(load, netlist.data, arrays.flop_capacitance[:, 0] + wire)
    slew = np.full(netlist.nets, SLEW)
    q = np.stack([netlist.q, netlist.inverse], axis=1)
    q_load = load[np.maximum(q, 0)]
    for n in (0, 1):
        have = q[:, n] >= 0
        slew[q[have, n]] = look_up(arrays.flop_slew, np.array(SLEW), q_load[:, n, None])[have].mean(axis=1)
    out_load = load[netlist.out][:, None, None]
    # The slew of an output follows that of its inputs by a fifth or so: after a few rounds none moves any more.
    at = np.nonzero(arrays.slew)
    pin, end, tables = netlist.pins[at[:2]], netlist.out[at[0]], arrays.slew[at]
    number = np.maximum(np.bincount(at[0], minlength=len(netlist.gates)), 1)
    for _ in range(5):
        slew[netlist.out] = np.bincount(at[0], look_up(tables, slew[pin], load[end]), len(netlist.gates)) / number
    delays = np.zeros((len(netlist.gates) + 2 * len(netlist.flops) + sum(map(len, netlist.inputs.values())), netlist.pins.shape[1], 2))
    gates, flops = len(netlist.gates), len(netlist.flops)
    delays[:gates] = look_up(arrays.delay, slew[netlist.pins][..., None], out_load)
    after = look_up(arrays.flop_delay[:, None], np.array(SLEW), q_load[..., None])
    after[:, 1] = after[:, 1, ::-1]
    delays[gates : gates + 2 * flops, 0] = after.reshape(-1, 2)
    # Ports change when registers before them would.
    delays[gates + 2 * flops :, 0] = after[:, 0].mean() if flops else SLEW
    return Electrical(load, slew, delays, wire)


def energies(netlist: Netlist, models: CellModels, state: Electrical, counts: Counts, period: float,
             only: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """fJ per cycle by (owner, part of ``PARTS``), and how much of that is glitches, by owner.

    ``period``: ps, for leakage; ``only``: masks of the gates and of the flip-flops that count.
    """
    arrays, look_up, owners = _Arrays(netlist), models.tables.look_up, len(netlist.owners)
    toggles = counts.toggles.sum(axis=(1, 2)).astype(float)
    glitch = 1 - counts.settled / np.maximum(toggles, 1)
    half = models.voltage**2 / 2
    found, glitches = np.zeros((owners, len(PARTS))), np.zeros(owners)

    def add(part, owner, energy, share=None):
        if not len(owner):
            return
        energy = energy.reshape(len(owner), -1)
        if only is not None:
            energy = energy * only[owner is flop][:, None]
        found[:, PARTS.index(part)] += np.bincount(owner, energy.sum(axis=1), owners)
        if share is not None:
            np.add.at(glitches, owner, (energy * share.reshape(len(owner), -1)).sum(axis=1))

    gate, flop, pins, data = netlist.gate_owner, netlist.flop_owner, netlist.pins, netlist.data
    switched = half * toggles[pins] * (arrays.capacitance > 0)
    add("pins", gate, switched * arrays.capacitance, glitch[pins])
    add("wires", gate, switched * state.wire, glitch[pins])
    add("pins", flop, half * toggles[data] * arrays.flop_capacitance[:, 0], glitch[data])
    add("wires", flop, half * toggles[data] * state.wire, glitch[data])

    slews = state.slew[pins][..., None]
    own = counts.caused[: len(gate)] * look_up(arrays.power, slews, state.load[netlist.out][:, None, None])
    add("internal", gate, own.sum(axis=(1, 2)), glitch[netlist.out])
    add("internal", gate, (counts.hidden * look_up(arrays.hidden, slews, np.array(0.0))).sum(axis=2), glitch[pins])
    changed = np.stack([counts.edges[:, 1, 0, 1], counts.edges[:, 1, 1, 0]], axis=1)
    q_load = state.load[np.maximum(np.where(netlist.q >= 0, netlist.q, netlist.inverse), 0)]
    add("internal", flop, changed * look_up(arrays.flop_power, np.array(SLEW), q_load[:, None]))
    on_data = counts.toggles[data][:, ::-1] * look_up(arrays.flop_hidden, state.slew[data][:, None, None], np.array(0.0))
    add("internal", flop, on_data.sum(axis=(1, 2)), glitch[data])

    on_clock = (counts.edges * look_up(arrays.flop_clock, np.array(SLEW), np.array(0.0))).sum(axis=(1, 2, 3))
    pin = arrays.flop_capacitance[:, 1] + state.wire
    add("clock", flop, on_clock + counts.cycles * (2 * half * pin + clock_buffer(models, float(pin.mean()) if len(pin) else 0.0, state.wire)))
    add("leakage", gate, counts.cycles * arrays.leakage * period * 1e-6)  # nW * ps = 1e-6 fJ
    add("leakage", flop, counts.cycles * arrays.flop_leakage * period * 1e-6)
    return found / counts.cycles, glitches / counts.cycles


def clock_buffer(models: CellModels, pin: float, wire: float) -> float:
    """fJ per cycle and flip-flop in the buffers of the clock's tree: the library's buffer that is the fastest at ``CLOCK_FANOUT`` pins."""
    load, best = np.array(CLOCK_FANOUT * pin), (np.inf, 0.0)
    for gate in (gates[0] for gates in models.gates.values() if len(gates) == 1 and len(gates[0].inputs) == 1 and gates[0].table == 2):
        delay, own = (models.tables.look_up(numbers[0], np.array(SLEW), load).sum() for numbers in (gate.delay, gate.power))
        energy = own + models.voltage**2 * (gate.capacitance[0] + wire)
        best = min(best, (delay, energy / (CLOCK_FANOUT - 1)))
    return best[1]
