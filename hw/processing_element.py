"""Processing element: ``lanes`` terms per cycle times both digits of their weights, into two accumulators."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.types import Slot, sums_layout, term_layout
from sdp.config import Config


class NibbleMultiplier(wiring.Component):
    """``product = value * nibble * 4**(2 * high + flag)``: a term (-15 ... 15) times a digit, combinational.

    A component of its own, so that synthesis maps it once and cannot duplicate it.
    """

    def __init__(self):
        super().__init__({"value": In(signed(5)), "high": In(1), "nibble": In(signed(4)), "flag": In(1), "product": Out(signed(14))})

    def elaborate(self, platform):
        m = Module()
        small, by_flag = Signal(signed(8)), Signal(signed(10))
        m.d.comb += [
            small.eq(self.value * self.nibble),
            by_flag.eq(Mux(self.flag, small << 2, small)),
            self.product.eq(Mux(self.high, by_flag << 4, by_flag)),
        ]
        return m


class ProcessingElement(wiring.Component):
    """One output pixel (row) of one column: output stationary.

    ``sums.low += sum over lanes of term * low digit``, ``sums.high`` likewise. The weight slot is the one that the term's
    index names within its lane's group. There is no precision mode: what the two sums mean is decided where they are read.

    Contract: in a cycle with ``first`` the sums start anew from this cycle's products. Empty terms (value 0) leave them as they are.
    ``capture`` copies the sums to ``drain`` at the end of its cycle, ``shift`` moves ``drain`` on from ``chain``.

    Latency: a term is in ``sums`` one cycle later. Throughput: ``lanes`` terms per cycle.

    Members
    -------
    terms : In, ``lanes`` terms
    slots : In, ``lanes * group`` weight slots
    chain : In, ``drain`` of the next row; drain : Out, captured sums, two's complement
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "terms": In(data.ArrayLayout(term_layout(config.group), config.lanes)),
            "slots": In(data.ArrayLayout(Slot, config.word)),
            "first": In(1),
            "capture": In(1),
            "shift": In(1),
            "chain": In(sums_layout(config)),
            "drain": Out(sums_layout(config)),
        })

    def elaborate(self, platform):
        m = Module()
        group, bits = self.config.group, self.config.accumulator_bits
        sums = Signal(sums_layout(self.config))
        products = {"low": [], "high": []}
        for lane in range(self.config.lanes):
            term = self.terms[lane]
            slot = Signal(Slot, name=f"slot_{lane}")
            with m.Switch(term.index):
                for i in range(group):
                    with m.Case(i):
                        m.d.comb += slot.eq(self.slots[lane * group + i])
            for name in products:
                multiplier = m.submodules[f"multiplier_{lane}_{name}"] = NibbleMultiplier()
                digit = slot[name]
                m.d.comb += [multiplier.value.eq(term.value), multiplier.high.eq(term.high),
                             multiplier.nibble.eq(digit.nibble), multiplier.flag.eq(digit.flag)]
                products[name].append(multiplier.product)
        for name in products:
            total, base = Signal(signed(bits), name=f"total_{name}"), Signal(signed(bits), name=f"base_{name}")
            m.d.comb += [base.eq(Mux(self.first, 0, sums[name])), total.eq(base + sum(products[name]))]
            m.d.sync += sums[name].eq(total)
        with m.If(self.capture):
            m.d.sync += self.drain.eq(sums)
        with m.Elif(self.shift):
            m.d.sync += self.drain.eq(self.chain)
        return m
