"""A mapped unit with all that it instantiates as one flat netlist of gates and flip-flops; each remembers the module that it came from."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synth.cells import mapping
from synth.cells.yosys import YosysError, run_script
from synth.gate_level.cell_model import PINS, CellModels

ZERO, ONE = 0, 1
"""Nets of the constants."""


@dataclass(frozen=True, eq=False)
class Netlist:
    """Nets are numbers.

    Attributes
    ----------
    kinds, flop_kinds : models (``cell_model.Gate``, ``Flop``) that ``gates`` and ``flops`` are numbers of
    gates, pins, out : per gate its kind, the nets of its inputs (gates, PINS) and of its output; unused inputs are ZERO
    flops, data, q, inverse : per flip-flop its kind and nets; -1 where an output is not connected
    owners, gate_owner, flop_owner : instances as (module, path), and whose a gate or flip-flop is
    inputs, outputs : nets of the unit's ports, lowest bit first; of a memory below it what it reads is an input ``INSTANCE.SIGNAL``, what it is given an output
    """

    nets: int
    kinds: list
    flop_kinds: list
    gates: np.ndarray
    pins: np.ndarray
    out: np.ndarray
    flops: np.ndarray
    data: np.ndarray
    q: np.ndarray
    inverse: np.ndarray
    owners: list[tuple[str, str]]
    gate_owner: np.ndarray
    flop_owner: np.ndarray
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


class NetlistError(YosysError):
    """A netlist that cannot be simulated; the message names the cell."""


def read(texts: dict[str, str]) -> dict:
    """The modules of mapped Verilog texts in Yosys' JSON."""
    mapping.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".read.", dir=mapping.CACHE) as folder:
        path = Path(folder)
        (path / "all.v").write_text("\n".join(texts.values()))
        (path / "read.ys").write_text("read_verilog all.v\nwrite_json all.json\n")
        run_script(path / "read.ys")
        return json.loads((path / "all.json").read_text())["modules"]


Memories = dict[str, dict[str, tuple[str, str]]]
"""Modules without a netlist, memories with their read registers: of their pins (direction, signal of the RTL's module that holds the memory)."""


def flatten(modules: dict, top: str, models: CellModels, memories: Memories | None = None) -> Netlist:
    """``top`` and all below it but ``memories``, whose pins become ports. Raises ``NetlistError`` for a cell that has no model."""
    flat = _Flat(modules, models, memories or {})
    bits = flat.place(top, top, {})
    nets = flat.resolve()
    ports = {way: {name: bits[name] for name, port in modules[top]["ports"].items() if port["direction"] == way} for way in ("input", "output")}
    for path, pins, connections in flat.cut:
        for pin, local in connections.items():
            if pin in pins:
                way, signal = pins[pin]
                ports["input" if way == "output" else "output"][f"{path}.{signal}".removeprefix(f"{top}.")] = local
    return Netlist(
        nets=len(nets[1]), kinds=list(flat.kinds), flop_kinds=list(flat.flop_kinds),
        **flat.arrays(nets[0]), owners=flat.owners, **{f"{way}s": {name: nets[0][port] for name, port in named.items()} for way, named in ports.items()})


def memory_pins(verilog: str, ports: dict[str, tuple[str, int]]) -> dict[str, tuple[str, str]]:
    """Pins of a memory as ``flatten`` takes them, without its clock. Yosys' own read register is known in waveforms by the signal that it drives.

    Parameters
    ----------
    verilog : of the RTL's module that holds the memory
    ports : by the name of a signal in it: (direction, bits), see ``synth.cells.mapping.map_bodies``
    """
    driven = {register: signal for signal, register in re.findall(r"^ *assign (\w+) = (_\d+_);", verilog, re.MULTILINE)}
    return {pin: (way, driven.get(pin, pin)) for pin, (way, _) in ports.items() if pin != "clk"}


