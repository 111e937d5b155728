"""What the ports of a unit do while the machine runs a layer of a network: recorded on the RTL, cycle by cycle."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.network import Network
from golden.cycles import layer_cycles
from golden.machine import Machine
from sdp import UserError
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, Layer
from sim import locate
from sim.compare import differences
from sim.harness import Harness
from sim.vcd import Waves


@dataclass(frozen=True, eq=False)
class Trace:
    """Ports of a unit, (cycles, bits) each, lowest bit first.

    Attributes
    ----------
    warm : cycles at the begin in which registers get their contents; what comes after are whole tiles, one like the other
    macs : multiplications of a code by a weight in the cycles after ``warm``, as a network counts them
    """

    layer: str
    budget: int
    w4: bool
    warm: int
    macs: float
    ports: dict[str, np.ndarray]

    @property
    def cycles(self) -> int:
        return len(next(iter(self.ports.values()))) - self.warm

    def save(self, path: Path) -> None:
        about = json.dumps({"layer": self.layer, "budget": self.budget, "w4": self.w4, "warm": self.warm, "macs": self.macs})
        temporary = path.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(temporary, about=about, **{f"port_{name}": bits for name, bits in self.ports.items()})
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> "Trace":
        with np.load(path) as found:
            ports = {name.removeprefix("port_"): found[name] for name in found.files if name.startswith("port_")}
            return cls(**json.loads(str(found["about"])), ports=ports)


def suitable(network: Network, config: Config) -> list[str]:
    """Convolutions that keep the whole array busy: channels and pixels fill it and there are tiles enough; all others, if there is none."""
    found, convolutions, shapes = [], [], network.shapes()
    for node in network.nodes[1:-1]:
        if getattr(node, "depthwise", True):
            continue
        convolutions.append(node.name)
        height, width, channels = shapes[node.name]
        whole = shapes[node.input][2] % config.word == 0 and channels % config.columns == 0 and width % config.ports == 0
        if whole and height * width * channels >= 4 * config.rows * config.block(True) and node.stride == (1, 1):
            found.append(node.name)
    return found or convolutions


def record(config: Config, harness: Harness, programs: list[list[Command]], layer: str, unit: str, ports: dict[str, int], cycles: int) -> Trace:
    """One layer of the programs of an image, setup among them; ``layer``: the tag of its command.

    ``unit``: path of the instance below the top; ``ports``: widths by name; ``cycles``: to count, at least, if the layer has them.
    Raises ``UserError`` if the layer's codes, cycles or counters are not those of the golden model.
    """
    number, index = next((n, i) for n, program in enumerate(programs)
                         for i, command in enumerate(c for c in program if isinstance(c, Layer)) if command.tag == layer)
    alone = locate.alone(config, programs, number, index)
    command, needed = alone.layer, layer_cycles(config, alone.layer)
    tiles = max(1, min(needed.tiles - 2, -(-cycles // needed.tile)))
    warm = needed.fixed + needed.tile
    last = alone.start + warm + tiles * needed.tile - 1
    with tempfile.TemporaryDirectory(prefix="trace-", dir=harness.folder.parent) as folder:
        path = Path(folder) / "trace.vcd"
        ran = harness.run([encode(config, alone.commands)], waves=(path, 0, alone.start, last))[0]
        if wrong := differences(config, ran, Machine(config).run(alone.commands)):
            raise UserError(f"layer {layer}: the simulation is not what the golden model says: {wrong[0]}")
        waves = Waves(path, {f"{unit}.{name}" for name in ports})
    found = {name: _bits([waves.value(f"{unit}.{name}", cycle) for cycle in range(alone.start, last + 1)], width) for name, width in ports.items()}
    channels = (command.in_words - 1) * config.word + command.in_tail
    macs = command.out_h * command.out_w * command.out_channels * command.kernel_h * command.kernel_w * channels / needed.tiles * tiles
    return Trace(layer, command.budget, bool(command.w4), warm, macs, found)


def _bits(values: list[int], width: int) -> np.ndarray:
    size = -(-width // 8)
    packed = np.frombuffer(b"".join(value.to_bytes(size, "little") for value in values), np.uint8).reshape(len(values), size)
    return np.unpackbits(packed, axis=1, bitorder="little")[:, :width]
