"""What goes into weight and scale memory, and when: whole layers or parts of them, loaded once or beside the computation.

Where everything fits it is loaded once. Otherwise the parts take turns at the bottom and at the top of the memory, so that each arrives
while the one before still computes; only words that this one reads wait for its end (``sync``).
"""

import math
from dataclasses import dataclass

import numpy as np

from compiler import packing
from compiler.network import NetworkError
from compiler.quantized import QuantizedLayer
from sdp.config import Config
from sdp.program import Kind, Load, Opcode


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
class Region:
    """A part's words of weight or scale memory; ``shared`` are the addresses that the part before reads, too."""

    base: int
    data: np.ndarray
    shared: range

    def loads(self, opcode: Opcode) -> list[Load]:
        """What may run beside the layer before comes first, what overwrites its operands waits."""
        free = [at for at in range(len(self.data)) if self.base + at not in self.shared]
        late = [at for at in range(len(self.data)) if self.base + at in self.shared]
        return [Load(opcode=opcode, address=self.base + at[0], data=self.data[at], sync=sync)
                for at, sync in ((free, False), (late, True)) if at]


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

    def fits(count):
        return packing.weight_count(config, layer, count) <= weight_words and -(-count // config.outputs) <= scale_words

    if fits(channels):
        return [Part(layer, 0, channels)]
    # Parts begin at whole words of the output; if possible at whole blocks, so that no column is idle in between.
    for unit in (math.lcm(word, config.block(layer.w4)), word):
        size = next((count for count in range(channels // unit * unit, 0, -unit) if fits(count)), None)
        if size is not None:
            count = -(-channels // size)
            size = -(-channels // (count * unit)) * unit
            return [Part(layer, start, min(start + size, channels)) for start in range(0, channels, size)]
    least = min(word, channels)
    needed = packing.weight_count(config, layer, least), -(-least // config.outputs)
    raise NetworkError(f"layer {layer.name!r}: {least} output channels need {needed[0]} words of weights and {needed[1]} of scales, "
                       f"the memories have {weight_words} and {scale_words}")


def parts_of_all(config: Config, layers: tuple[QuantizedLayer, ...]) -> list[Part]:
    """Whole layers where everything fits at once; else, if possible, parts of half a memory, so that one loads beside another."""
    weights, scales = config.weight_words, config.scale_words
    stay = sum(packing.weight_count(config, layer, layer.out_shape[2]) for layer in layers) <= weights
    scales_stay = sum(-(-layer.out_shape[2] // config.outputs) for layer in layers) <= scales
    parts = []
    for layer in layers:
        try:
            parts += parts_of(config, layer, weights if stay else weights // 2, scales if scales_stay else scales // 2)
        except NetworkError:
            parts += parts_of(config, layer, weights, scales)
    return parts


def place(data: list[np.ndarray], depth: int) -> tuple[bool, list[Region]]:
    """Regions for the words of all parts: (all of them at once, regions)."""
    ends = np.cumsum([0, *(len(words) for words in data)])
    if ends[-1] <= depth:
        return True, [Region(int(base) if len(words) else 0, words, range(0)) for base, words in zip(ends, data)]
    regions, before = [], range(0)
    for words in data:
        base = 0 if before.start or not len(words) else depth - len(words)
        here = range(base, base + len(words))
        regions.append(Region(base, words, range(max(here.start, before.start), min(here.stop, before.stop))))
        # Pooling reads no weights: the last ones before it are free when the next arrive.
        before = here
    return False, regions
