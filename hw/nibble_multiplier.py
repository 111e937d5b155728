"""Nibble multiplier: a term times a digit of a weight, both as sign and magnitude."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.multiply import times
from hw.types import digit_layout, product_shape
from sdp.config import Config


class NibbleMultiplier(wiring.Component):
    """A term (-15 ... 15, times 16 where it is a high nibble) times a digit (-15 ... 15, or -8 ... 7 where it has four bits), combinational.

    Signs are left to the adders: a negative product is the complement of its magnitude, ``product + negative`` its value, and the missing
    one goes in where an adder has a carry input to spare.

    A component of its own, so that synthesis maps it once and cannot duplicate it.
    """

    def __init__(self, config: Config):
        self.digit_bits = config.array_kind.digit_bits
        super().__init__({"magnitude": In(4), "negative_term": In(1), "high": In(1), "digit": In(digit_layout(config)),
                          "product": Out(product_shape(config)), "negative": Out(1)})

    def elaborate(self, platform):
        m = Module()
        product = getattr(platform, "times", lambda m, name, a, b: times(a, b))(m, "small", self.magnitude, self.digit.magnitude)
        low, negative, small = self.magnitude, self.negative, Signal(self.digit_bits + 3)
        m.d.comb += [negative.eq(self.negative_term ^ self.digit.negative), small.eq(product)]
        if self.digit_bits == 4:
            eight = Signal()
            m.d.comb += [eight.eq(self.digit.negative & ~self.digit.magnitude.any()),
                         small.eq(product | (low & eight.replicate(4)) << 3)]
        shifted = Mux(self.high, small << 4, small)
        m.d.comb += self.product.eq(Cat(shifted ^ negative.replicate(len(shifted)), negative))
        return m
