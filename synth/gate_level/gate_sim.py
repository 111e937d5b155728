"""Simulates a flat netlist with delays on recorded ports and counts what switches: the C++ beside it does the work, about ten million events a second."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.build_cache import BUILD, cached_build, content_hash
from sim.toolchain import ToolError, require, run_tool
from synth.gate_level.cell_model import PINS
from synth.gate_level.netlist import Netlist


@dataclass(frozen=True, eq=False)
class Counts:
    """Events of all counted cycles.

    Attributes
    ----------
    toggles : (nets, clock is low, direction: fall, rise); settled : (nets,) cycles that end with another value than they began with, which is
        what a simulation without delays would count; high : (nets,) cycles that end with a 1
    caused : (drivers, input, direction of the output); drivers are gates, then Q and its inverse of each flip-flop, then input bits
    hidden : (gates, input, its direction): the gate's output stays
    edges : (flip-flops, edge: fall, rise; data; Q)
    wrong : bits of outputs that are not as recorded; first_wrong : (cycle, bit) of the first
    slowest : ps from a clock edge until all was at rest, at most
    """

    cycles: int
    toggles: np.ndarray
    settled: np.ndarray
    high: np.ndarray
    caused: np.ndarray
    hidden: np.ndarray
    edges: np.ndarray
    wrong: int
    first_wrong: tuple[int, int] | None
    slowest: int


def drivers(netlist: Netlist) -> np.ndarray:
    """The net of each driver, constant zero where one is not connected."""
    ends = np.stack([netlist.q, netlist.inverse], axis=1).ravel()
    return np.concatenate([netlist.out, np.maximum(ends, 0), *netlist.inputs.values()]).astype(np.uint32)


def simulate(netlist: Netlist, delays: np.ndarray, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray], *, warm: int, half: float) -> Counts:
    """``delays``: ps by (driver, input, direction); ``inputs``, ``outputs``: (cycles, bits) of each port; the first ``warm`` cycles, in which
    flip-flops get their contents, are not counted; the clock falls ``half`` ps after it rose."""
    def joined(ports, values):
        return np.concatenate([values[name] for name in ports], axis=1).astype(np.uint8) if ports else np.zeros((cycles, 0), np.uint8)

    cycles = len(next(iter(inputs.values())))
    watched = {name: nets for name, nets in netlist.outputs.items() if name in outputs}
    stimulus, expected, nets = joined(netlist.inputs, inputs), joined(watched, outputs), drivers(netlist)
    sizes = [netlist.nets, len(netlist.gates), len(netlist.flops), stimulus.shape[1], expected.shape[1], cycles, warm, round(half)]
    tables = np.array([kind.table for kind in netlist.kinds], dtype=np.uint64)
    parts = [np.array(sizes, np.uint64), tables[netlist.gates] if len(netlist.gates) else np.zeros(0, np.uint64), netlist.pins.astype(np.uint32),
             netlist.data.astype(np.uint32), nets, np.clip(np.rint(delays), 1, 30_000).astype(np.uint16),
             np.concatenate([*watched.values(), np.zeros(0, np.int64)]).astype(np.uint32), stimulus, expected]
    program = _program()
    with tempfile.TemporaryDirectory(prefix="gates-", dir=program.parent) as folder:
        source, target = Path(folder) / "netlist", Path(folder) / "counts"
        with source.open("wb") as file:
            for part in parts:
                file.write(np.ascontiguousarray(part).tobytes())
        run_tool([str(program / "gate_sim"), str(source), str(target)], what="the simulation of gates")
        data, at = target.read_bytes(), 0

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        at += 4 * count
        return np.frombuffer(data, np.uint32, count, at - 4 * count).reshape(shape)

    n, g, f = sizes[:3]
    found = [take(n, 2, 2), take(n), take(n), take(len(nets), PINS, 2), take(g, PINS, 2), take(f, 2, 2, 2)]
    wrong, first, slowest = (int(x) for x in np.frombuffer(data, np.uint64, 3, at))
    return Counts(cycles - warm, *found, wrong, divmod(first, expected.shape[1]) if wrong else None, slowest)


def _program() -> Path:
    require("g++")
    source = Path(__file__).with_suffix(".cpp")
    flags = ["-O3", "-std=c++17"]
    if not source.is_file():
        raise ToolError(f"there is no {source.name} beside {Path(__file__).name}")

    def make(folder):
        run_tool(["g++", *flags, "-o", str(folder / "gate_sim"), str(source)], what="compiling the simulation of gates")

    return cached_build(BUILD / f"gates-{content_hash(source.read_bytes(), ' '.join(flags))}", make)
