"""What the ports of a unit do while the machine runs a layer of a network: recorded on the RTL, cycle by cycle."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.network import Network
from golden import drq_array
from golden.cycles import layer_cycles
from golden.machine import LayerCounts, Machine
from sdp import UserError
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, End, Layer
from sim import locate
from sim.compare import differences, of_image
from sim.harness import Harness
from sim.vcd import Waves

RESET = 2
"""Cycles of reset that a netlist gets before what was recorded."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Ports of a unit, (cycles, bits) each, lowest bit first.

    Attributes
    ----------
    key : what measurements are told apart by: the layer's budget, or what a job says
    warm : cycles at the begin in which registers get their contents; what comes after are whole tiles, one like the other but for DRQ's stalls
    macs : multiplications of a code by a weight in the cycles after ``warm``, as a network counts them
    sensitive : of DRQ, what part of the codes that its rows take in these cycles; those of the padding and of idle rows and pixels are not, but count
    """

    layer: str
    key: int
    w4: bool
    warm: int
    macs: float
    ports: dict[str, np.ndarray]
    sensitive: float | None = None

    @property
    def cycles(self) -> int:
        return len(next(iter(self.ports.values()))) - self.warm

    def save(self, path: Path) -> None:
        about = json.dumps({"layer": self.layer, "key": self.key, "w4": self.w4, "warm": self.warm, "macs": self.macs, "sensitive": self.sensitive})
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


def record(config: Config, harness: Harness, programs: list[list[Command]], layer: str, unit: str, ports: dict[str, int], cycles: int,
           key: int | None = None, masks: np.ndarray | None = None) -> Trace:
    """One layer of the programs of an image, setup among them; ``layer``: the tag of its command.

    ``unit``: path of the instance below the top; ``ports``: widths by name; ``cycles``: to count, at least, if the layer has them; ``masks``: of DRQ, see
    ``golden.drq_array.layer_cycles``.
    Raises ``UserError`` if the layer's codes, cycles or counters are not those of the golden model.
    """
    number, index = next((n, i) for n, program in enumerate(programs)
                         for i, command in enumerate(c for c in program if isinstance(c, Layer)) if command.tag == layer)
    sequence, machine = _isolated(config, programs, number, index), Machine(config)
    expected = [machine.run(commands) for commands in sequence]
    ran, = expected[-1].layers
    command, needed = ran.layer, layer_cycles(config, ran.layer)
    start = of_image(ran.start, 0)
    tiles, warm = max(1, min(needed.tiles - 2, -(-cycles // needed.tile))), needed.fixed + needed.tile
    last = start + (of_image(ran.cycles, 0) if config.array == "drq" else warm + tiles * needed.tile - 1)
    with tempfile.TemporaryDirectory(prefix="trace-", dir=harness.folder.parent) as folder:
        path = Path(folder) / "trace.vcd"
        results = harness.run([encode(config, commands) for commands in sequence], waves=(path, len(sequence) - 1, start, last))
        if wrong := [text for got, wanted in zip(results, expected, strict=True) for text in differences(config, got, wanted)]:
            raise UserError(f"layer {layer}: the simulation is not what the golden model says: {wrong[0]}")
        waves = Waves(path, {f"{unit}.{name}" for name in ports})
    if waves.missing:
        raise UserError(f"layer {layer}: the waveforms have no {min(waves.missing)}")
    found = {name: _bits([waves.value(f"{unit}.{name}", cycle) for cycle in range(start, last + 1)], width) for name, width in ports.items()}
    sensitive = None
    if config.array == "drq":
        tiles, warm, last = _tiles(layer, found["captured"], cycles)
        sensitive = _sensitive(config, ran, masks, tiles)
        found = {name: bits[:last] for name, bits in found.items()}
    if "rst" in found:
        # Registers that do not begin with zero.
        found = {name: np.concatenate([np.repeat(bits[:1] if name != "rst" else np.ones((1, 1), np.uint8), RESET, axis=0), bits]) for name, bits in found.items()}
        warm += RESET
    channels = (command.in_words - 1) * config.word + command.in_tail
    macs = command.out_h * command.out_w * command.out_channels * command.kernel_h * command.kernel_w * channels / needed.tiles * tiles
    return Trace(layer, command.budget if key is None else key, bool(command.w4), warm, macs, found, sensitive)


def _isolated(config: Config, programs: list[list[Command]], number: int, index: int) -> list[list[Command]]:
    """Programs of which the last has one layer, layer ``index`` of program ``number``, on the inputs that those before it leave."""
    if config.array != "drq":
        return [locate.alone(config, programs, number, index).commands]
    # Masks cannot be loaded: the layers before make them. They run twice, so that what alternates from tile to tile and from step to step (the bank of
    # sums, the register of weights) is where reset leaves it, as the netlist has it.
    place = [at for at, command in enumerate(programs[number]) if isinstance(command, Layer)][index]
    layer, before = programs[number][place], [*programs[:number], [*programs[number][:place], End()]]
    return [*before, *before, [layer, *locate.stores(config, layer), End()]]


def _tiles(layer: str, captured: np.ndarray, cycles: int) -> tuple[int, int, int]:
    """(tiles that take ``cycles`` or all that there are but the first, cycles until the first is complete, and until the last of them is)."""
    ends = np.flatnonzero(captured) + 1
    if len(ends) < 2:
        raise UserError(f"layer {layer} has {len(ends)} tile, two are needed: one fills the array, one is counted")
    tiles = int(min(np.searchsorted(ends - ends[0], cycles), len(ends) - 1))
    return tiles, int(ends[0]), int(ends[tiles])


def _sensitive(config: Config, ran: LayerCounts, masks: np.ndarray | None, tiles: int) -> float:
    """The part of the codes of ``tiles`` after the first that is sensitive. Raises ``UserError`` if the layer did not run with ``masks``."""
    terms, codes, tile = np.zeros(layer_cycles(config, ran.layer).tiles, dtype=np.int64), 0, 0
    for work, last in drq_array.steps(config, ran.layer, masks):
        terms[tile] += work[:, -1].sum()
        codes, tile = codes + config.rows * config.word * (tile == 0), tile + last
    if terms.sum() != of_image(ran.terms, 0):
        raise UserError(f"layer {ran.layer.tag}: it has other masks than those that were expected")
    return (float(terms[1 : tiles + 1].mean()) / codes - 1) / (drq_array.SLOW - 1)


def _bits(values: list[int], width: int) -> np.ndarray:
    size = -(-width // 8)
    packed = np.frombuffer(b"".join((value & (1 << width) - 1).to_bytes(size, "little") for value in values), np.uint8).reshape(len(values), size)
    return np.unpackbits(packed, axis=1, bitorder="little")[:, :width]
