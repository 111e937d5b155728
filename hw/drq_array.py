"""DRQ's array (Song et al., ISCA 2020) as a sibling of ``ConvolutionUnit``: from words read to finished sums, at the speed that the data allow."""

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.drq_array import QUEUE, READ_STAGES
from hw.convolution_unit import convolution_members
from hw.drq_row import DrqRow, Weight
from hw.drq_sums import DrqSums
from hw.types import word_layout
from sdp.config import Config
from sdp.program import Kind


class WordQueue(wiring.Component):
    """Words that were read and wait for the array. ``stall`` keeps so many reads away that all that are on their way find a place.

    Members
    -------
    push, word : In; stall : Out, no read may be issued in this cycle; a read's word comes READ_STAGES cycles later
    valid, head : Out, the oldest word; pop : In, it goes at the end of this cycle
    """

    def __init__(self, config: Config):
        word = data.StructLayout({"sensitive": config.word, "codes": word_layout(config)})
        super().__init__({"push": In(1), "word": In(word), "stall": Out(1), "valid": Out(1), "head": Out(word), "pop": In(1)})

    def elaborate(self, platform):
        m = Module()
        places = Array(Signal(self.word.shape(), name=f"place_{n}", reset_less=True) for n in range(QUEUE))
        here, there, count, allowed = Signal(range(QUEUE)), Signal(range(QUEUE)), Signal(range(QUEUE + 1)), Signal(READ_STAGES)
        m.d.comb += [
            # Every cycle without `stall` may have brought a read.
            self.stall.eq(count + sum(allowed) >= QUEUE),
            self.valid.eq(count != 0), self.head.eq(places[here]),
        ]
        m.d.sync += [allowed.eq(Cat(~self.stall, allowed)), count.eq(count + self.push - self.pop)]
        with m.If(self.push):
            m.d.sync += [places[there].eq(self.word), there.eq(Mux(there == QUEUE - 1, 0, there + 1))]
        with m.If(self.pop):
            m.d.sync += here.eq(Mux(here == QUEUE - 1, 0, here + 1))
        return m


