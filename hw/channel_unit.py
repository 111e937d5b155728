"""Channel unit: maximum, sum and weighted sum over a window, channel by channel, on whole words of plain 8-bit codes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.controller import beat_layout, step_layout
from hw.types import Slot, layer_layout, word_layout
from sdp.config import KERNEL_MAX, Config
from sdp.program import Kind

SUM_BITS = (255 * 128 * KERNEL_MAX * KERNEL_MAX).bit_length() + 1


class ChannelUnit(wiring.Component):
    """One word of codes per cycle and window tap; the result goes to the output stage.

    Outside of the image a maximum sees nothing (a window wholly outside yields 0) and a sum sees zeros. A depthwise convolution multiplies
    each code with the 8-bit weight that the nibbles of its slot are: its lane is a plain 9 x 8 bit multiplier.

    Contract: in a cycle with ``step.valid`` (of a pooling layer) the ``word`` enters; ``step.first`` begins a window, ``step.last`` ends
    it: in the next cycle ``captured`` is high, and ``result`` stands from the cycle after that until the next ``captured``.

    Members
    -------
    layer, beat, step, ahead : In, see ``Controller``; word : In
    weight_enable, weight_address : Out, to the weight memory; slots : In, its data for column 0, one cycle later
    captured : Out; result : Out, ``lanes * group`` sums, two's complement
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "layer": In(layer_layout(config)),
            "beat": In(beat_layout(config)),
            "step": In(step_layout(config)),
            "ahead": In(step_layout(config)),
            "word": In(word_layout(config)),
            "weight_enable": Out(1),
            "weight_address": Out(bits_for(config.weight_words - 1)),
            "slots": In(data.ArrayLayout(Slot, config.word)),
            "captured": Out(1),
            "result": Out(data.ArrayLayout(signed(SUM_BITS), config.word)),
        })

    def elaborate(self, platform):
        m = Module()
        enter, maximum, depthwise = Signal(), Signal(), Signal()
        seen = Signal()
        m.d.comb += [
            enter.eq(self.step.valid & (self.layer.kind != Kind.CONV)),
            maximum.eq(self.layer.kind == Kind.MAX),
            depthwise.eq(self.layer.kind == Kind.DEPTHWISE),
            self.weight_enable.eq(self.ahead.valid & depthwise),
            self.weight_address.eq(self.ahead.weight_address),
        ]
        m.d.sync += self.captured.eq(enter & self.step.last)
        with m.If(enter):
            m.d.sync += seen.eq(self.beat.inside | (seen & ~self.step.first))
        for i in range(self.config.word):
            byte, slot = self.word[i], self.slots[i]
            code, weight, best = Signal(signed(9), name=f"code_{i}"), Signal(signed(8), name=f"weight_{i}"), Signal(name=f"best_{i}")
            value, tap = Signal(signed(SUM_BITS), name=f"value_{i}"), Signal(signed(17), name=f"tap_{i}")
            m.d.comb += [
                code.eq(Cat(byte, self.layer.in_signed & byte[7])),
                weight.eq(Mux(depthwise, Cat(slot.low.nibble, slot.high.nibble).as_signed(), 1)),
                tap.eq(code * weight),
                best.eq(self.beat.inside & (~seen | (code > value))),
            ]
            with m.If(enter):
                with m.If(self.step.first):
                    m.d.sync += value.eq(tap)
                with m.Elif(~maximum):
                    m.d.sync += value.eq(value + tap)
                with m.Elif(best):
                    m.d.sync += value.eq(code)
            with m.If(self.captured):
                m.d.sync += self.result[i].eq(value)
        return m
