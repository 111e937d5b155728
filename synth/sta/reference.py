"""What a critical path is compared with: a plain INT8 multiply-accumulate, as any array of that kind has in every element."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class IntegerMac(wiring.Component):
    """``sum = (0 if first else sum) + activation * weight``, operands registered, multiplied and added in one cycle.

    Latency: two cycles from operand to sum. Throughput: one product per cycle.

    Members
    -------
    activation, weight : In, int8; first : In, this product begins a new sum; sum : Out, int32
    """

    def __init__(self):
        super().__init__({"activation": In(signed(8)), "weight": In(signed(8)), "first": In(1), "sum": Out(signed(32))})

    def elaborate(self, platform):
        m = Module()
        activation, weight, first = Signal(signed(8)), Signal(signed(8)), Signal()
        m.d.sync += [
            activation.eq(self.activation), weight.eq(self.weight), first.eq(self.first),
            self.sum.eq(Mux(first, 0, self.sum) + activation * weight),
        ]
        return m
