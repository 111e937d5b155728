"""Where hardware and golden model part first: program, layer, tile, output pixel, channel; and the layer alone, as a program of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from golden.cycles import layer_cycles
from golden.machine import Machine
from golden.term_select import to_signed
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, End, Kind, Layer, Load, Opcode, Store
from sim.harness import Harness


@dataclass(frozen=True)
class Place:
    """The first wrong code. ``row``: of the array, that computed it; ``tile`` of ``tiles``, in the order in which they are computed."""

    program: int
    index: int
    layer: Layer
    tile: int
    tiles: int
    row: int
    y: int
    x: int
    channel: int
    expected: int
    actual: int
    wrong: int


def tile_of(config: Config, layer: Layer, y: int, x: int, channel: int) -> tuple[int, int]:
    """(tile, row of the array) that computes a code; on the channel unit a tile is a word of one pixel."""
    if layer.kind is not Kind.CONV:
        return (channel // config.word * layer.out_h + y) * layer.out_w + x, 0
    queue = config.rows // config.ports
    per_row = -(-layer.out_w // config.ports)
    strip = y * per_row + x // config.ports
    tile = channel // config.block(layer.w4) * -(-layer.out_h * per_row // queue) + strip // queue
    return tile, strip % queue * config.ports + x % config.ports


def stores(config: Config, layer: Layer) -> list[Store]:
    """All of a layer's output, channel word after channel word."""
    words = -(-layer.out_channels // config.word)
    return [Store(address=layer.out_base + n * layer.out_plane, count=layer.out_h * layer.out_w, tail=min(config.word, layer.out_channels - n * config.word))
            for n in range(words)]


def traced(config: Config, commands: list[Command]) -> list[Command]:
    """The program with every layer's output stored, after the loads that run beside it, and without its own stores."""
    made, pending = [], []
    for command in commands:
        beside = isinstance(command, Load) and command.opcode is not Opcode.LOAD_ACTIVATIONS and not command.sync
        if not beside:
            made, pending = made + pending, []
        if not isinstance(command, Store):
            made.append(command)
        if isinstance(command, Layer):
            pending = stores(config, command)
    return made


def outputs(config: Config, layers: list[Layer], words: np.ndarray) -> Iterator[np.ndarray]:
    """Codes (h, w, channels) of each layer, from what a traced program stored."""
    at = 0
    for layer in layers:
        blocks, pixels = -(-layer.out_channels // config.word), layer.out_h * layer.out_w
        part = words[at : at + blocks * pixels]
        at += len(part)
        if len(part) < blocks * pixels:
            return
        codes = part.reshape(blocks, layer.out_h, layer.out_w, config.word).transpose(1, 2, 0, 3)
        yield to_signed(np.ascontiguousarray(codes.reshape(layer.out_h, layer.out_w, -1)[..., : layer.out_channels]), layer.clamp_low < 0)


def first_wrong(config: Config, harness: Harness, programs: list[list[Command]]) -> Place | None:
    """The first wrong code of all programs, every layer looked at; none if all are right."""
    changed = [traced(config, program) for program in programs]
    machine = Machine(config)
    expected = [machine.run(program) for program in changed]
    got = harness.run([encode(config, program) for program in changed])
    for number, (program, wanted, seen) in enumerate(zip(changed, expected, got)):
        layers = [command for command in program if isinstance(command, Layer)]
        words = np.frombuffer(seen.outputs, dtype=np.uint8).reshape(-1, config.word)
        pairs = zip(layers, outputs(config, layers, wanted.outputs[0]), outputs(config, layers, words))
        for index, (layer, right, wrong) in enumerate(pairs):
            if (right != wrong).any():
                return _place(config, number, index, layer, right, wrong)
    return None


def _place(config, program, index, layer, right, wrong) -> Place:
    at = [tuple(int(n) for n in where) for where in np.argwhere(right != wrong)]
    (tile, row), (y, x, channel) = min((tile_of(config, layer, *where), where) for where in at)
    tiles = layer_cycles(config, layer).tiles
    return Place(program, index, layer, tile, tiles, row, y, x, channel, int(right[y, x, channel]), int(wrong[y, x, channel]), len(at))


@dataclass(frozen=True, eq=False)
class Alone:
    """One layer as a program: its memories loaded as the golden machine left them. ``start``: the cycle in which it starts."""

    commands: list[Command]
    machine: Machine
    layer: Layer
    start: int


def alone(config: Config, programs: list[list[Command]], number: int, index: int) -> Alone:
    """Layer ``index`` of program ``number``, on the inputs that the golden model computed for it."""
    machine, loads = Machine(config), {}
    for at, program in enumerate(programs[: number + 1]):
        layers = [where for where, command in enumerate(program) if isinstance(command, Layer)]
        if at == number:
            layer = program[layers[index]]
            program = [*program[: layers[index]], End()]
        machine.run(program)
        for load in program:
            if isinstance(load, Load) and load.opcode is not Opcode.LOAD_ACTIVATIONS:
                key = load.opcode, load.address, load.data.shape
                loads.pop(key, None)
                loads[key] = Load(opcode=load.opcode, address=load.address, data=load.data)
    before = [*loads.values(), Load(opcode=Opcode.LOAD_ACTIVATIONS, address=0, data=machine.activations[0].copy())]
    commands = [*before, layer, *stores(config, layer), End()]
    return Alone(commands, machine, layer, Machine(config).run(commands).layers[0].start)
