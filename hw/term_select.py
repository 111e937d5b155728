"""Term selector: the most important terms of a group, one per cycle, at run time (SDP, abstract; order of ties: ours)."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.types import Code, term_layout


class TermSelector(wiring.Component):
    """Holds a group of codes and gives away its terms, largest contribution first.

    All data offer their high parts until none is left, then their low parts; the largest is the next term, ties go to the lower index.
    That is the exact order of ``golden.term_select.sequence``, because a non-zero high part outweighs every low part. What was given
    away is cleared in place: the operand register is also the list of what is left.

    Contract: ``load`` takes ``codes`` at the end of its cycle. Each later cycle with ``take`` removes one term, which stands on
    ``term`` in the following cycle; without ``take`` the following ``term`` is empty (magnitude 0). ``load`` may coincide with the last ``take``.

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
        held = Signal(data.ArrayLayout(Code, self.group), reset_less=True)

        # High parts are offered as long as any datum has one: each outweighs every low part.
        is_high = Signal()
        m.d.comb += is_high.eq(Cat(held[i].high for i in range(self.group)).any())
        # From the highest bit down, those leave that lack a bit which another one has: what is left are the largest, the bits that some had are
        # their value, and the first of them is the term. Smaller than a tree of comparisons.
        left, largest = Const((1 << self.group) - 1, self.group), []
        for bit in reversed(range(4)):
            having, some, rest = Signal(self.group, name=f"having_{bit}"), Signal(name=f"some_{bit}"), Signal(self.group, name=f"left_{bit}")
            m.d.comb += [having.eq(Cat(Mux(is_high, code.high[bit], code.low[bit]) for code in held) & left), some.eq(having.any()),
                         rest.eq(Mux(some, having, left))]
            largest.insert(0, some)
            left = rest
        which = Signal(self.group)
        m.d.comb += which.eq(Cat(left[i] & ~left[:i].any() for i in range(self.group)))

        negatives = Cat(held[i].negative for i in range(self.group))
        m.d.sync += [
            self.term.magnitude.eq(Mux(self.take, Cat(largest), 0)),
            self.term.negative.eq((negatives & which).any()),
            self.term.high.eq(is_high),
            self.term.select.eq(which),
        ]
        with m.If(self.load):
            m.d.sync += held.eq(self.codes)
        with m.Elif(self.take):
            for i in range(self.group):
                with m.If(which[i]):
                    with m.If(is_high):
                        m.d.sync += held[i].high.eq(0)
                    with m.Else():
                        m.d.sync += held[i].low.eq(0)
        return m
