"""The second method: OpenSTA's ``report_power`` on the gates of a unit, with the activity of every output as the simulation counted it.

OpenSTA 2.0, which Debian has, overwrites the activity of every pin but inputs with what it propagates from them: so each cell is asked alone, while
the activity of the whole netlist is that of this cell's output. To a transition it counts the energies of a rise and of a fall, and those of all
inputs, each with the probability that the input decides the output, which do not add up to 1: both are divided by here, as later versions do. It
adds conditional tables to the unconditional one: it gets the library without the former. Flip-flops are left out: what the clock costs them depends
on data and state, which it cannot know.
"""

import re
import tempfile
from pathlib import Path

import numpy as np

from synth.cells import macros, mapping
from synth.cells.cell_library import CellLibrary
from synth.gate_level.cell_model import CellModels, Gate
from synth.gate_level.gate_sim import Counts
from synth.gate_level.netlist import ONE, ZERO, Netlist
from synth.gate_level.switching import SLEW, Electrical, energies
from synth.sta.opensta import Session

PARTS = ("switching", "internal", "leakage")
_CONDITIONAL = re.compile(r"internal_power\s*\(\)\s*\{[^{}]*\bwhen\b[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")


def compare(netlist: Netlist, models: CellModels, state: Electrical, counts: Counts, library: CellLibrary, part: str, period: float) -> dict:
    """Both methods on the gates of the instance ``part`` (its path) and of all below it, in mW by :data:`PARTS`.

    For both, a net belongs here to what drives it, with all that hangs on it: that is how OpenSTA adds up.
    """
    mine = np.array([path == part or path.startswith(part + ".") for _, path in netlist.owners])
    gates = np.nonzero(mine[netlist.gate_owner])[0]
    toggles, driven = counts.toggles.sum(axis=(1, 2)) / counts.cycles, netlist.out[gates]
    mask = np.zeros(len(netlist.gates), bool)
    mask[gates] = True
    found = energies(netlist, models, state, counts, period, (mask, np.zeros(len(netlist.flops), bool)))[0].sum(axis=0)
    ours = np.array([(models.voltage**2 / 2 * state.load * toggles)[driven].sum(), found[2], found[4]]) / period
    theirs = _opensta(netlist, gates, state, toggles, library, period)
    return {"part": part.partition(".")[2] or part, "gates": len(gates), "ours_mw": dict(zip(PARTS, ours.tolist())),
            "opensta_mw": dict(zip(PARTS, theirs.tolist())), "difference": dict(zip(PARTS, (ours / np.maximum(theirs, 1e-12) - 1).tolist())),
            "difference_of_total": float(ours.sum() / theirs.sum() - 1)}


def _opensta(netlist, gates, state, toggles, library, period):
    text, inputs, cells = _verilog(netlist, gates)
    pins, names = _pins(netlist, gates), {}
    with tempfile.TemporaryDirectory(prefix=".power.", dir=mapping.CACHE) as scratch:
        folder = Path(scratch)
        (folder / "library.lib").write_text(_CONDITIONAL.sub("", library.text))
        (folder / "memories.lib").write_text(macros.memories_liberty({}))
        (folder / "netlist.v").write_text(text)
        lines = [f"create_clock -name clk -period {period / 1e3} [get_ports clk]", f"set_input_transition {SLEW / 1e3} [all_inputs]",]
        # Without a clock an activity has no unit: inputs get theirs.
        lines += [f"set_input_delay 0 -clock clk [get_ports n{net}]" for net in inputs]
        lines += [f"set_load {max(state.load[net] - pins[net], 0) / 1e3:.7f} [get_nets n{net}]" for ends in cells for net in ends[1]]
        for number, (kind, ends) in enumerate(cells):
            weights = 2 * sum(_decides(kind, n) for n in range(len(kind.inputs)))
            names[f"g{number}"] = np.array([1, 1 / weights if weights else 0, 1])
            lines += [f"sta::set_power_global_activity {toggles[list(ends)].mean():.9f} 0.5", f"report_power -digits 9 -instances [get_cells g{number}]"]
        (folder / "power.tcl").write_text("\n".join(lines))
        with Session(folder, "part") as sta:
            said = sta.ask("source power.tcl")
    found = np.zeros(3)
    for internal, switching, leakage, cell in re.findall(r"^ *(\S+) +(\S+) +(\S+) +\S+ +(g\d+)$", said, re.MULTILINE):
        found += names[cell] * [1e3 * float(number) for number in (switching, internal, leakage)]
    return found


def _decides(kind: Gate, place: int) -> float:
    """In what share of all states of a gate the output follows one of its inputs."""
    states = range(1 << len(kind.inputs))
    return sum((kind.table >> i & 1) != (kind.table >> (i ^ 1 << place) & 1) for i in states) / len(states)


def _pins(netlist, gates):
    """fF of the part's own input pins, by net."""
    load = np.zeros(netlist.nets)
    np.add.at(load, netlist.pins[gates], np.array([kind.capacitance for kind in netlist.kinds])[netlist.gates[gates]])
    return load


def _verilog(netlist, gates):
    """(module ``part`` with cells ``g0``, ``g1`` ..., nets from outside, of each cell its model and the nets of its outputs)."""
    cells, lines, read = {}, [], set()

    def net(number):
        read.add(number)
        return {ZERO: "1'b0", ONE: "1'b1"}.get(number, f"n{number}")

    for gate in gates:
        kind = netlist.kinds[netlist.gates[gate]]
        cells.setdefault((kind.cell, tuple(netlist.pins[gate].tolist())), {})[int(netlist.out[gate])] = kind
    for number, ((cell, pins), ends) in enumerate(cells.items()):
        inputs = [f".{pin}({net(n)})" for pin, n in zip(next(iter(ends.values())).inputs, pins)]
        lines.append(f"{cell} g{number} ({', '.join(inputs + [f'.{kind.pin}(n{end})' for end, kind in ends.items()])});")
    driven = {end for ends in cells.values() for end in ends}
    inputs = sorted(n for n in read if n > ONE and n not in driven)
    header = f"module part ({', '.join(['clk', *(f'n{n}' for n in inputs)])});\ninput clk;\n" + "\n".join(f"input n{n};" for n in inputs)
    text = "\n".join([header, *(f"wire n{n};" for n in sorted(driven)), *lines, "endmodule", ""])
    return text, inputs, [(next(iter(ends.values())), tuple(ends)) for ends in cells.values()]
