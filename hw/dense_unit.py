"""Dense arrays in the shell: every code times every weight, with the members of ``ConvolutionUnit``.

``int4``: nibbles of codes, with a sign, times 4-bit weights, two sums per column. A code of 8 bits takes two cycles, a weight of 8 bits both
multipliers of its column, its lower nibble unsigned. ``int8`` and ``int16``: whole codes times whole weights, one sum per column.
"""

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.controller import step_layout
from hw.convolution_unit import OperandBuffer, convolution_members
from hw.types import sums_layout
from sdp.config import Config
from sdp.program import Kind


@dataclass(frozen=True)
class Format:
    """What an element multiplies: an operand with each of ``weights``, a sum for each. ``nibbles``: operands are halves of codes."""

    operand: Shape
    weights: dict[str, Shape]
    nibbles: bool = False


FORMATS = {
    "int4": Format(signed(5), {"low": signed(5), "high": signed(4)}, nibbles=True),
    "int8": Format(signed(9), {"low": signed(8)}),
    "int16": Format(signed(16), {"low": signed(16)}),
}


class DenseProcessingElement(wiring.Component):
    """``sums[w] += sum over lanes of operand * weight[w]``, times 16 with ``high``; ``first``, ``capture`` and ``shift`` as in ``ProcessingElement``.

    Latency: a product is in ``sums`` one cycle later. Throughput: ``lanes`` operands per cycle.

    Members
    -------
    operands : In, one per lane; weights : In, those of the lanes' codes
    chain : In, ``drain`` of the next row; drain : Out, captured sums; that of a column with one sum has zeros for the other
    """

    def __init__(self, config: Config):
        self.config, self.format = config, FORMATS[config.array]
        super().__init__({
            "operands": In(data.ArrayLayout(self.format.operand, config.lanes)),
            "weights": In(data.ArrayLayout(data.StructLayout(self.format.weights), config.lanes)),
            **({"high": In(1)} if self.format.nibbles else {}),
            "first": In(1), "capture": In(1), "shift": In(1), "chain": In(sums_layout(config)), "drain": Out(sums_layout(config)),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, bits = range(self.config.lanes), self.config.accumulator_bits
        layout = data.StructLayout(dict.fromkeys(self.format.weights, signed(bits)))
        sums, captured = (Signal(layout, reset_less=True, name=name) for name in ("sums", "captured"))
        for name in self.format.weights:
            # Left in one expression: Yosys compresses all partial products in one tree, which is smaller than a multiplier for each.
            step = sum(self.operands[lane] * self.weights[lane][name] for lane in lanes)
            if self.format.nibbles:
                products = Signal(step.shape(), name=f"products_{name}")
                m.d.comb += products.eq(step)
                step = Mux(self.high, products << 4, products)
            base = Signal(signed(bits), name=f"base_{name}")
            m.d.comb += [base.eq(Mux(self.first, 0, sums[name])), self.drain[name].eq(captured[name])]
            m.d.sync += sums[name].eq(base + step)
            with m.If(self.capture):
                m.d.sync += captured[name].eq(sums[name])
            with m.Elif(self.shift):
                m.d.sync += captured[name].eq(self.chain[name])
        return m


class DenseMacArray(wiring.Component):
    """``MacArray`` with dense elements: rows share a column's weights, columns share a row's operands.

    Members
    -------
    operands : In, rows x lanes; weights : In, columns x lanes; high, first, capture, shift : In, see ``DenseProcessingElement``
    drain : Out, columns x two sums, of the row whose turn it is
    """

    def __init__(self, config: Config):
        self.config, form = config, FORMATS[config.array]
        super().__init__({
            "operands": In(data.ArrayLayout(data.ArrayLayout(form.operand, config.lanes), config.rows)),
            "weights": In(data.ArrayLayout(data.ArrayLayout(data.StructLayout(form.weights), config.lanes), config.columns)),
            **({"high": In(1)} if form.nibbles else {}),
            "first": In(1), "capture": In(1), "shift": In(1), "drain": Out(data.ArrayLayout(sums_layout(config), config.columns)),
        })

    def elaborate(self, platform):
        m = Module()
        for column in range(self.config.columns):
            below = None
            for row in reversed(range(self.config.rows)):
                pe = m.submodules[f"pe_{row}_{column}"] = DenseProcessingElement(self.config)
                m.d.comb += [pe.operands.eq(self.operands[row]), pe.weights.eq(self.weights[column])]
                m.d.comb += [getattr(pe, name).eq(getattr(self, name)) for name in ("high", "first", "capture", "shift") if hasattr(self, name)]
                if below is not None:
                    m.d.comb += pe.chain.eq(below)
                below = pe.drain
            m.d.comb += self.drain[column].eq(below)
        return m


class DenseUnit(wiring.Component):
    """From words read to finished sums: a code per lane and row, the same one of its group in all of them, with the columns' weights for it.

    A step takes ``budget`` cycles: ``group``, or in ``int4`` twice as many, low nibble of a code, then high nibble. Timing and contract are those
    of ``ConvolutionUnit``. The step's word of weights stands at the memory's output; those of the code are registered with it.

    Members
    -------
    As in ``ConvolutionUnit``; terms : Out, operands that are not zero
    """

    def __init__(self, config: Config):
        self.config, self.format = config, FORMATS[config.array]
        super().__init__(convolution_members(config, config.rows * config.lanes))

    def elaborate(self, platform):
        m = Module()
        config, group, lanes, nibbles = self.config, self.config.group, self.config.lanes, self.format.nibbles
        m.submodules.operands = staged = OperandBuffer(config, magnitude=nibbles)
        m.submodules.array = array = DenseMacArray(config)
        m.d.comb += [staged.beat.eq(self.beat), staged.words.eq(self.words), staged.signed.eq(self.layer.in_signed), staged.tail.eq(self.layer.in_tail)]

        # One step at a time: load, then `budget` cycles. The next load may fall on the last of them.
        loading, current = Signal(step_layout(config)), Signal(step_layout(config))
        budget = self.layer.budget if nibbles else group
        left, index, high = Signal(range(2 * group + 1)), Signal(range(group)), Signal()
        take, begins, ends, moves = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [loading.eq(self.step), loading.valid.eq(self.step.valid & (self.layer.kind == Kind.CONV))]
        m.d.comb += [take.eq(left != 0), begins.eq(take & (left == budget)), ends.eq(left == 1)]
        if nibbles:
            # Two cycles to a code: what is left is odd in the second.
            double = Signal()
            m.d.sync += double.eq(self.layer.budget != group)
            m.d.comb += [high.eq(double & left[0]), moves.eq(~double | left[0])]
        else:
            m.d.comb += moves.eq(1)
        with m.If(take):
            m.d.sync += [left.eq(left - 1), index.eq(index + moves)]
        with m.If(loading.valid):
            m.d.sync += [left.eq(budget), index.eq(0), current.eq(loading)]
        m.d.comb += [self.weight_enable.eq(loading.valid), self.weight_address.eq(loading.weight_address)]
        took, finished = Signal(name="took"), Signal(name="finished")
        m.d.sync += [array.first.eq(begins & current.first), took.eq(take), finished.eq(ends & current.last), self.captured.eq(finished)]
        m.d.comb += [array.capture.eq(self.captured), array.shift.eq(self.shift), self.drain.eq(array.drain)]
        if nibbles:
            m.d.sync += array.high.eq(high)

        # The operand registers shift: the code of the cycle is always in the same place.
        operands = Signal.like(array.operands, name="operands", reset_less=True)
        m.d.comb += array.operands.eq(operands)
        for row in range(config.rows):
            for lane in range(lanes):
                codes = staged.codes[row].as_value().word_select(lane, 9 * group)
                held, code = Signal(9 * group, name=f"held_{row}_{lane}", reset_less=True), Signal(self.format.operand, name=f"code_{row}_{lane}")
                with m.If(loading.valid):
                    m.d.sync += held.eq(codes)
                with m.Elif(moves):
                    m.d.sync += held.eq(held[9:])
                if nibbles:
                    nibble = Signal(4, name=f"nibble_{row}_{lane}")
                    m.d.comb += [nibble.eq(Mux(high, held[4:8], held[:4])), code.eq(Mux(held[8], -nibble, nibble))]
                else:
                    m.d.comb += code.eq(held[:9].as_signed())
                m.d.sync += operands[row][lane].eq(Mux(take, code, 0))
        terms = (operands[row][lane] != 0 for row in range(config.rows) for lane in range(lanes))
        m.d.sync += [self.terms.eq(sum(terms)), self.slots.eq(Mux(took, config.rows * lanes, 0))]

        for column, lane in ((c, n) for c in range(config.columns) for n in range(lanes)):
            slots, weights = self.weights.word_select(column * lanes + lane, config.slot_bits * group), array.weights[column][lane]
            slot = Signal(config.slot_bits, name=f"slot_{column}_{lane}", reset_less=True)
            m.d.sync += slot.eq(slots.word_select(index, config.slot_bits))
            if nibbles:
                m.d.comb += [weights.low.eq(Cat(slot[:4], self.layer.w4 & slot[3]).as_signed()), weights.high.eq(slot[4:].as_signed())]
            else:
                m.d.comb += weights.low.eq(slot.as_signed())
        return m
