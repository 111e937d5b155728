"""Output lane: one sum to one code per cycle. The arithmetic is ``golden.output_stage.requantize``."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.channel_unit import SUM_BITS
from hw.types import layer_layout
from sdp.config import Config
from sdp.program import SHIFT_MAX

WINDOW = 11
"""Bits that are left of a shifted total: one worth a half, and -512 ... 511, which holds every code and every clamp."""

SPLIT = 17
"""Bits of the lower part of a sum, about half of them."""


def scale_layout(config: Config) -> data.StructLayout:
    return data.StructLayout({"bias": signed(32), "multiplier": config.scale_bits})


class OutputLane(wiring.Component):
    """``code = clamp(round(((low + 16 * high + bias) * multiplier + residual * residual_multiplier) / 2**shift))``

    A component of its own, so that synthesis maps it once.

    Latency: ``low`` and ``high`` in cycle 0; ``scale`` and ``residual`` in cycle 1; ``code`` in cycle 6. Throughput: a code per cycle.

    Members
    -------
    layer : In, header of the running layer; amount : In, its shift less one
    low, high : In, sums of the two digit columns; scale, residual : In, as they lie in memory
    code : Out
    """

    def __init__(self, config: Config):
        self.config = config
        sums = signed(max(config.accumulator_bits, SUM_BITS))
        super().__init__({
            "layer": In(layer_layout(config)), "amount": In(range(SHIFT_MAX)),
            "low": In(sums), "high": In(sums), "scale": In(scale_layout(config)), "residual": In(8), "code": Out(8),
        })

    def elaborate(self, platform):
        m = Module()
        layer, scale, bits = self.layer, self.scale, self.config.scale_bits
        half = bits // 2

        def register(shape, name):
            """What goes with the data says whether they count: they need no reset."""
            return Signal(shape, name=f"{name}", reset_less=True)

        # Stage 0: w8 adds its two digit columns. Stage 1: bias. From here on a number is two parts, the lower one with a carry of its own:
        # carries run through all bits only once, where the total is shifted.
        combined = register(signed(max(len(self.low) + 5, 32)), "combined")
        parts = {"low": register(SPLIT + 1, "low_2"), "high": register(signed(len(combined) - SPLIT + 1), "high_2")}
        residual, multiplier = register(signed(9), "residual_2"), register(bits, "multiplier_2")
        m.d.sync += [
            combined.eq(self.low + (self.high << 4)),
            parts["low"].eq(combined[:SPLIT] + scale.bias[:SPLIT]),
            parts["high"].eq(combined[SPLIT:].as_signed() + scale.bias[SPLIT:].as_signed()),
            multiplier.eq(scale.multiplier),
            residual.eq(Mux(layer.residual, Cat(self.residual, layer.residual_signed & self.residual[7]).as_signed(), 0)),
        ]
        # Stages 2 and 3: products with the lower half of the multipliers, then with the upper half; the residual's goes to the lower part.
        residual_3, multiplier_3 = register(signed(9), "residual_3"), register(bits - half, "multiplier_3")
        m.d.sync += [residual_3.eq(residual), multiplier_3.eq(multiplier[half:])]
        products = {}
        for name, part in parts.items():
            part_3, lower = register(part.shape(), f"{name}_3"), register(signed(len(part) + half + 2), f"lower_{name}")
            product = products[name] = register(signed(len(part) + bits + 2), f"product_{name}")
            addend, addend_3 = (residual * layer.residual_multiplier[:half], residual_3 * layer.residual_multiplier[half:]) if name == "low" else (0, 0)
            m.d.sync += [
                part_3.eq(part), lower.eq(part * multiplier[:half] + addend),
                product.eq(Cat(lower[:half], part_3 * multiplier_3 + addend_3 + (lower >> half))),
            ]
        total = Signal(signed(len(combined) + bits + 2))
        m.d.comb += total.eq(products["low"] + (products["high"] << SPLIT))
        # Stage 4: shift, coarse steps first, down to the bits that a code can have. What is lost below decides ties, what is lost above saturates.
        below, above = [], []
        value, sign = total, total[-1]
        for step in reversed(range(len(self.amount))):
            by = 1 << step
            width = WINDOW + by - 1
            wide, narrow = Signal(signed(max(len(value), width + by)), name=f"wide_{step}"), Signal(signed(width), name=f"narrow_{step}")
            lost = wide[width - 1 :] ^ sign.replicate(len(wide) - width + 1)
            m.d.comb += [wide.eq(value), narrow.eq(Mux(self.amount[step], wide[by:], wide))]
            below.append(self.amount[step] & wide[:by].any())
            above.append(Mux(self.amount[step], lost[by:], lost).any())
            value = narrow
        window, sticky, saturated, negative = (register(shape, name) for shape, name in (
            (signed(WINDOW), "window"), (1, "sticky"), (1, "saturated"), (1, "negative")))
        m.d.sync += [window.eq(value), sticky.eq(Cat(*below).any()), saturated.eq(Cat(*above).any()), negative.eq(sign)]
        # Stage 5: round and clamp. A half goes up, a tie only if it is positive, or odd below.
        rounded, code = Signal(signed(WINDOW)), register(8, "code")
        m.d.comb += rounded.eq((window >> 1) + (window[0] & (sticky | Mux(layer.ties_even, window[1], ~negative))))
        too_low = Mux(saturated, negative, rounded < layer.clamp_low)
        too_high = Mux(saturated, ~negative, rounded > layer.clamp_high)
        m.d.comb += self.code.eq(code)
        m.d.sync += code.eq(Mux(too_low, layer.clamp_low, Mux(too_high, layer.clamp_high, rounded)))
        return m
