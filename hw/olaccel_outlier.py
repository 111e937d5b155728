"""OLAccel's outlier group: 17 MACs of a long activation and 4-bit weights, fed from a sparse list of outlier activations."""

from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.olaccel_lanes import MSBS, MacLanes, WeightChunk, sums_layout, token_layout


class OutlierGroup(wiring.Component):
    """Adds the outlier activations of a tile to the sums of its normal group.

    ``sums = base + sum over the list of value * weights``. An entry takes a cycle, two if its weight chunk has several outliers. The list's
    addresses stay outside: whoever hands over an entry fetches its weight chunk in the same cycle.

    Contract: as ``MacLanes``. ``ready`` is low for the first of two cycles. An entry with value 0 leaves the sums as they are.

    Latency: an entry is in ``sums`` three cycles later. Throughput: an entry per cycle.

    Parameters
    ----------
    bits : of an outlier without sign: 16, or 8 in the variant
    accumulator_bits : of the sums, which wrap; none: 32, or 24 in the variant

    Members
    -------
    value : In, two's complement of ``bits + 1``; valid, first, last : In; ready : Out
    weights : In, a cycle after its entry; fetch_msbs, pointer : Out; msbs : In
    base : In, read in the cycle of ``begins``; begins : Out
    sums, done : Out
    """

    latency = MacLanes.latency

    def __init__(self, *, bits: int = 16, accumulator_bits: int | None = None):
        if bits not in (8, 16):
            raise ValueError(f"bits must be 8 or 16, not {bits}")
        self.bits, self.accumulator_bits = bits, accumulator_bits or {8: 24, 16: 32}[bits]
        sums = sums_layout(bits + 1, self.accumulator_bits)
        super().__init__({
            "value": In(bits + 1), "valid": In(1), "first": In(1), "last": In(1), "ready": Out(1), "weights": In(WeightChunk),
            "fetch_msbs": Out(1), "pointer": Out(8), "msbs": In(MSBS), "base": In(sums), "begins": Out(1), "sums": Out(sums), "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.lanes = lanes = MacLanes(bits=self.bits + 1, accumulator_bits=self.accumulator_bits, based=True)
        m.d.comb += [
            lanes.token.eq(token_layout(lanes.bits)(Cat(self.value, self.first, self.last))), lanes.valid.eq(self.valid), self.ready.eq(~lanes.stall),
            lanes.weights.eq(self.weights), lanes.msbs.eq(self.msbs), self.fetch_msbs.eq(lanes.fetch), self.pointer.eq(lanes.pointer),
            lanes.base.eq(self.base), self.begins.eq(lanes.begins), self.sums.eq(lanes.sums), self.done.eq(lanes.done),
        ]
        return m
