"""A layer whose tensors do not fit on the chip, tile by tile from and to the host: which tiles, in which order, by exact cycles.

A tile is a box of the output: some rows, columns and channels. Input boxes overlap by the kernel's halo. Of the two loop orders one
loads each weight once and the input again for every part of the channels, the other the reverse; the inner loop turns back at its ends,
so that what is there already is used once more. All candidates are ranked by an estimate, and the best few timed as the machine would.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from compiler import packing
from compiler.network import NetworkError
from compiler.passes import Deliver, Fetch, Job, Pass, timing, weave
from compiler.quantized import QuantizedLayer
from compiler.residency import Part, fits, part_unit, parts_of, parts_of_size
from compiler.tile import Held, command, makes, needs, reach
from golden.cycles import layer_cycles
from sdp.config import Config
from sdp.program import Kind, Layer, Opcode, beats_per_word

TIMED = 4
"""Candidates whose programs are timed exactly."""
OVERHEAD = 4
"""Cycles of a load or a store beside its words, about."""


@dataclass(frozen=True)
class Tiling:
    """Rows, columns and channels of a tile, the last one of each being smaller; ``weights_first``: pixels are the inner loop."""

    rows: int
    columns: int
    channels: int
    weights_first: bool


def ceil(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def ranges(size: int, step: int) -> list[range]:
    return [range(at, min(at + step, size)) for at in range(0, size, step)]


def even(size: int, unit: int = 1) -> list[int]:
    """Sizes of even tiles, largest first: of all numbers of tiles, rounded up to ``unit`` as well."""
    sizes = {-(-size // count) for count in range(1, size + 1)}
    return sorted(sizes | {min(size, ceil(s, unit)) for s in sizes}, reverse=True)


def input_words(config: Config, layer: QuantizedLayer, channels: int) -> int:
    """Channel words of the input that ``channels`` channels of the output need."""
    return packing.channel_words(config, layer.in_shape[2] if layer.kind is Kind.CONV else channels)


def room(config: Config, layer: QuantizedLayer, input_words: int, output_words: int) -> bool:
    """Whether input and output of a tile fit, and the residual, whose place the output takes."""
    half = config.activation_words // 2
    if layer.residual is not None:
        return input_words <= half and output_words <= half
    return input_words + output_words <= config.activation_words


class Space:
    """All tilings of one layer that fit, and what they cost."""

    def __init__(self, config: Config, layer: QuantizedLayer):
        self.config, self.layer, self._cycles = config, layer, {}
        (height, width, channels), (in_h, in_w, _) = layer.out_shape, layer.in_shape
        self.axes = {}
        for axis, (size, limit) in enumerate(((height, in_h), (width, in_w))):
            for step in even(size, config.ports if axis else 1):
                reaches = [(len(out), len(reach(out, layer.stride[axis], layer.kernel[axis], layer.pad[axis], limit)))
                           for out in ranges(size, step)]
                if all(inside for _, inside in reaches):
                    self.axes[axis, step] = Counter(reaches)
        memories = config.weight_words, config.scale_words
        parts_of(config, layer, *memories)  # says what does not fit even so
        unit = part_unit(config, layer)
        if not any(fits(config, layer, size, *memories) for size in {min(unit, channels), channels}):
            unit = config.word
        counts = range(1, -(-channels // unit) + 1)
        sizes = {min(channels, ceil(-(-channels // count), unit)) for count in counts}
        self.channels = sorted((size for size in sizes if fits(config, layer, size, *memories)), reverse=True)

    def all(self) -> Iterator[tuple[Tiling, int]]:
        """Every tiling that fits, with an estimate of its cycles."""
        for channels in self.channels:
            for (row_axis, rows), by_row in self.axes.items():
                for (column_axis, columns), by_column in self.axes.items() if not row_axis else ():
                    if column_axis and self._fits(channels, by_row, by_column):
                        orders = (True, False) if self.layer.kind is Kind.CONV and channels < self.layer.out_shape[2] else (True,)
                        for weights_first in orders:
                            tiling = Tiling(rows, columns, channels, weights_first)
                            yield tiling, self._estimate(tiling, by_row, by_column)

    def _plane(self, height: int, width: int) -> int:
        return ceil(height * width, self.config.ports)

    def _fits(self, channels: int, by_row: Counter, by_column: Counter) -> bool:
        (out_h, in_h), (out_w, in_w) = (tuple(map(max, zip(*by))) for by in (by_row, by_column))
        return room(self.config, self.layer, input_words(self.config, self.layer, channels) * self._plane(in_h, in_w),
                    packing.channel_words(self.config, channels) * self._plane(out_h, out_w))

    def _layer_cycles(self, height: int, width: int, channels: int) -> int:
        if (height, width, channels) not in self._cycles:
            layer = self.layer
            self._cycles[height, width, channels] = layer_cycles(self.config, Layer(
                kind=layer.kind, w4=layer.w4, budget=layer.budget, in_base=0, in_plane=1, in_h=1, in_w=1, in_tail=1, out_base=0, out_plane=1,
                in_words=input_words(self.config, layer, channels), out_h=height, out_w=width, out_channels=channels,
                kernel_h=layer.kernel[0], kernel_w=layer.kernel[1], stride_h=layer.stride[0],
                # What a 1x1 window skips is not loaded.
                stride_w=1 if layer.kernel[1] == 1 and not layer.pad[1] else layer.stride[1])).total
        return self._cycles[height, width, channels]

    def _estimate(self, tiling: Tiling, by_row: Counter, by_column: Counter) -> int:
        """Cycles, had every constant to be waited for that arrives beside a shorter tile."""
        c, layer = self.config, self.layer
        parts = Counter(part.stop - part.start for part in parts_of_size(layer, tiling.channels))
        number = sum(parts.values())
        total = 0
        for (out_h, in_h), rows in by_row.items():
            for (out_w, in_w), columns in by_column.items():
                for channels, count in parts.items():
                    words = packing.channel_words(c, channels) * (out_h * out_w + OVERHEAD)
                    moved = words * (1 if layer.residual is None else 2)
                    once = layer.kind is Kind.CONV and not tiling.weights_first
                    fetched = (input_words(c, layer, channels) * self._plane(in_h, in_w) + OVERHEAD) / (number if once else 1)
                    computed = self._layer_cycles(out_h, out_w, channels)
                    constants = self._constant_beats(channels)
                    if not tiling.weights_first:
                        beside = computed if tiling.channels * 2 <= layer.out_shape[2] else 0
                        total += rows * columns * count * max(constants - beside, 0)
                    total += rows * columns * count * (moved + fetched + computed)
        if tiling.weights_first:
            total += sum(count * self._constant_beats(channels) for channels, count in parts.items())
        return total

    def _constant_beats(self, channels: int) -> int:
        return sum(packing.count(self.config, opcode, self.layer, channels) * beats_per_word(self.config, opcode)
                   for opcode in (Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES))


def order(layer: QuantizedLayer, tiling: Tiling) -> Iterator[tuple[Part, range, range]]:
    """Tiles as they are computed."""
    parts = parts_of_size(layer, tiling.channels)
    pixels = [(rows, columns) for rows in ranges(layer.out_shape[0], tiling.rows) for columns in ranges(layer.out_shape[1], tiling.columns)]
    outer, inner = (parts, pixels) if tiling.weights_first else (pixels, parts)
    for at, slow in enumerate(outer):
        for fast in inner if at % 2 == 0 else reversed(inner):
            part, (rows, columns) = (slow, fast) if tiling.weights_first else (fast, slow)
            yield part, rows, columns


def jobs(config: Config, layer: QuantizedLayer, tiling: Tiling) -> list[Job]:
    """Input at the bottom; the output behind it, or at the bottom of the upper half in the place of the residual."""
    made, there = [], None
    for part, rows, columns in order(layer, tiling):
        source, target = needs(config, part, rows, columns), makes(config, part, rows, columns)
        fetches = [] if source == there else [Fetch(source, 0)]
        there, residual, out_base = source, None, source.count(config)
        if layer.residual is not None:
            out_base = config.activation_words // 2
            residual = Held(makes(config, part, rows, columns, layer.residual), out_base)
            fetches.append(Fetch(residual.box, residual.base))
        made.append(Job(part, command(config, part, rows, columns, Held(source, 0), Held(target, out_base), residual),
                        tuple(fetches), (Deliver(target, out_base, layer.out_shape[2]),)))
    return made


def describe(layer: QuantizedLayer, tiling: Tiling) -> str:
    counts = [-(-size // step) for size, step in zip(layer.out_shape, (tiling.rows, tiling.columns, tiling.channels))]
    loops = "" if counts[2] == 1 else ", weights loaded once" if tiling.weights_first else ", input loaded once"
    return (f"{layer.name}: {math.prod(counts)} tiles of {tiling.rows}x{tiling.columns}x{tiling.channels}, "
            f"{counts[0]} x {counts[1]} x {counts[2]}{loops}")


def make(config: Config, layer: QuantizedLayer) -> Pass:
    """The fastest pass for one layer with all its tensors on the host.

    Raises
    ------
    NetworkError
        Not even one pixel of one word of channels fits.
    """
    space = Space(config, layer)
    ranked = sorted(space.all(), key=lambda found: (found[1], -found[0].rows, -found[0].columns))[:TIMED]
    if not ranked:
        words = input_words(config, layer, 1) * ceil(math.prod(min(k, s) for k, s in zip(layer.kernel, layer.in_shape)), config.ports)
        limit = f"{config.activation_words // 2} for each" if layer.residual is not None else f"{config.activation_words} for both"
        raise NetworkError(f"layer {layer.name!r}: one output pixel needs {words} words of its input and {config.ports} or more of its "
                           f"output in activation memory, which has {limit}")
    items = {tiling: weave(config, jobs(config, layer, tiling)) for tiling, _ in ranked}
    best = min(items, key=lambda tiling: timing(config, items[tiling]))
    return Pass(describe(layer, best), config, items[best])
