"""Dense INT4 array: what a sceptic would build instead. The same rows, columns and lanes, every code's nibble times every weight's.

The measure of what dynamic precision costs in silicon: the same staging, the same output-stationary sums, the same drain, and nothing
else. Weights are -8 ... 7. Codes are unsigned, 0 ... 15: signed tensors are stored with an offset of 8, which the bias takes back, so that the
multiplier needs no fifth bit (4 x 4 signed is a quarter larger).
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.controller import beat_layout, step_layout
from hw.multiply import times
from hw.types import layer_layout, word_layout
from sdp.config import Config
from sdp.program import Kind

BITS = 4
"""Of codes and of weights."""


def dense_accumulator_bits(config: Config) -> int:
    """Two's complement width that holds any sum of ``reduction`` products, at most 15 * 8 each."""
    return (15 * 8 * config.reduction).bit_length() + 1


def dense_sums_layout(config: Config) -> data.ArrayLayout:
    """The two accumulators of an element: two output channels."""
    return data.ArrayLayout(signed(dense_accumulator_bits(config)), 2)


def dense_weights_layout(config: Config) -> data.ArrayLayout:
    """The weights of one cycle: columns x lanes x two channels."""
    return data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(signed(BITS), 2), config.lanes), config.columns)


class DenseElement(wiring.Component):
    """``sums[c] += sum over lanes of code * weight[c]``, for two output channels; ``first``, ``capture`` and ``shift`` as in ``ProcessingElement``.

    Latency: a product is in ``sums`` one cycle later. Throughput: ``lanes`` codes per cycle.

    Members
    -------
    codes : In, lanes codes; weights : In, lanes x two weights
    chain : In, ``drain`` of the next row; drain : Out, captured sums
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "codes": In(data.ArrayLayout(BITS, config.lanes)), "weights": In(dense_weights_layout(config).elem_shape),
            "first": In(1), "capture": In(1), "shift": In(1), "chain": In(dense_sums_layout(config)), "drain": Out(dense_sums_layout(config)),
        })

    def elaborate(self, platform):
        m = Module()
        sums, drain = (Signal(dense_sums_layout(self.config), reset_less=True, name=name) for name in ("sums", "held"))
        for channel in range(2):
            base = Signal(signed(dense_accumulator_bits(self.config)), name=f"base_{channel}")
            m.d.comb += base.eq(Mux(self.first, 0, sums[channel]))
            # Left in one expression: Yosys compresses all partial products in one tree, which is smaller than a multiplier for each.
            m.d.sync += sums[channel].eq(base + sum(times(self.codes[lane], self.weights[lane][channel]) for lane in range(self.config.lanes)))
        with m.If(self.capture):
            m.d.sync += drain.eq(sums)
        with m.Elif(self.shift):
            m.d.sync += drain.eq(self.chain)
        m.d.comb += self.drain.eq(drain)
        return m


class DenseArray(wiring.Component):
    """``rows`` output pixels times ``2 * columns`` output channels, and what feeds it; the counterpart of ``ConvolutionUnit``.

    A step takes ``group`` cycles: each brings a code per lane and row, and the weights for it.

    Members
    -------
    As in ``ConvolutionUnit``; the weight memory holds ``group`` words per step, of ``columns * lanes * 2`` weights each; codes are the lower
    halves of the bytes.
    """

    def __init__(self, config: Config):
        self.config = config
        weights = dense_weights_layout(config)
        super().__init__({
            "layer": In(layer_layout(config)), "beat": In(beat_layout(config)), "words": In(data.ArrayLayout(word_layout(config), config.ports)),
            "step": In(step_layout(config)), "weight_enable": Out(1), "weight_address": Out(bits_for(config.group * config.weight_words - 1)),
            "weights": In(weights), "captured": Out(1), "shift": In(1), "drain": Out(data.ArrayLayout(dense_sums_layout(config), config.columns)),
        })

    def elaborate(self, platform):
        m = Module()
        config, group, lanes, ports = self.config, self.config.group, self.config.lanes, self.config.ports
        codes = data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(BITS, group), lanes), config.rows)
        staged, held = (Signal(codes, name=name, reset_less=True) for name in ("staged", "operands"))
        keep = Signal(config.word)
        m.d.comb += [keep[i].eq(~self.beat.tail | (i < self.layer.in_tail)) for i in range(config.word)]
        for row in range(config.rows):
            port = row % ports
            with m.If(self.beat.rows[port] & (self.beat.strip == row // ports)):
                m.d.sync += [staged[row][i // group][i % group].eq(Mux(keep[i], self.words[port][i][:BITS], 0)) for i in range(config.word)]

        loading, current = Signal(step_layout(config)), Signal(step_layout(config))
        left, take, begins, ends = Signal(range(group + 1)), Signal(), Signal(), Signal()
        m.d.sync += [loading.eq(self.step), loading.valid.eq(self.step.valid & (self.layer.kind == Kind.CONV))]
        m.d.comb += [take.eq(left != 0), begins.eq(left == group), ends.eq(left == 1)]
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.If(loading.valid):
            m.d.sync += [left.eq(group), current.eq(loading)]
        # Read a cycle ahead, into a register, as the array of terms does and for the same reason: the memory answers late in its cycle.
        weights = Signal(dense_weights_layout(config), reset_less=True)
        m.d.sync += weights.eq(self.weights)
        m.d.comb += [
            self.weight_enable.eq(loading.valid | (left > 1)),
            self.weight_address.eq(Mux(loading.valid, loading.weight_address * group, (current.weight_address + 1) * group - left + 1)),
        ]
        first, capture, finished = Signal(), Signal(), Signal()
        m.d.sync += [first.eq(begins & current.first), finished.eq(ends & current.last), capture.eq(finished)]
        m.d.comb += self.captured.eq(capture)

        # The operand registers shift: the code of the cycle is always in the same place, one cycle late like the weights.
        feed = Signal(data.ArrayLayout(data.ArrayLayout(BITS, lanes), config.rows), reset_less=True)
        for row in range(config.rows):
            for lane in range(lanes):
                m.d.sync += feed[row][lane].eq(Mux(take, held[row][lane][0], 0))
                with m.If(loading.valid):
                    m.d.sync += held[row][lane].eq(staged[row][lane])
                with m.Else():
                    m.d.sync += [held[row][lane][i].eq(held[row][lane][i + 1]) for i in range(group - 1)]
        for column in range(config.columns):
            below = None
            for row in reversed(range(config.rows)):
                element = m.submodules[f"element_{row}_{column}"] = DenseElement(config)
                m.d.comb += [element.codes.eq(feed[row]), element.weights.eq(weights[column]), element.first.eq(first),
                             element.capture.eq(capture), element.shift.eq(self.shift)]
                if below is not None:
                    m.d.comb += element.chain.eq(below)
                below = element.drain
            m.d.comb += self.drain[column].eq(below)
        return m