class _Flat:
    def __init__(self, modules, models, memories):
        self.modules, self.models, self.memories, self.owners, self.parts, self.aliases, self.cut = modules, models, memories, [], [], [], []
        self.kinds, self.flop_kinds, self.known, self.nets = {}, {}, {}, 2

    def place(self, module, path, bound):
        """Adds an instance, its ports tied to the nets in ``bound``; returns its ports' nets."""
        body = self.known.get(module) or self.known.setdefault(module, _Body(self, module))
        owner, base = len(self.owners), self.nets
        self.owners.append((module, path))
        self.nets += body.size
        self.parts.append((body, owner, base))

        def nets(local):
            return np.where(local < 2, local, local - 2 + base)

        ports = {name: nets(local) for name, local in body.ports.items()}
        for name, outside in bound.items():
            self.aliases.append(np.stack([outside, ports[name]]))
        for kind, connections in body.memories:
            self.cut.append((path, self.memories[kind], {pin: nets(local) for pin, local in connections.items()}))
        for name, child, connections in body.children:
            self.place(child, f"{path}.{name}", {port: nets(local) for port, local in connections.items()})
        return ports

    def resolve(self):
        """(number of each net after what is connected has become one, representatives)."""
        parent = np.arange(self.nets)
        pairs = np.concatenate([a.T for a in self.aliases]) if self.aliases else np.zeros((0, 2), dtype=np.int64)
        # The smallest number of all that are connected; constants stay what they are.
        while len(pairs):
            low = np.minimum(parent[pairs[:, 0]], parent[pairs[:, 1]])
            before = parent.copy()
            for column in (0, 1):
                np.minimum.at(parent, before[pairs[:, column]], low)
            parent = parent[parent]
            if (parent == before).all():
                break
        kept, number = np.unique(np.append(parent, [ZERO, ONE]), return_inverse=True)
        return number[:-2], kept

    def arrays(self, nets):
        def join(name):
            parts = [np.where(local < 2, local, local - 2 + base) if name in ("pins", "out", "data", "q", "inverse") else local
                     for body, _, base in self.parts for local in [getattr(body, name)]]
            return np.concatenate(parts)

        owner = {kind: np.concatenate([np.full(len(getattr(body, kind)), number) for body, number, _ in self.parts]) for kind in ("gates", "flops")}
        found = {name: join(name) for name in ("gates", "flops", "pins", "out", "data", "q", "inverse")}
        for name in ("pins", "out", "data", "q", "inverse"):
            found[name] = np.where(found[name] < 0, -1, nets[found[name]])
        return {**found, "gate_owner": owner["gates"], "flop_owner": owner["flops"]}


class _Body:
    """One module with nets of its own: 0 and 1 are the constants, -1 is not connected."""

    def __init__(self, flat, module):
        found, models, numbers = flat.modules[module], flat.models, {"0": ZERO, "1": ONE, "x": ZERO, "z": ZERO}

        def net(bit):
            return numbers.setdefault(bit, len(numbers) - 2)

        def nets(bits):
            return np.array([net(bit) for bit in bits], dtype=np.int64)

        self.ports = {name: nets(port["bits"]) for name, port in found["ports"].items()}
        self.children, self.memories, gates, pins, out, flops, data, q, inverse = [], [], [], [], [], [], [], [], []
        for name, cell in found["cells"].items():
            kind, connected = cell["type"], cell["connections"]
            if kind in flat.modules:
                self.children.append((name, kind, {port: nets(bits) for port, bits in connected.items()}))
            elif kind in flat.memories:
                self.memories.append((kind, {pin: nets(bits) for pin, bits in connected.items()}))
            elif kind in models.gates:
                for gate in models.gates[kind]:
                    if gate.pin in connected:
                        gates.append(flat.kinds.setdefault(gate, len(flat.kinds)))
                        pins.append([net(*connected[pin]) for pin in gate.inputs] + [ZERO] * (PINS - len(gate.inputs)))
                        out.append(net(*connected[gate.pin]))
            elif kind in models.flops:
                flop = models.flops[kind]
                for pin, value in flop.quiet.items():
                    if connected[pin] != [str(value)]:
                        raise NetlistError(f"module {module}: {kind} {name}: {pin} is not tied to {value}, which is not simulated")
                ends = [(net(*connected[pin]), inverted) for pin, inverted in flop.outputs if connected.get(pin)]
                flops.append(flat.flop_kinds.setdefault(flop, len(flat.flop_kinds)))
                data.append(net(*connected[flop.data_pin]))
                q.append(next((end for end, inverted in ends if not inverted), -1))
                inverse.append(next((end for end, inverted in ends if inverted), -1))
            else:
                raise NetlistError(f"module {module}: there is no model of {kind} ({name})")
        self.size = len(numbers) - 4
        self.gates, self.out, self.flops, self.data, self.q, self.inverse = (np.array(x, dtype=np.int64) for x in (gates, out, flops, data, q, inverse))
        self.pins = np.array(pins, dtype=np.int64).reshape(-1, PINS)
