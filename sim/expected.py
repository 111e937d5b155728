"""What golden says about one tile of a layer: its pixels, codes and digits, and the list of signals with their values and cycles."""

from dataclasses import dataclass

import numpy as np

from golden.cycles import layer_cycles
from golden.term_select import to_signed
from golden.weights import FORMATS
from sdp.config import Config
from sdp.program import Kind
from sim.locate import Alone, Place
from sim.vcd import Waves

ARRAY = "core.convolution.array"


def take(config: Config) -> tuple[str, int]:
    """(a signal that is high for each operand that enters the array, how many cycles after it was taken: it is in the sums two after)."""
    return ("core.convolution.selector_0_0.take", 0) if config.array_kind.terms else ("core.convolution.took", 1)


@dataclass(frozen=True)
class Expected:
    """``field``: (lowest bit, bits) of the signal, or all of it."""

    cycle: int
    unit: str
    signal: str
    value: int
    what: str
    signed: bool = False
    field: tuple[int, int] | None = None

    def seen(self, waves: Waves) -> int:
        if self.field is None:
            return waves.value(self.signal, self.cycle, self.signed)
        low, bits = self.field
        value = waves.value(self.signal, self.cycle) >> low & (1 << bits) - 1
        return value - (1 << bits) if self.signed and value >> bits - 1 else value


class Tile:
    """What golden expects of the tile of ``place``."""

    def __init__(self, config: Config, layer: Alone, place: Place):
        self.config, self.machine, self.layer, self.place = config, layer.machine, layer.layer, place
        self.conv = self.layer.kind is Kind.CONV
        block = config.block(self.layer.w4) if self.conv else config.word
        self.block, self.channel = place.channel // block, place.channel % block
        self.column, self.chunks = self.channel % config.columns, block // config.outputs
        self.steps = layer_cycles(config, self.layer).steps
        self.expected: list[Expected] = []

    def taps(self, y: int, x: int) -> list[tuple[int, int]]:
        """(row, column) of the input for each tap of the window of an output pixel."""
        layer = self.layer
        return [(y * layer.stride_h - layer.pad_top + ky, x * layer.stride_w - layer.pad_left + kx)
                for ky in range(layer.kernel_h) for kx in range(layer.kernel_w)]

    def inside(self, row: int, column: int) -> bool:
        return 0 <= row < self.layer.in_h and 0 <= column < self.layer.in_w

    def address(self, row: int, column: int, word: int) -> int:
        return self.layer.in_base + word * self.layer.in_plane + row * self.layer.in_w + column

    def code_words(self, y: int, x: int, words: range) -> list[list[int]]:
        """For each tap of the window of an output pixel, and each channel word: code values."""
        layer, found = self.layer, []
        for row, column in self.taps(y, x):
            for word in words:
                codes = np.zeros(self.config.word, dtype=np.int16)
                if self.inside(row, column):
                    codes = to_signed(self.machine.activations[0, self.address(row, column, word)], layer.in_signed)
                    if self.conv and word == layer.in_words - 1:
                        codes[layer.in_tail :] = 0
                found.append([int(code) for code in codes])
        return found

    def pixel(self, row: int) -> tuple[int, int] | None:
        """The output pixel of a row of the array, none past the image's end."""
        c, layer = self.config, self.layer
        queue, per_row = c.rows // c.ports, -(-layer.out_w // c.ports)
        first = self.place.tile % -(-layer.out_h * per_row // queue) * queue
        strip = first + row // c.ports
        y, x = strip // per_row, strip % per_row * c.ports + row % c.ports
        return (y, x) if y < layer.out_h and x < layer.out_w else None

    def slot(self, step: int, slot: int) -> int:
        """Bits of a weight slot of the column."""
        return int(self.machine.weights[self.layer.weight_base + self.block * self.steps + step, self.column, slot])

    def parts(self, step: int, slot: int) -> tuple[int, ...]:
        """What each sum of the column takes of a weight slot: (low, high), or the whole weight where there is one."""
        high, low = (int(part) for part in FORMATS[self.config.array].decode(np.uint16(self.slot(step, slot)), self.layer.w4))
        return (low, high) if True in self.config.array_kind.modes else (low + 16 * high,)

    def add(self, cycle, unit, signal, value, what, **options):
        self.expected.append(Expected(cycle, unit, signal, int(value), what, **options))
