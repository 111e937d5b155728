"""Convolution unit: staged operands, a term selector per row and lane, and the MAC array, in step."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.controller import beat_layout, step_layout
from hw.mac_array import MacArray
from hw.term_select import TermSelector
from hw.types import Code, layer_layout, sums_layout, term_layout, word_layout
from sdp.config import Config
from sdp.program import Kind


class OperandBuffer(wiring.Component):
    """Staging: collects the words of a step, ``ports`` at a time, while the selectors work on the step before.

    Bytes become sign and magnitude here, once per word read and not once per selector, and codes past the last channel become zero.

    Members
    -------
    beat, words : In, see ``Controller``; signed : In; tail : In, valid codes in the last channel word
    codes : Out, rows x (lanes * group) codes, registered

    Parameters
    ----------
    magnitude : codes as sign and magnitude; else their nine bits are two's complement
    """

    def __init__(self, config: Config, *, magnitude: bool = True):
        self.config, self.magnitude = config, magnitude
        super().__init__({
            "beat": In(beat_layout(config)),
            "words": In(data.ArrayLayout(word_layout(config), config.ports)),
            "signed": In(1),
            "tail": In(bits_for(config.word)),
            "codes": Out(data.ArrayLayout(data.ArrayLayout(Code, config.word), config.rows)),
        })

    def elaborate(self, platform):
        m = Module()
        ports, word = self.config.ports, self.config.word
        keep, staged = Signal(word), Signal.like(self.codes, name="staged", reset_less=True)
        m.d.comb += self.codes.eq(staged)
        m.d.comb += [keep[i].eq(~self.beat.tail | (i < self.tail)) for i in range(word)]
        for port in range(ports):
            codes = Signal(data.ArrayLayout(Code, word), name=f"codes_{port}")
            for i in range(word):
                byte, negative, magnitude = self.words[port][i], Signal(name=f"negative_{port}_{i}"), Signal(8, name=f"magnitude_{port}_{i}")
                m.d.comb += [
                    negative.eq(self.signed & byte[7]),
                    magnitude.eq(Mux(negative, -byte, byte) if self.magnitude else byte),
                ]
                with m.If(keep[i]):
                    m.d.comb += [codes[i].negative.eq(negative), codes[i].high.eq(magnitude[4:]), codes[i].low.eq(magnitude[:4])]
            for strip in range(self.config.rows // ports):
                with m.If(self.beat.rows[port] & (self.beat.strip == strip)):
                    m.d.sync += staged[strip * ports + port].eq(codes)
        return m


def convolution_members(config: Config, slots: int) -> dict:
    """The signature of what computes convolutions in the shell, of whatever array; ``slots``: terms that may enter it in a cycle."""
    return {
        "layer": In(layer_layout(config)),
        "beat": In(beat_layout(config)),
        "words": In(data.ArrayLayout(word_layout(config), config.ports)),
        "step": In(step_layout(config)),
        "weight_enable": Out(1),
        "weight_address": Out(bits_for(config.weight_words - 1)),
        "weights": In(config.weight_bits),
        "captured": Out(1),
        "shift": In(1),
        "drain": Out(data.ArrayLayout(sums_layout(config), config.columns)),
        "terms": Out(bits_for(slots)),
        "slots": Out(bits_for(slots)),
    }


class ConvolutionUnit(wiring.Component):
    """From words read to finished sums.

    In the cycle after ``step`` the selectors load and the weights of the step are read; then the selectors give ``budget`` terms, one per
    cycle, while the weights stand in their register. After the last term of a tile ``captured`` is high for a cycle, and the tile's sums can be drained.

    Latency: ``golden.cycles``: ``step`` is READ_STAGES - 1 cycles behind the issue of the read; ``captured`` follows the last term's issue by
    SELECT_STAGES + CAPTURE_STAGES - 1 cycles.

    Members
    -------
    layer : In; beat, words, step : In, from ``Controller`` and ``ActivationMemory``
    weight_enable, weight_address : Out, to the weight memory; weights : In, its data, one cycle later
    captured : Out; shift : In; drain : Out, see ``MacArray``
    terms, slots : Out, non-empty terms that entered the array in this cycle, and how many could have
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(convolution_members(config, config.rows * config.lanes))

    def elaborate(self, platform):
        m = Module()
        config, group, lanes = self.config, self.config.group, self.config.lanes
        m.submodules.operands = operands = OperandBuffer(config)
        m.submodules.array = array = MacArray(config)
        # The memory answers late in its cycle: what it says is for the next one.
        weights = Signal(config.weight_bits, reset_less=True)
        m.d.sync += weights.eq(self.weights)
        m.d.comb += [
            operands.beat.eq(self.beat), operands.words.eq(self.words),
            operands.signed.eq(self.layer.in_signed), operands.tail.eq(self.layer.in_tail),
            array.weights.eq(weights), array.shift.eq(self.shift), self.drain.eq(array.drain),
        ]

        # One step at a time: load, then `budget` cycles of terms. The next load may fall on the last of them.
        loading, current = Signal(step_layout(config)), Signal(step_layout(config))
        left = Signal(range(2 * group + 1))
        take, begins, ends = Signal(), Signal(), Signal()
        m.d.sync += [loading.eq(self.step), loading.valid.eq(self.step.valid & (self.layer.kind == Kind.CONV))]
        m.d.comb += [take.eq(left != 0), begins.eq(take & (left == self.layer.budget)), ends.eq(left == 1)]
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.If(loading.valid):
            m.d.sync += [left.eq(self.layer.budget), current.eq(loading)]
        m.d.comb += [self.weight_enable.eq(loading.valid), self.weight_address.eq(loading.weight_address)]
        took, finished = Signal(), Signal()
        m.d.sync += [array.first.eq(begins & current.first), took.eq(take), finished.eq(ends & current.last), self.captured.eq(finished)]
        m.d.comb += array.capture.eq(self.captured)

        terms = []
        for row in range(config.rows):
            for lane in range(lanes):
                selector = m.submodules[f"selector_{row}_{lane}"] = TermSelector(group=group)
                term = Signal(term_layout(group), name=f"term_{row}_{lane}")
                m.d.comb += [
                    *(selector.codes[i].eq(operands.codes[row][lane * group + i]) for i in range(group)),
                    selector.load.eq(loading.valid), selector.take.eq(take),
                    term.eq(selector.term), array.terms[row][lane].eq(term),
                ]
                terms.append(term.magnitude != 0)
        m.d.sync += [self.terms.eq(sum(terms)), self.slots.eq(Mux(took, config.rows * lanes, 0))]
        return m
