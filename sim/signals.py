"""The first wrong signal of a tile: operands, terms, digits, products, sums and the output stage, each against what golden says.

All that is expected is listed with its cycle; the first entry that the waves contradict is the unit that broke, for what comes
after it in the pipeline only passes the error on. Within a cycle the list is in the order of the pipeline.
"""

from dataclasses import dataclass

import numpy as np

from golden.cycles import OUTPUT_STAGES, drain, layer_cycles
from golden.output_stage import requantize, round_shift
from golden.term_select import sequence, to_signed
from golden.weights import decode_digit
from sdp.config import Config
from sdp.program import Kind
from sim.locate import Alone, Place
from sim.vcd import Waves

SLACK = 40
"""Cycles recorded before and after those of the tile."""
ARRAY = "core.convolution.array"


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


@dataclass(frozen=True)
class Wrong:
    cycle: int
    unit: str
    signal: str
    what: str
    expected: int
    actual: int


def window(config: Config, place: Place, start: int) -> tuple[int, int, int]:
    """(first cycle, last cycle, cycle in which the tile's sums are captured, about) of the layer that starts in cycle ``start``."""
    cycles = layer_cycles(config, place.layer)
    captured = start + cycles.total - cycles.drain - OUTPUT_STAGES - (cycles.tiles - 1 - place.tile) * cycles.tile
    return max(0, captured - cycles.steps * cycles.step - cycles.tile - SLACK), captured + cycles.drain + OUTPUT_STAGES + SLACK, captured


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

    def code_words(self, y: int, x: int, words: range) -> list[list[int]]:
        """For each tap of the window of an output pixel, and each channel word: code values."""
        layer, found = self.layer, []
        for ky in range(layer.kernel_h):
            for kx in range(layer.kernel_w):
                row, column = y * layer.stride_h - layer.pad_top + ky, x * layer.stride_w - layer.pad_left + kx
                for word in words:
                    codes = np.zeros(self.config.word, dtype=np.int16)
                    if 0 <= row < layer.in_h and 0 <= column < layer.in_w:
                        at = layer.in_base + word * layer.in_plane + row * layer.in_w + column
                        codes = to_signed(self.machine.activations[0, at], layer.in_signed)
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

    def digits(self, step: int, slot: int) -> tuple[int, int]:
        """(low, high) digit of a weight slot of the column."""
        bits = self.machine.weights[self.layer.weight_base + self.block * self.steps + step, self.column, slot]
        return int(decode_digit(bits & 31)), int(decode_digit(bits >> 5))

    def convolution(self, takes: list[int], captured: int) -> tuple[int, int]:
        """Terms of all rows, products and sums of the one element; ``takes``: the cycles in which terms are taken. Returns the sums."""
        c, layer, budget = self.config, self.layer, self.layer.budget
        sums, element = [0, 0], f"{ARRAY}.pe_{self.place.row}_{self.column}"
        for row in range(c.rows):
            pixel = self.pixel(row)
            words = self.code_words(*pixel, range(layer.in_words)) if pixel else []
            for step, word in enumerate(words):
                begin = takes[step * budget]
                products = [[0, 0] for _ in range(budget)]
                for lane in range(c.lanes):
                    codes = word[lane * c.group : (lane + 1) * c.group]
                    self._lane(row, lane, step, codes, begin, takes, products, element)
                if row != self.place.row:
                    continue
                for n, both in enumerate(products):
                    sums = [total + product for total, product in zip(sums, both)]
                    for digit, name in enumerate(("low", "high")):
                        self.add(takes[step * budget + n] + 2, "processing element", f"{element}.sums", sums[digit], f"sum of {name} digits after "
                                 f"term {n} of step {step}", signed=True, field=(digit * c.accumulator_bits, c.accumulator_bits))
        for digit, name in enumerate(("low", "high")):
            field = digit * c.accumulator_bits, c.accumulator_bits
            self.add(captured + 1, "processing element", f"{element}.drain", sums[digit], f"captured sum of {name} digits", signed=True, field=field)
            shown = captured + 1 + self.place.row * self.chunks + self.channel // c.outputs
            self.add(shown, "MAC array", f"{ARRAY}.pe_0_{self.column}.drain", sums[digit], f"sum of {name} digits, row {self.place.row}, leaving", signed=True,
                     field=field)
        return sums[0], sums[1]

    def _lane(self, row, lane, step, codes, begin, takes, products, element):
        c, layer, selector = self.config, self.layer, f"core.convolution.selector_{row}_{lane}"
        for i, code in enumerate(codes):
            for low, bits, value, name in ((0, 4, abs(code) & 15, "low"), (4, 4, abs(code) >> 4, "high"), (8, 1, int(code < 0), "sign")):
                if name != "sign" or code:
                    self.add(begin - 1, "operand buffer", f"{selector}.codes", value, f"{name} part of code {i} of step {step}", field=(9 * i + low, bits))
        for n, (value, high, index) in enumerate(sequence(codes, layer.budget)):
            cycle = takes[step * layer.budget + n] + 1
            what = f"term {n} of step {step}"
            self.add(cycle, "term selector", f"{selector}.term", value, what, signed=True, field=(0, 5))
            if not value:
                continue
            self.add(cycle, "term selector", f"{selector}.term", high, f"place of {what}", field=(5, 1))
            self.add(cycle, "term selector", f"{selector}.term", index, f"index of {what}", field=(6, max(1, (c.group - 1).bit_length())))
            if row != self.place.row:
                continue
            for digit, (name, worth) in enumerate(zip(("low", "high"), self.digits(step, lane * c.group + index))):
                product = value * worth << 4 * high if worth * value >= 0 else -(-value * worth << 4 * high)
                products[n][digit] += product
                unit = f"{element}.multiplier_{lane}_{name}"
                flag = int(worth < -8 or worth > 7)
                self.add(cycle, "weights", f"{unit}.nibble", worth >> 2 * flag, f"{name} digit's nibble for {what}", signed=True)
                self.add(cycle, "weights", f"{unit}.flag", flag, f"{name} digit's flag for {what}")
                self.add(cycle, "nibble multiplier", f"{unit}.product", product, f"{what} times {name} digit", signed=True)

    def pooling(self, captured: int) -> int:
        """The channel unit's value and result; returns the result."""
        layer, lane = self.layer, self.place.channel % self.config.word
        words = self.code_words(self.place.y, self.place.x, range(self.block, self.block + 1))
        codes = [word[lane] for word in words]
        if layer.kind is Kind.MAX:
            inside = [word[lane] for (r, c), word in zip(self._taps(), words) if 0 <= r < layer.in_h and 0 <= c < layer.in_w]
            value = max(inside, default=0)
        elif layer.kind is Kind.DEPTHWISE:
            slots = self.machine.weights[layer.weight_base + self.block * self.steps :, 0, lane]
            weights = [(int(s) & 15 | (int(s) >> 5 & 15) << 4) for s in slots[: self.steps]]
            value = sum(code * (weight - 256 if weight > 127 else weight) for code, weight in zip(codes, weights))
        else:
            value = sum(codes)
        self.add(captured, "channel unit", f"core.channel.value_{lane}", value, f"window of channel {self.place.channel}", signed=True)
        return value

    def _taps(self):
        layer, (y, x) = self.layer, (self.place.y, self.place.x)
        return [(y * layer.stride_h - layer.pad_top + ky, x * layer.stride_w - layer.pad_left + kx)
                for ky in range(layer.kernel_h) for kx in range(layer.kernel_w)]

    def output(self, captured: int, low: int, high: int) -> None:
        """The output stage, register by register, for the one code."""
        c, layer, place = self.config, self.layer, self.place
        cycle = captured + 1 + place.row * self.chunks + self.channel // c.outputs
        lane = place.channel % c.outputs
        if self.conv and layer.w4:
            low, high = (low, 0) if self.channel < c.columns else (high, 0)
        bias, multiplier = (int(part[layer.scale_base * c.outputs + place.channel]) for part in self.machine.scales)
        where = place.channel // c.word * layer.out_plane + place.y * layer.out_w + place.x
        residual = 0
        if layer.residual:
            byte = self.machine.activations[0, layer.residual_base + where, place.channel % c.word : place.channel % c.word + 1]
            residual = int(to_signed(byte, layer.residual_signed)[0])
        biased = low + 16 * high + bias
        total = biased * multiplier + residual * layer.residual_multiplier
        shift, half = layer.shift, 1 << layer.shift - 1
        less = ~total >> shift & 1 if layer.ties_even else total < 0
        code = int(requantize(low + 16 * high, bias, multiplier, shift, layer.clamp_low, layer.clamp_high, residual, layer.residual_multiplier,
                              layer.ties_even))
        assert round_shift(np.int64(total), shift, layer.ties_even) == total + half - less >> shift
        values = (("low", low), ("high", high), ("combined", low + 16 * high), ("biased", biased), ("multiplier", multiplier), ("residual", residual),
                  ("product", biased * multiplier), ("residual_product", residual * layer.residual_multiplier), ("total", total),
                  ("rounded", total + half - less), ("code", code & 255))
        stages = {"low": 1, "high": 1, "combined": 2, "biased": 3, "multiplier": 3, "residual": 3, "product": 4, "residual_product": 4, "total": 5,
                  "rounded": 6, "code": 7}
        for name, value in values:
            self.add(cycle + stages[name], "output stage", f"core.output_stage.{name}_{lane}", value, f"{name} of channel {place.channel}",
                     signed=name not in ("multiplier", "code"))
        final = cycle + OUTPUT_STAGES - 1
        self.add(final, "drain", "core.output_stage.write_address", layer.out_base + where, "address of the code")
        self.add(final, "drain", "core.output_stage.write_mask", 1 << place.channel % c.word // c.outputs, "which codes of the word are written")

    def add(self, cycle, unit, signal, value, what, **options):
        self.expected.append(Expected(cycle, unit, signal, int(value), what, **options))


def wanted(config: Config, place: Place) -> list[str]:
    """Signals that :func:`first_wrong` reads."""
    column = place.channel % (config.block(place.layer.w4) if place.layer.kind is Kind.CONV else config.word) % config.columns
    element, lane = f"{ARRAY}.pe_{place.row}_{column}", place.channel % config.outputs
    names = [f"core.output_stage.{name}_{lane}" for name in ("low", "high", "combined", "biased", "multiplier", "residual", "product", "residual_product",
                                                             "total", "rounded", "code")]
    names += ["core.output_stage.write_address", "core.output_stage.write_mask", "core.channel.captured", f"core.channel.value_{place.channel % config.word}"]
    names += [f"core.convolution.selector_{r}_{n}.{s}" for r in range(config.rows) for n in range(config.lanes) for s in ("codes", "term")]
    names += ["core.convolution.selector_0_0.take", f"{ARRAY}.pe_0_0.capture", f"{element}.sums", f"{element}.drain", f"{ARRAY}.pe_0_{column}.drain"]
    return names + [f"{element}.multiplier_{n}_{d}.{s}" for n in range(config.lanes) for d in ("low", "high") for s in ("nibble", "flag", "product")]


def first_wrong(config: Config, layer: Alone, place: Place, waves: Waves, first: int, last: int, near: int) -> Wrong | None:
    """The first signal that is not what golden says; none if the waves show nothing wrong."""
    conv = layer.layer.kind is Kind.CONV
    pulses = waves.cycles(f"{ARRAY}.pe_0_0.capture" if conv else "core.channel.captured", first, last)
    if not pulses:
        return Wrong(near, "controller", "captured", "end of the tile", 1, 0)
    captured = min(pulses, key=lambda cycle: abs(cycle - near))
    tile = Tile(config, layer, place)
    if conv:
        count = tile.steps * layer.layer.budget
        takes = [cycle for cycle in waves.cycles("core.convolution.selector_0_0.take", first, captured - 2)][-count:]
        if len(takes) < count:
            return Wrong(captured, "controller", "core.convolution.selector_0_0.take", "terms of the tile", count, len(takes))
        low, high = tile.convolution(takes, captured)
    else:
        low, high = tile.pooling(captured), 0
    assert drain(config, layer.layer.kind, layer.layer.w4) >= tile.chunks
    tile.output(captured, low, high)
    for entry in sorted(tile.expected, key=lambda e: e.cycle):
        if entry.signal in waves and entry.seen(waves) != entry.value:
            return Wrong(entry.cycle, entry.unit, entry.signal, entry.what, entry.value, entry.seen(waves))
    return None
