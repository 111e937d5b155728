"""OLAccel's normal group: 16 4-bit MACs and one for outlier weights, fed with the non-zero ones of 16 activations."""

import functools
import operator

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.olaccel import LANES
from golden.olaccel_cycles import LATENCY
from hw.olaccel_lanes import MSBS, MacLanes, WeightChunk, sums_layout, token_layout

ACTIVATION_BITS = 5
"""4 and a sign, so that signed tensors and both nibbles of a first layer's codes are activations like all others."""


def first_of(mask: Value) -> Value:
    """One bit per place: the lowest that is set in ``mask``."""
    return Cat(mask[i] & ~mask[:i].any() for i in range(len(mask)))


class NormalGroup(wiring.Component):
    """A tile of 16 output channels and one pixel, chunk by chunk of 16 activations: one cycle per non-zero activation, two if its weight chunk
    has several outliers.

    ``sums = sum over all activations of activation * weights``, exactly ``golden.olaccel.sums`` of the normal activations; the time is
    ``golden.olaccel_cycles.group_cycles`` for each chunk. Of a chunk, the non-zero activation with the lowest index is next. A chunk without any
    takes one cycle.

    Contract: ``activations``, with ``first`` and ``last`` chunk of a tile, are taken in a cycle with ``load`` and ``ready``. ``fetch`` asks for
    the weight chunk of ``channel``, counted in the chunk loaded last before; it stands on ``weights`` in the next cycle and until after the next
    ``fetch``. ``fetch_msbs`` and ``pointer``, which follow ``weights`` in the same cycle, ask for ``msbs`` of the next one. ``done`` stands for
    one cycle when a tile's sums do; chunks of the next tile may follow without a gap.

    Latency: ``golden.olaccel_cycles.LATENCY`` from load to the cycle of the first product, its sum a cycle later. Throughput: an activation per
    cycle.

    Parameters
    ----------
    accumulator_bits : of the sums, which wrap

    Members
    -------
    activations : In, 16 of 5 bit, two's complement; load, first, last : In; ready : Out
    fetch, channel : Out; weights : In
    fetch_msbs, pointer : Out; msbs : In
    sums, done : Out
    """

    latency = LATENCY

    def __init__(self, *, accumulator_bits: int = 24):
        self.accumulator_bits = accumulator_bits
        super().__init__({
            "activations": In(data.ArrayLayout(signed(ACTIVATION_BITS), LANES)), "load": In(1), "first": In(1), "last": In(1), "ready": Out(1),
            "fetch": Out(1), "channel": Out(range(LANES)), "weights": In(WeightChunk), "fetch_msbs": Out(1), "pointer": Out(8), "msbs": In(MSBS),
            "sums": Out(sums_layout(ACTIVATION_BITS, accumulator_bits)), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes = lanes = MacLanes(bits=ACTIVATION_BITS, accumulator_bits=self.accumulator_bits, based=False)
        # What was given away is cleared in place: the register is also the list of what is left.
        held = Signal(data.ArrayLayout(ACTIVATION_BITS, LANES), reset_less=True)
        holding, first, last = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        left, next_one, final, value = Signal(LANES), Signal(LANES), Signal(), Signal(ACTIVATION_BITS)
        m.d.comb += [
            left.eq(Cat(held[i].any() for i in range(LANES))),
            next_one.eq(first_of(left)),
            final.eq(left == next_one),
            value.eq(functools.reduce(operator.or_, (Mux(next_one[i], held[i], 0) for i in range(LANES)))),
            self.channel.eq(functools.reduce(operator.or_, (Mux(next_one[i], i, 0) for i in range(LANES)))),
            self.ready.eq(~lanes.stall & (~holding | final)),
            self.fetch.eq(holding & ~lanes.stall & left.any()),
            lanes.valid.eq(holding),
            lanes.token.eq(token_layout(ACTIVATION_BITS)(Cat(value, first, last & final))),
        ]
        with m.If(self.ready):
            m.d.sync += holding.eq(self.load)
            with m.If(self.load):
                m.d.sync += [held.eq(self.activations), first.eq(self.first), last.eq(self.last)]
        with m.Elif(~lanes.stall):
            m.d.sync += first.eq(0)
            for i in range(LANES):
                with m.If(next_one[i]):
                    m.d.sync += held[i].eq(0)
        m.d.comb += [
            lanes.weights.eq(self.weights), lanes.msbs.eq(self.msbs), self.fetch_msbs.eq(lanes.fetch), self.pointer.eq(lanes.pointer),
            self.sums.eq(lanes.sums), self.done.eq(lanes.done),
        ]
        return m
