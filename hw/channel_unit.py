"""Channel unit: maximum, sum and weighted sum over a window, channel by channel, on whole words of plain 8-bit codes."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from golden import cycles
from hw.controller import beat_layout, step_layout
from hw.types import layer_layout, slot_layout, word_layout
from sdp.config import KERNEL_MAX, Config
from sdp.program import Kind

SUM_BITS = (255 * 128 * KERNEL_MAX * KERNEL_MAX).bit_length() + 1


class ChannelLane(wiring.Component):
    """One channel: ``tap = code * weight``, registered; the next cycle, with ``enter``, adds it to the window's value or compares it.

    A component of its own, so that synthesis maps it once.

    Members
    -------
    code, in_signed, weight : In; enter, first, maximum, present, seen : In, one cycle later; captured : In; result : Out, the value at ``captured``
    """

    def __init__(self):
        super().__init__({
            "code": In(8), "in_signed": In(1), "weight": In(signed(8)),
            "enter": In(1), "first": In(1), "maximum": In(1), "present": In(1), "seen": In(1), "captured": In(1), "result": Out(signed(SUM_BITS)),
        })

    def elaborate(self, platform):
        m = Module()
        # Every window begins with `first`: nothing depends on a reset.
        tap, value, result = (Signal(shape, name=name, reset_less=True) for name, shape in (
            ("tap", signed(17)), ("value", signed(SUM_BITS)), ("shown", signed(SUM_BITS))))
        m.d.comb += self.result.eq(result)
        m.d.sync += tap.eq(Cat(self.code, self.in_signed & self.code[7]).as_signed() * self.weight)
        # For a maximum, taps are codes: nine bits.
        best = self.present & (~self.seen | (tap[:9].as_signed() > value[:9].as_signed()))
        with m.If(self.enter):
            with m.If(self.first):
                m.d.sync += value.eq(tap)
            with m.Elif(~self.maximum):
                m.d.sync += value.eq(value + tap)
            with m.Elif(best):
                m.d.sync += value.eq(tap)
        with m.If(self.captured):
            m.d.sync += result.eq(value)
        return m


class ChannelUnit(wiring.Component):
    """One word of codes per cycle and window tap; the result goes to the output stage.

    Outside of the image a maximum sees nothing (a window wholly outside yields 0) and a sum sees zeros. A depthwise convolution multiplies
    each code with the 8-bit weight that the nibbles of its slot are: its lane is a plain 9 x 8 bit multiplier.

    Contract: in a cycle with ``step.valid`` (of a pooling layer) the ``word`` enters; ``step.first`` begins a window, ``step.last`` ends
    it: ``latency`` cycles later ``captured`` is high, and ``result`` stands from the cycle after that until the next ``captured``.

    Members
    -------
    layer, beat, step, ahead : In, see ``Controller``; word : In
    weight_enable, weight_address : Out, to the weight memory; slots : In, its data for column 0, one cycle later
    captured : Out; result : Out, ``lanes * group`` sums, two's complement
    """

    latency = cycles.CHANNEL_STAGES - cycles.READ_STAGES

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
            "slots": In(data.ArrayLayout(slot_layout(config), config.word)),
            "captured": Out(1),
            "result": Out(data.ArrayLayout(signed(SUM_BITS), config.word)),
        })

    def elaborate(self, platform):
        m = Module()
        enter, depthwise, inside, seen = Signal(), Signal(), Signal(), Signal()
        step = Signal(step_layout(self.config))
        m.d.comb += [
            depthwise.eq(self.layer.kind == Kind.DEPTHWISE),
            self.weight_enable.eq(self.ahead.valid & depthwise),
            self.weight_address.eq(self.ahead.weight_address),
        ]
        # The taps are registered, and what belongs to them.
        m.d.sync += [
            enter.eq(self.step.valid & (self.layer.kind != Kind.CONV)), step.eq(self.step), inside.eq(self.beat.inside),
            self.captured.eq(enter & step.last),
        ]
        with m.If(enter):
            m.d.sync += seen.eq(inside | (seen & ~step.first))
        for i in range(self.config.word):
            lane, slot = ChannelLane(), self.slots[i]
            m.submodules[f"channel_lane_{i}"] = lane
            m.d.comb += [
                lane.code.eq(self.word[i]), lane.in_signed.eq(self.layer.in_signed),
                lane.weight.eq(Mux(depthwise, Cat(slot.low.as_value()[:4], slot.high.as_value()[:4]), 1)),
                lane.enter.eq(enter), lane.first.eq(step.first), lane.maximum.eq(self.layer.kind == Kind.MAX),
                lane.present.eq(inside), lane.seen.eq(seen), lane.captured.eq(self.captured), self.result[i].eq(lane.result),
            ]
        return m
