"""DRQ's accumulators: below the last row, what pixels' steps add up to; one tile accumulates while the one before drains."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.drq_row import partial_bits
from hw.types import sums_layout
from sdp.config import Config


class DrqSums(wiring.Component):
    """Two memories of ``rows`` pixels x 2 * columns sums.

    Pixels come in order, ``rows`` of them for each step, a step's ``first`` and ``last`` with every one. A finished tile is ``captured`` as soon as
    ``draining`` is low, which is in the cycle after its last pixel left the array at the earliest. While it waits for that nothing may
    leave: the sums of the tile after it have no place.

    Latency: sums are written in the cycle after ``leaves``. ``drain`` shows pixel 0 in the cycle after ``captured``, and the next pixel in the
    cycle after each ``shift``.

    Members
    -------
    leaves : In, a pixel leaves the last row in this cycle; first, last : In, its step begins, ends a tile
    partials : In, 2 * columns sums, in the cycle after ``leaves``
    draining : In; shift : In
    blocked : Out, nothing may leave; step_ends : Out, the next pixel to leave is its step's last
    captured : Out, combinational in ``draining``; drain : Out, columns x two sums
    """

    def __init__(self, config: Config):
        if config.rows < 2:
            raise ValueError(f"rows must be at least 2, not {config.rows}: a pixel's sum is not read in the cycle in which it is written")
        self.config = config
        super().__init__({
            "leaves": In(1), "first": In(1), "last": In(1),
            "partials": In(data.ArrayLayout(signed(partial_bits(config, config.word - 1)), 2 * config.columns)),
            "draining": In(1), "shift": In(1),
            "blocked": Out(1), "step_ends": Out(1), "captured": Out(1),
            "drain": Out(data.ArrayLayout(sums_layout(config), config.columns)),
        })

    def elaborate(self, platform):
        m = Module()
        config, columns, last_row = self.config, self.config.columns, self.config.rows - 1
        # The bank that is written and the one that drains; a tile is complete, and not captured yet.
        bank, drained, complete = Signal(), Signal(), Signal()
        entry, row = Signal(range(config.rows)), Signal(range(config.rows))
        m.d.comb += [
            self.step_ends.eq(entry == last_row),
            self.blocked.eq(complete & self.draining),
            self.captured.eq(complete & ~self.draining),
        ]
        with m.If(self.captured):
            m.d.sync += [complete.eq(0), drained.eq(~bank), row.eq(0)]
        with m.Elif(self.shift):
            m.d.sync += row.eq(Mux(row == last_row, 0, row + 1))
        with m.If(self.leaves):
            m.d.sync += entry.eq(Mux(self.step_ends, 0, entry + 1))
            with m.If(self.step_ends & self.last):
                m.d.sync += [complete.eq(1), bank.eq(~bank)]

        # Read, then add and write in the cycle after. A pixel's steps are `rows` cycles apart: no sum is read before it is written.
        add, add_first, add_bank, add_entry = Signal(), Signal(), Signal(), Signal.like(entry)
        m.d.sync += [add.eq(self.leaves), add_first.eq(self.first), add_bank.eq(bank), add_entry.eq(entry)]
        stored, total = Signal(self.drain.shape()), Signal(self.drain.shape())
        for n in range(2):
            memory = m.submodules[f"bank_{n}"] = Memory(shape=total.as_value().shape(), depth=config.rows, init=[])
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [write.addr.eq(add_entry), write.data.eq(total), write.en.eq(add & (add_bank == n)), read.en.eq(0)]
            with m.If(self.leaves & ~self.first & (bank == n)):
                m.d.comb += [read.en.eq(1), read.addr.eq(entry)]
            with m.Elif(self.captured & (bank != n)):
                m.d.comb += [read.en.eq(1), read.addr.eq(0)]
            with m.Elif(self.shift & (drained == n)):
                m.d.comb += [read.en.eq(1), read.addr.eq(Mux(row == last_row, 0, row + 1))]
            with m.If(add_bank == n):
                m.d.comb += stored.eq(read.data)
            with m.If(drained == n):
                m.d.comb += self.drain.eq(read.data)
        for channel in range(2 * columns):
            name = "high" if channel >= columns else "low"
            m.d.comb += total[channel % columns][name].eq(Mux(add_first, 0, stored[channel % columns][name]) + self.partials[channel])
        return m