class DrqUnit(wiring.Component):
    """From words read to finished sums. ``lanes * group`` rows of elements, one per input channel of a word, 2 * columns of them each.

    A step's pixels go through the array one after the other, its weights stay. A pixel takes four cycles in a row where it is sensitive, else
    one, and waits where the row below is not free. Every element has the weights of two steps; those of the next step come as soon as no
    pixel of the one before the present one is left. Channels past ``in_tail`` and pixels outside of the image are never sensitive.

    Contract: ``rows`` beats for each step, in order, ``rows`` at least 4; ``step.first``, ``last`` and ``weight_address`` stand with all of them. The
    weight memory answers one cycle after ``weight_enable`` and holds its word until the next one. While ``stall`` is high no read is issued; those of the two
    cycles before still come. ``draining`` is low in the last cycle of a drain at the earliest, and high from the cycle after ``captured``.

    Latency: data dependent, exactly ``golden.drq_array.Array``. Throughput: a pixel per cycle where none is sensitive.

    Members
    -------
    layer, beat, words, step, weight_enable, weight_address, weights, captured, shift, drain : as in ``ConvolutionUnit``; a sum ``low`` is that
        of output channel ``column``, ``high`` that of ``columns + column``; ``weights`` are columns x (lanes * group) x those two
    masks : In, sensitive or not, for each code of the word
    stall : Out; draining : In
    terms, slots : Out, rows that multiplied, and that held a pixel, in the cycle before
    """

    def __init__(self, config: Config):
        if config.ports != 1:
            raise ValueError(f"ports must be 1, not {config.ports}: the array takes one word per cycle")
        if config.rows < QUEUE:
            raise ValueError(f"rows must be at least {QUEUE}, not {config.rows}: weights are read one step ahead")
        self.config = config
        super().__init__({**convolution_members(config, config.word), "masks": In(config.word), "stall": Out(1), "draining": In(1)})

    def elaborate(self, platform):
        m = Module()
        config, word, columns = self.config, self.config.word, self.config.columns
        m.submodules.queue = queue = WordQueue(config)
        m.submodules.sums = sums = DrqSums(config)
        rows = [DrqRow(config, n) for n in range(word)]
        for n, row in enumerate(rows):
            m.submodules[f"row_{n}"] = row

        arrives, keep = Signal(), Signal(word)
        m.d.comb += [
            arrives.eq(self.beat.rows[0] & (self.layer.kind == Kind.CONV)),
            *(keep[i].eq(~self.beat.tail | (i < self.layer.in_tail)) for i in range(word)),
            queue.push.eq(arrives), queue.word.sensitive.eq(self.masks & keep & self.beat.inside.replicate(word)),
            *(queue.word.codes[i].eq(Mux(keep[i], self.words[0][i], 0)) for i in range(word)),
            self.stall.eq(queue.stall),
        ]

        # Steps take the two weight registers in turn: `following` is the one to be loaded, `present` that of the pixels that come in. What memory
        # has `fetched` is loaded as soon as fewer than two steps hold a register; it is `standing` until the step's first pixel comes in.
        following, present, fetched, standing, held = Signal(), Signal(init=1), Signal(), Signal(), Signal(range(3))
        first, last, next_first, next_last = Signal(2), Signal(2), Signal(), Signal()
        bottom = rows[-1].below
        step_leaves, load = Signal(), Signal()
        m.d.comb += [
            self.weight_enable.eq(arrives & (self.beat.strip == 0)), self.weight_address.eq(self.step.weight_address),
            bottom.ready.eq(~sums.blocked), sums.leaves.eq(bottom.valid & bottom.ready), step_leaves.eq(sums.leaves & sums.step_ends),
            load.eq(fetched & ((held != 2) | step_leaves)),
        ]
        m.d.sync += held.eq(held + load - step_leaves)
        with m.If(load):
            m.d.sync += [fetched.eq(0), standing.eq(1), following.eq(~following),
                         first.bit_select(following, 1).eq(next_first), last.bit_select(following, 1).eq(next_last)]
        with m.If(self.weight_enable):
            m.d.sync += [fetched.eq(1), next_first.eq(self.step.first), next_last.eq(self.step.last)]

        # The queue's head enters row 0, a step's first pixel no sooner than its weights.
        pixel, count, begins, which = rows[0].pixel, Signal(range(config.rows)), Signal(), Signal()
        m.d.comb += [
            begins.eq(count == 0), which.eq(present ^ begins),
            pixel.valid.eq(queue.valid & (~begins | standing | load)), queue.pop.eq(pixel.valid & pixel.ready),
            pixel.payload.which.eq(which), pixel.payload.sensitive.eq(queue.head.sensitive),
        ]
        with m.If(queue.pop):
            m.d.sync += [count.eq(Mux(count == config.rows - 1, 0, count + 1)), present.eq(which)]
            with m.If(begins):
                m.d.sync += standing.eq(0)
        for i, code in enumerate(pixel.payload.codes):
            byte, negative, magnitude = queue.head.codes[i], Signal(name=f"negative_{i}"), Signal(8, name=f"magnitude_{i}")
            m.d.comb += [negative.eq(self.layer.in_signed & byte[7]), magnitude.eq(Mux(negative, -byte, byte)),
                         code.negative.eq(negative), code.high.eq(magnitude[4:]), code.low.eq(magnitude[:4])]

        weights = data.View(data.ArrayLayout(data.ArrayLayout(data.ArrayLayout(Weight, 2), word), columns), self.weights)
        above = Const(0)
        for n, row in enumerate(rows):
            m.d.comb += [row.above.as_value().eq(above), row.load.eq(Mux(load, Const(1) << following, 0)),
                         *(row.weights[c].eq(weights[c % columns][n][c // columns]) for c in range(2 * columns))]
            if n:
                wiring.connect(m, rows[n - 1].below, row.pixel)
            above = row.partials.as_value()
        m.d.comb += [
            sums.partials.as_value().eq(above), sums.draining.eq(self.draining), sums.shift.eq(self.shift),
            sums.first.eq(first.bit_select(bottom.payload.which, 1)), sums.last.eq(last.bit_select(bottom.payload.which, 1)),
            self.captured.eq(sums.captured), self.drain.eq(sums.drain),
        ]
        m.d.sync += [self.terms.eq(sum(row.works for row in rows)), self.slots.eq(sum(row.holds for row in rows))]
        return m
