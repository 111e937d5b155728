"""What goes into weight and scale memory, and when: whole layers or parts of them, loaded once or beside the computation.

Where everything fits it is loaded once. Otherwise the parts take turns at the bottom and at the top of the memory, so that each arrives
while the one before still computes; only words that this one reads wait for its end (``sync``).
"""

import math
from dataclasses import dataclass

from compiler import packing
from compiler.network import NetworkError
from compiler.quantized import QuantizedLayer
from sdp.config import Config
from sdp.program import Kind, Load, Opcode, memory_words


@dataclass(frozen=True)
class Part:
    """Output channels ``start`` ... ``stop - 1`` of a layer: a layer whose weights exceed their memory is computed in parts."""

    layer: QuantizedLayer
    start: int
    stop: int

    @property
    def channels(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def last(self) -> bool:
        return self.stop == self.layer.out_shape[2]


@dataclass(frozen=True)
class ConstantLoad:
    """Words ``at`` of a part's weights or scales, to be loaded at ``address``."""

    opcode: Opcode
    part: Part
    at: range
    address: int
    sync: bool = False

    def command(self, constants: packing.Constants) -> Load:
        data = constants.words(self.opcode, self.part.layer, self.part.channels)
        return Load(opcode=self.opcode, address=self.address, data=data[self.at.start : self.at.stop], sync=self.sync)


@dataclass(frozen=True)
class Region:
    """A part's words of weight or scale memory; ``shared`` are the addresses that the part before reads, too."""

    base: int
    count: int
    shared: range = range(0)

    def loads(self, opcode: Opcode, part: Part) -> list[ConstantLoad]:
        """What may run beside the layer before comes first, what overwrites its operands waits."""
        free = [at for at in range(self.count) if self.base + at not in self.shared]
        late = [at for at in range(self.count) if self.base + at in self.shared]
        return [ConstantLoad(opcode, part, range(at[0], at[-1] + 1), self.base + at[0], sync) for at, sync in ((free, False), (late, True)) if at]


def part_unit(config: Config, layer: QuantizedLayer) -> int:
    """Channels that parts are best made of: whole words of the output and whole blocks, so that no column is idle in between."""
    return math.lcm(config.word, packing.block_of(config, layer))


def fits(config: Config, layer: QuantizedLayer, channels: int, weight_words: int, scale_words: int) -> bool:
    return packing.weight_count(config, layer, channels) <= weight_words and packing.scale_count(config, channels) <= scale_words


def parts_of(config: Config, layer: QuantizedLayer, weight_words: int, scale_words: int) -> list[Part]:
    """The fewest parts of even size, each with at most so many words of weights and scales.

    Raises
    ------
    NetworkError
        Where even the smallest part does not fit, or the reduction is too long.
    """
    channels, word = layer.out_shape[2], config.word
    if layer.kind is Kind.CONV and packing.steps_of(config, layer) > config.steps_max:
        codes = packing.steps_of(config, layer) * word
        raise NetworkError(f"layer {layer.name!r}: each output sums over {codes} codes, "
                           f"the accumulators of {config.name!r} hold {config.reduction}")
    if fits(config, layer, channels, weight_words, scale_words):
        return [Part(layer, 0, channels)]
    for unit in (part_unit(config, layer), word):
        sizes = range(channels // unit * unit, 0, -unit)
        size = next((count for count in sizes if fits(config, layer, count, weight_words, scale_words)), None)
        if size is not None:
            count = -(-channels // size)
            return parts_of_size(layer, -(-channels // (count * unit)) * unit)
    least = min(word, channels)
    needed = packing.weight_count(config, layer, least), packing.scale_count(config, least)
    raise NetworkError(f"layer {layer.name!r}: {least} output channels need {needed[0]} words of weights and {needed[1]} of scales, "
                       f"the memories have {weight_words} and {scale_words}")


def parts_of_size(layer: QuantizedLayer, size: int) -> list[Part]:
    channels = layer.out_shape[2]
    return [Part(layer, start, min(start + size, channels)) for start in range(0, channels, size)]


def parts_of_all(config: Config, layers: tuple[QuantizedLayer, ...]) -> list[Part]:
    """Whole layers where everything fits at once; else, if possible, parts of half a memory, so that one loads beside another."""
    weights, scales = config.weight_words, config.scale_words
    stay = sum(packing.weight_count(config, layer, layer.out_shape[2]) for layer in layers) <= weights
    scales_stay = sum(packing.scale_count(config, layer.out_shape[2]) for layer in layers) <= scales
    parts = []
    for layer in layers:
        try:
            parts += parts_of(config, layer, weights if stay else weights // 2, scales if scales_stay else scales // 2)
        except NetworkError:
            parts += parts_of(config, layer, weights, scales)
    return parts


def place(counts: list[int], depth: int) -> tuple[bool, list[Region]]:
    """Regions for the words of all parts: (all of them at once, regions)."""
    if sum(counts) <= depth:
        bases = [sum(counts[:at]) for at in range(len(counts))]
        return True, [Region(base if count else 0, count) for base, count in zip(bases, counts)]
    regions, before = [], range(0)
    for count in counts:
        base = 0 if before.start or not count else depth - count
        here = range(base, base + count)
        regions.append(Region(base, count, range(max(here.start, before.start), min(here.stop, before.stop))))
        # Pooling reads no weights: the last ones before it are free when the next arrive.
        before = here
    return False, regions


def sequence(config: Config, opcode: Opcode, parts: list[Part]) -> tuple[list[int], list[list[ConstantLoad]]]:
    """For parts in the order in which they compute, some of them more than once: the base of each one's words, and the loads before it."""
    def counts(of):
        return [packing.count(config, opcode, part.layer, part.stop - part.start) for part in of]

    once = list(dict.fromkeys(parts))
    stay, regions = place(counts(once), memory_words(config, opcode))
    if stay:
        at = dict(zip(once, regions))
        loads = {part: region.loads(opcode, part) for part, region in at.items()}
        return [at[part].base for part in parts], [loads.pop(part, []) for part in parts]
    # A part that follows itself is there already.
    changes = [at for at, part in enumerate(parts) if not at or part != parts[at - 1]]
    _, regions = place(counts([parts[at] for at in changes]), memory_words(config, opcode))
    bases, loads, of = [], [], dict(zip(changes, regions))
    for at, part in enumerate(parts):
        loads.append(of[at].loads(opcode, part) if at in of else [])
        bases.append(of[at].base if at in of else bases[-1])
    return bases, loads
