"""Processing element: ``lanes`` terms per cycle times both digits of their weights, into two accumulators."""

import functools
import operator

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.nibble_multiplier import NibbleMultiplier
from hw.types import product_shape, slot_layout, sums_layout, term_layout
from sdp.config import Config


def add(a: Value, b: Value, carry: Value) -> Value:
    """``a + b + carry`` with one adder: a bit below the lowest of both makes the carry."""
    return Cat(carry, a).as_signed() + Cat(carry, b).as_signed() >> 1


def select(m: Module, name: str, words: list[Value], chosen: Value) -> Value:
    """The word whose bit of ``chosen`` is set; 0 if none is."""
    return functools.reduce(operator.or_, (word & bit.replicate(len(word)) for word, bit in zip(words, chosen, strict=True)))


def accumulate(m: Module, name: str, before: Value, first: Value, step: Value, carry: Value) -> Value:
    """``step + carry``, plus ``before`` unless ``first``; as wide as ``before``."""
    total, base = Signal(signed(len(before)), name=f"total_{name}"), Signal(signed(len(before)), name=f"base_{name}")
    m.d.comb += [base.eq(Mux(first, 0, before)), total.eq(add(base, step, carry))]
    return total


class ProcessingElement(wiring.Component):
    """One output pixel (row) of one column: output stationary.

    ``sums.low += sum over lanes of term * low digit``, ``sums.high`` likewise. The weight slot is the one that the term
    selects within its lane's group. There is no precision mode: what the two sums mean is decided where they are read.

    Contract: in a cycle with ``first`` the sums start anew from this cycle's products. Empty terms (magnitude 0) leave them as they are.
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
            "slots": In(data.ArrayLayout(slot_layout(config), config.word)),
            "first": In(1),
            "capture": In(1),
            "shift": In(1),
            "chain": In(sums_layout(config)),
            "drain": Out(sums_layout(config)),
        })

    def _sum(self, m: Module, name: str, products: list[tuple[Value, Value]], first: int = 0) -> tuple[Value, Value]:
        """Sum of products, the missing ones of their signs added but for the last, which is returned with it."""
        if len(products) == 1:
            return products[0]
        half, last = (len(products) + 1) // 2, first + len(products) - 1
        (left, owed), (right, still) = (self._sum(m, name, part, at) for part, at in ((products[:half], first), (products[half:], first + half)))
        bits = product_shape(self.config).width + bits_for(len(products) - 1)
        partial = Signal(signed(bits), name=f"partial_{name}_{last}" if first == 0 else f"partial_{name}_{first}_{last}")
        m.d.comb += partial.eq(add(left, right, owed))
        return partial, still

    def elaborate(self, platform):
        m = Module()
        group = self.config.group
        # A platform may have better for its device: `synth.ecp5.platform`.
        choose, accumulated = getattr(platform, "select", select), getattr(platform, "accumulate", accumulate)
        # Every sum begins with `first` and every captured one with `capture`: nothing depends on a reset.
        sums = Signal(sums_layout(self.config), reset_less=True)
        drain = Signal(sums_layout(self.config), reset_less=True)
        products = {"low": [], "high": []}
        for lane in range(self.config.lanes):
            term = self.terms[lane]
            slot = Signal(slot_layout(self.config), name=f"slot_{lane}")
            words = [self.slots[lane * group + i].as_value() for i in range(group)]
            m.d.comb += slot.as_value().eq(choose(m, f"slot_{lane}", words, term.select))
            for name in products:
                multiplier = m.submodules[f"multiplier_{lane}_{name}"] = NibbleMultiplier(self.config)
                m.d.comb += [multiplier.magnitude.eq(term.magnitude), multiplier.negative_term.eq(term.negative),
                             multiplier.high.eq(term.high), multiplier.digit.eq(slot[name])]
                products[name].append(multiplier)
        for name, multipliers in products.items():
            # The lanes' products first, with few bits, as a tree; each adder takes the sign that its left side still owes, the wide one the last.
            step, owed = self._sum(m, name, [(multiplier.product, multiplier.negative) for multiplier in multipliers])
            m.d.sync += sums[name].eq(accumulated(m, name, sums[name], self.first, step, owed))
        m.d.comb += self.drain.eq(drain)
        with m.If(self.capture):
            m.d.sync += drain.eq(sums)
        with m.Elif(self.shift):
            m.d.sync += drain.eq(self.chain)
        return m
