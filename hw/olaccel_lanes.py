"""What OLAccel's two kinds of groups share: 16 multiply-accumulate lanes, the MAC for outlier weights, and the second cycle of a chunk with
several.

[P] and assumptions: ``golden.olaccel``.
"""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.olaccel import LANES


class WeightChunk(data.Struct):
    """80 bits: the weights of 16 output channels for one input channel, and the MSBs of one of them; ``pointer``, unless 0: where those of all
    lie."""

    nibbles: data.ArrayLayout(signed(4), LANES)
    pointer: 8
    index: 4
    msb: signed(4)


MSBS = data.ArrayLayout(signed(4), LANES)


def token_layout(bits: int) -> data.StructLayout:
    """An activation on its way, two's complement of ``bits``; ``first``, ``last``: of a tile."""
    return data.StructLayout({"value": signed(bits), "first": 1, "last": 1})


def sums_layout(bits: int, accumulator_bits: int) -> data.ArrayLayout:
    """The sums of a group whose activations have ``bits``."""
    if accumulator_bits < bits + 9:
        raise ValueError(f"accumulator_bits must be at least {bits + 9}, the width of what a lane adds, not {accumulator_bits}")
    return data.ArrayLayout(signed(accumulator_bits), LANES)


class OutlierMac(wiring.Component):
    """The MAC more that a group has, without an accumulator of its own: ``product = activation * msb``, combinational; the lane that it belongs
    to adds it."""

    def __init__(self, *, bits: int):
        self.bits = bits
        super().__init__({"activation": In(signed(bits)), "msb": In(signed(4)), "product": Out(signed(bits + 4))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.product.eq(self.activation * self.msb)
        return m


class Lane(wiring.Component):
    """``sum = (base if first else sum) + activation * nibble + 16 * outlier``; with ``second`` the nibble is an MSB: ``sum += 16 * activation *
    nibble``.

    Latency: one cycle. An activation of 0 without ``first`` leaves the sum as it is.

    Parameters
    ----------
    bits : of the activation, two's complement; accumulator_bits : of the sum, which wraps
    based : sums start from ``base``; else from 0, and there is no such member

    Members
    -------
    activation, nibble : In; outlier : In, the outlier MAC's product; chosen : In, it is this lane's
    first, second : In
    sum : Out, registered
    """

    def __init__(self, *, bits: int, accumulator_bits: int, based: bool):
        self.bits, self.accumulator_bits, self.based = bits, accumulator_bits, based
        super().__init__({
            "activation": In(signed(bits)), "nibble": In(signed(4)), "outlier": In(signed(bits + 4)), "chosen": In(1),
            "first": In(1), "second": In(1), "sum": Out(signed(accumulator_bits)),
            **({"base": In(signed(accumulator_bits))} if based else {}),
        })

    def elaborate(self, platform):
        m = Module()
        product, more = Signal(signed(self.bits + 4)), Signal(signed(self.bits + 4))
        sums, start = Signal.like(self.sum, reset_less=True, name="held"), Signal.like(self.sum)
        m.d.comb += [
            product.eq(self.activation * self.nibble),
            # Both are worth 16 times as much, and never come together: one adder.
            more.eq(Mux(self.second, product, Mux(self.chosen, self.outlier, 0))),
            start.eq(Mux(self.first, self.base if self.based else 0, sums)),
            self.sum.eq(sums),
        ]
        m.d.sync += sums.eq(start + Mux(self.second, 0, product) + (more << 4))
        return m


class MacLanes(wiring.Component):
    """Activations, one after the other, times their weight chunks, into 16 sums.

    ``sums[lane] += value * (16 * msb[lane] + nibble[lane])``. A chunk whose pointer is not 0 takes a second cycle, for the MSBs of all lanes,
    unless the activation is 0; all before it waits.

    Contract: a ``token`` is taken in a cycle with ``valid`` and without ``stall``; its weight chunk is fetched then, stands on ``weights`` in
    the next cycle, and stays there during ``stall``. ``fetch`` asks, in the cycle in which they are named on ``weights``, for the MSBs at
    ``pointer``, which stand on ``msbs`` in the next one. Both memories end in registers. ``begins`` is the cycle in which ``base`` is read.

    Latency: a token is in ``sums`` three cycles after it was taken, stalls aside; ``done`` stands for one cycle when a tile's sums do.
    Throughput: a token per cycle.

    Parameters
    ----------
    bits : of activations, two's complement; accumulator_bits : of the sums, which wrap
    based : a tile's sums start from ``base`` instead of 0

    Members
    -------
    token, valid : In; stall : Out
    weights : In, one weight chunk; fetch, pointer : Out; msbs : In, 16 digits
    base : In, begins : Out, only if ``based``
    sums, done : Out
    """

    latency = 3

    def __init__(self, *, bits: int, accumulator_bits: int = 24, based: bool):
        self.bits, self.accumulator_bits, self.based = bits, accumulator_bits, based
        sums = sums_layout(bits, accumulator_bits)
        super().__init__({
            "token": In(token_layout(bits)), "valid": In(1), "stall": Out(1), "weights": In(WeightChunk), "fetch": Out(1), "pointer": Out(8), "msbs": In(MSBS),
            "sums": Out(sums), "done": Out(1), **({"base": In(sums), "begins": Out(1)} if based else {}),
        })

    def elaborate(self, platform):
        m = Module()
        fetched, held = (Signal(token_layout(self.bits), name=name, reset_less=True) for name in ("fetched", "operand"))
        chunk = Signal(data.StructLayout({"nibbles": MSBS, "index": 4, "msb": signed(4)}), reset_less=True)
        fetched_valid, busy, several, second = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.stall.eq(several & ~second),
            self.fetch.eq(fetched_valid & self.weights.pointer.any() & fetched.value.any() & ~self.stall),
            self.pointer.eq(self.weights.pointer),
        ]
        m.d.sync += [second.eq(self.stall), self.done.eq(busy & held.last & ~self.stall)]
        with m.If(self.stall):
            m.d.sync += chunk.nibbles.eq(self.msbs)
        with m.Else():
            # Without a token the lanes go on, with a 0.
            m.d.sync += [fetched_valid.eq(self.valid), busy.eq(fetched_valid), several.eq(self.fetch),
                         held.eq(fetched), held.value.eq(Mux(fetched_valid, fetched.value, 0))]
            with m.If(self.valid):
                m.d.sync += fetched.eq(self.token)
            with m.If(fetched_valid):
                m.d.sync += [chunk.nibbles.eq(self.weights.nibbles), chunk.index.eq(self.weights.index), chunk.msb.eq(self.weights.msb)]

        first = Signal()
        m.d.comb += first.eq(busy & held.first & ~second)
        if self.based:
            m.d.comb += self.begins.eq(first)
        m.submodules.outlier = outlier = OutlierMac(bits=self.bits)
        m.d.comb += [outlier.activation.eq(held.value), outlier.msb.eq(chunk.msb)]
        chosen = Signal(LANES)
        m.d.comb += chosen.eq(1 << chunk.index)
        for i in range(LANES):
            lane = m.submodules[f"lane_{i}"] = Lane(bits=self.bits, accumulator_bits=self.accumulator_bits, based=self.based)
            m.d.comb += [
                lane.activation.eq(held.value), lane.nibble.eq(chunk.nibbles[i]), lane.outlier.eq(outlier.product),
                lane.chosen.eq(chosen[i]), lane.first.eq(first), lane.second.eq(second), self.sums[i].eq(lane.sum),
            ]
            if self.based:
                m.d.comb += lane.base.eq(self.base[i])
        return m
