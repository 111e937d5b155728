"""DRQ's array (Song et al., ISCA 2020), one row of it: the elements of one input channel, and the pixel that they work on."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.multiply import times
from hw.processing_element import add
from hw.types import Code
from sdp.config import Config


class Nibble(data.Struct):
    """A weight's digit as sign and magnitude; a sign without a magnitude is -8."""

    magnitude: 3
    negative: 1


class Weight(data.Struct):
    """``16 * high + low``"""

    low: Nibble
    high: Nibble


def pixel_layout(channels: int) -> data.StructLayout:
    """A pixel on its way down: codes of the rows that are still to come, whether each is sensitive, and which weight register it takes."""
    return data.StructLayout({"which": 1, "sensitive": channels, "codes": data.ArrayLayout(Code, channels)})


def partial_bits(config: Config, row: int) -> int:
    """Two's complement width that holds what rows 0 ... ``row`` add up to."""
    return (config.array_kind.largest * (row + 1)).bit_length() + 1


class DrqMultiplier(wiring.Component):
    """A nibble of a code (-15 ... 15) times one of a weight, times 16 for each that is a high one, combinational.

    A negative product is the complement of its magnitude, as in ``NibbleMultiplier``: ``product + negative`` is its value.
    """

    def __init__(self):
        super().__init__({"magnitude": In(4), "negative_code": In(1), "high_code": In(1), "high_weight": In(1), "digit": In(Nibble),
                          "product": Out(signed(16)), "negative": Out(1)})

    def elaborate(self, platform):
        m = Module()
        negative = self.negative
        small, by_code, eight = Signal(7), Signal(11), Signal()
        fill = negative.replicate(4)
        m.d.comb += [
            negative.eq(self.negative_code ^ self.digit.negative),
            eight.eq(self.digit.negative & ~self.digit.magnitude.any()),
            small.eq((times(self.magnitude, self.digit.magnitude) | (self.magnitude & eight.replicate(4)) << 3) ^ negative.replicate(7)),
            by_code.eq(Mux(self.high_code, Cat(fill, small), Cat(small, fill))),
            self.product.eq(Cat(Mux(self.high_weight, Cat(fill, by_code), Cat(by_code, fill)), negative)),
        ]
        return m


class DrqElement(wiring.Component):
    """One 4-bit multiplier, two weight registers and a partial sum.

    A product is added in every cycle: with ``first`` to ``above``, else to what is there. ``load[i]`` takes ``weight`` to register ``i``.

    Latency: a product is in ``partial`` one cycle later.

    Parameters
    ----------
    above_bits, bits : widths of the partial sums of the row above and of this one

    Members
    -------
    magnitude, negative, high_code, high_weight : In, which product, none with ``magnitude`` 0; which : In, the weight register
    above : In, ``partial`` of the row above; partial : Out, two's complement
    """

    def __init__(self, *, above_bits: int, bits: int):
        super().__init__({
            "magnitude": In(4), "negative": In(1), "high_code": In(1), "high_weight": In(1), "which": In(1), "first": In(1),
            "load": In(2), "weight": In(Weight), "above": In(signed(above_bits)), "partial": Out(signed(bits)),
        })

    def elaborate(self, platform):
        m = Module()
        weights, partial = (Signal(shape, name=name, reset_less=True) for shape, name in ((data.ArrayLayout(Weight, 2), "weights"), (self.partial.shape(), "sum")))
        for n in range(2):
            with m.If(self.load[n]):
                m.d.sync += weights[n].eq(self.weight)
        weight, base = Signal(Weight), Signal.like(self.partial)
        m.submodules.multiplier = multiplier = DrqMultiplier()
        m.d.comb += [
            weight.eq(Mux(self.which, weights[1], weights[0])),
            multiplier.magnitude.eq(self.magnitude), multiplier.negative_code.eq(self.negative), multiplier.high_code.eq(self.high_code),
            multiplier.high_weight.eq(self.high_weight), multiplier.digit.eq(Mux(self.high_weight, weight.high, weight.low)),
            base.eq(Mux(self.first, self.above, partial)), self.partial.eq(partial),
        ]
        m.d.sync += partial.eq(add(base, multiplier.product, multiplier.negative))
        return m


class DrqRow(wiring.Component):
    """A stage of the array's elastic pipeline.

    A pixel that came in works in the cycles that follow, one for the high nibbles alone, four for all products of a sensitive code, and leaves at the
    end of the last one, or as soon as the row below takes it. The row takes the next pixel in the very cycle in which one leaves:
    ``ready`` is combinational from the last row up.

    Parameters
    ----------
    row : which of the ``lanes * group`` rows

    Members
    -------
    pixel : In, stream of pixels with the codes of this row and those below; below : Out, the same for the next row
    above : In, partial sums of the row above, in the cycle after the pixel came
    load, weights : In, to registers ``which`` of all elements
    partials : Out, 2 * columns sums, in the cycle after the pixel left
    holds, works : Out, a pixel is here; and it is worked on
    """

    def __init__(self, config: Config, row: int):
        self.config, self.row = config, row
        elements = 2 * config.columns
        left = config.word - row
        super().__init__({
            "pixel": In(stream.Signature(pixel_layout(left))),
            "below": Out(stream.Signature(pixel_layout(left - 1))),
            "above": In(data.ArrayLayout(signed(partial_bits(config, row - 1)), elements)),
            "load": In(2),
            "weights": In(data.ArrayLayout(Weight, elements)),
            "partials": Out(data.ArrayLayout(signed(partial_bits(config, row)), elements)),
            "holds": Out(1),
            "works": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        held = Signal(self.pixel.payload.shape(), reset_less=True)
        valid, finished, phase = Signal(), Signal(), Signal(2)
        # Phases: high * high, then what only a sensitive code has. Bit 0: the code's low nibble, bit 1: the weight's.
        ends = Signal()
        code = held.codes[0]
        m.d.comb += [
            ends.eq((phase == 3) | ~held.sensitive[0]),
            self.holds.eq(valid), self.works.eq(valid & ~finished),
            self.below.valid.eq(valid & (finished | ends)),
            self.below.payload.which.eq(held.which), self.below.payload.sensitive.eq(held.sensitive[1:]),
            *(mine.eq(held.codes[n + 1]) for n, mine in enumerate(self.below.payload.codes)),
            self.pixel.ready.eq(~valid | (self.below.valid & self.below.ready)),
        ]
        with m.If(self.pixel.ready):
            m.d.sync += [valid.eq(self.pixel.valid), finished.eq(0), phase.eq(0)]
            with m.If(self.pixel.valid):
                m.d.sync += held.eq(self.pixel.payload)
        with m.Elif(ends):
            m.d.sync += finished.eq(1)
        with m.Else():
            m.d.sync += phase.eq(phase + 1)
        # Who waits adds nothing, which costs less than registers that can be held.
        magnitude = Signal(4)
        m.d.comb += magnitude.eq(Mux(self.works, Mux(phase[0], code.low, code.high), 0))
        for n in range(2 * self.config.columns):
            element = m.submodules[f"element_{n}"] = DrqElement(above_bits=partial_bits(self.config, self.row - 1), bits=partial_bits(self.config, self.row))
            m.d.comb += [
                element.magnitude.eq(magnitude), element.negative.eq(code.negative), element.high_code.eq(~phase[0]), element.high_weight.eq(~phase[1]),
                element.which.eq(held.which), element.first.eq(self.works & (phase == 0)),
                element.load.eq(self.load), element.weight.eq(self.weights[n]), element.above.eq(self.above[n]), self.partials[n].eq(element.partial),
            ]
        return m
