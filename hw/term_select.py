"""Term selector: the most important terms of a group, one per cycle, at run time (SDP, abstract; order of ties: ours)."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.types import Code, term_layout


class TermSelector(wiring.Component):
    """Holds a group of codes and gives away its terms, largest contribution first.

    A datum offers its high part while that is not zero, then its low part, as the five-bit key ``16 + high`` or ``low``; the largest
    key of all data is the next term, ties go to the lower index. That is the exact order of ``golden.term_select.sequence``,
    because a non-zero high part outweighs every low part. What was given away is cleared in place: the operand register is
    also the list of what is left.

    Contract: ``load`` takes ``codes`` at the end of its cycle. Each later cycle with ``take`` removes one term, which stands on
    ``term`` in the following cycle; without ``take`` the following ``term`` is empty (value 0). ``load`` may coincide with the last ``take``.

    Latency: one cycle from ``take`` to ``term``. Throughput: a term per cycle.

    Parameters
    ----------
    group : codes per group

    Members
    -------
    codes : In, ``group`` codes, sign and magnitude
    load, take : In
    term : Out, registered
    """

    latency = 1

    def __init__(self, *, group: int):
        if group < 2:
            raise ValueError(f"group must be at least 2, not {group}")
        self.group = group
        super().__init__({
            "codes": In(data.ArrayLayout(Code, group)),
            "load": In(1),
            "take": In(1),
            "term": Out(term_layout(group)),
        })

    def elaborate(self, platform):
        m = Module()
        held = Signal(data.ArrayLayout(Code, self.group))
        index_bits = len(self.term.index)

        # A binary tree of (key, index); the left entry has the lower indices and wins ties.
        level = []
        for i in range(self.group):
            key = Signal(5, name=f"key_{i}")
            has_high = held[i].high.any()
            m.d.comb += key.eq(Cat(Mux(has_high, held[i].high, held[i].low), has_high))
            level.append((key, Const(i, index_bits)))
        depth = 0
        while len(level) > 1:
            merged = []
            for n in range(0, len(level) - 1, 2):
                (left_key, left), (right_key, right) = level[n], level[n + 1]
                key, index = Signal(5, name=f"key_{depth}_{n}"), Signal(index_bits, name=f"index_{depth}_{n}")
                choose_right = right_key > left_key
                m.d.comb += [key.eq(Mux(choose_right, right_key, left_key)), index.eq(Mux(choose_right, right, left))]
                merged.append((key, index))
            level = merged + level[len(level) & ~1:]
            depth += 1
        key, index = level[0]

        negative = Signal()
        m.d.comb += negative.eq(held[index].negative)
        magnitude = Cat(key[:4], Const(0, 1)).as_signed()
        m.d.sync += [
            self.term.value.eq(Mux(self.take, Mux(negative, -magnitude, magnitude), 0)),
            self.term.high.eq(key[4]),
            self.term.index.eq(index),
        ]
        with m.If(self.load):
            m.d.sync += held.eq(self.codes)
        with m.Elif(self.take):
            for i in range(self.group):
                with m.If(index == i):
                    with m.If(key[4]):
                        m.d.sync += held[i].high.eq(0)
                    with m.Else():
                        m.d.sync += held[i].low.eq(0)
        return m
