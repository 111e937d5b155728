"""Output stage: sums to codes, ``outputs`` per cycle. The arithmetic is ``golden.output_stage.requantize``."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from golden import cycles
from hw.channel_unit import SUM_BITS
from hw.drain import chunk_layout
from hw.types import layer_layout, sums_layout, word_layout
from sdp.config import Config
from sdp.program import SHIFT_MAX, Kind


class OutputStage(wiring.Component):
    """A pipeline without stalls: select, combine the digit columns, bias, multiply, residual, round, shift and clamp, write.

    Members
    -------
    layer : In; active, chunk : In, from ``Drain``
    sums : In, columns x two sums, of the array's present row; pooled : In, the channel unit's word
    scale_enable, scale_address : Out; scales : In, one cycle later
    residual_valid, residual_address : Out; residual : In, a word, one cycle later
    write_mask, write_address, write_data : Out, to activation memory
    done : Out, high in the cycle of the layer's last write
    """

    latency = cycles.OUTPUT_STAGES - 1

    def __init__(self, config: Config):
        self.config = config
        chunk = chunk_layout(config)
        super().__init__({
            "layer": In(layer_layout(config)),
            "active": In(1),
            "chunk": In(chunk),
            "sums": In(data.ArrayLayout(sums_layout(config), config.columns)),
            "pooled": In(data.ArrayLayout(signed(SUM_BITS), config.word)),
            "scale_enable": Out(1),
            "scale_address": Out(chunk["scale_address"].shape),
            "scales": In(config.scale_word_bits),
            "residual_valid": Out(1),
            "residual_address": Out(chunk["residual_address"].shape),
            "residual": In(word_layout(config)),
            "write_mask": Out(config.word // config.outputs),
            "write_address": Out(chunk["address"].shape),
            "write_data": Out(word_layout(config)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config, layer, outputs = self.config, self.layer, self.config.outputs
        scale_layout = data.ArrayLayout(data.StructLayout({"bias": signed(32), "multiplier": unsigned(config.scale_bits)}), outputs)
        scales = Signal(scale_layout)
        m.d.comb += scales.as_value().eq(self.scales)

        # What goes beside the data, one stage per entry.
        beside = [self.chunk]
        for stage in range(1, cycles.OUTPUT_STAGES):
            copy = Signal(chunk_layout(config), name=f"chunk_{stage}")
            m.d.sync += copy.eq(beside[-1])
            beside.append(copy)
        active = Signal(cycles.OUTPUT_STAGES)
        m.d.sync += active.eq(Cat(self.active, active))  # active[n] belongs to stage n + 1
        m.d.comb += [
            self.scale_enable.eq(active[0]), self.scale_address.eq(beside[1].scale_address),
            self.residual_valid.eq(beside[1].write & layer.residual), self.residual_address.eq(beside[1].residual_address),
        ]
        half = Signal(SHIFT_MAX)
        m.d.comb += half.eq(1 << (layer.shift - 1)[: bits_for(SHIFT_MAX - 1)])

        pooling, digits = Signal(), config.columns // outputs
        m.d.comb += pooling.eq(layer.kind != Kind.CONV)
        for lane in range(outputs):
            low, high = (Signal(signed(max(config.accumulator_bits, SUM_BITS)), name=f"{n}_{lane}") for n in ("low", "high"))
            select_low, select_high = Signal.like(low, name=f"select_low_{lane}"), Signal.like(high, name=f"select_high_{lane}")
            # Stage 0: select.
            with m.If(pooling):
                with m.Switch(self.chunk.index):
                    for n in range(config.word // outputs):
                        with m.Case(n):
                            m.d.comb += select_low.eq(self.pooled[n * outputs + lane])
            with m.Else():
                with m.Switch(self.chunk.index):
                    for n in range(digits):
                        sums = self.sums[n * outputs + lane]
                        with m.Case(n):
                            m.d.comb += [select_low.eq(sums.low), select_high.eq(Mux(layer.w4, 0, sums.high))]
                        with m.Case(n + digits):
                            m.d.comb += select_low.eq(sums.high)
            m.d.sync += [low.eq(select_low), high.eq(select_high)]
            # Stage 1: w8 adds its two digit columns.
            combined = Signal(signed(len(low) + 5), name=f"combined_{lane}")
            m.d.sync += combined.eq(low + (high << 4))
            # Stage 2: bias.
            biased, multiplier = Signal(signed(max(len(combined), 32) + 1), name=f"biased_{lane}"), Signal(config.scale_bits, name=f"multiplier_{lane}")
            residual = Signal(signed(9), name=f"residual_{lane}")
            byte = self.residual.as_value().word_select(beside[2].position * outputs + lane, 8)
            m.d.sync += [
                biased.eq(combined + scales[lane].bias), multiplier.eq(scales[lane].multiplier),
                residual.eq(Mux(layer.residual, Cat(byte, layer.residual_signed & byte[7]).as_signed(), 0)),
            ]
            # Stage 3: multiply.
            product = Signal(signed(len(biased) + config.scale_bits), name=f"product_{lane}")
            residual_product = Signal(signed(9 + config.scale_bits), name=f"residual_product_{lane}")
            m.d.sync += [product.eq(biased * multiplier), residual_product.eq(residual * layer.residual_multiplier)]
            # Stage 4: residual.
            total = Signal(signed(len(product) + 1), name=f"total_{lane}")
            m.d.sync += total.eq(product + residual_product)
            # Stage 5: round. Adding a half and cutting the rest is one too much for a tie that is negative, or whose whole part is even.
            # A total too short to have the bit is no tie.
            odd = (total[1:] & half).any()
            rounded = Signal(signed(max(len(total), len(half) + 1) + 1), name=f"rounded_{lane}")
            m.d.sync += rounded.eq(total + half - Mux(layer.ties_even, ~odd, total[-1]))
            # Stage 6: shift and clamp.
            shifted, code = Signal.like(rounded, name=f"shifted_{lane}"), Signal(8, name=f"code_{lane}")
            m.d.comb += shifted.eq(rounded >> layer.shift)
            m.d.sync += code.eq(Mux(shifted < layer.clamp_low, layer.clamp_low, Mux(shifted > layer.clamp_high, layer.clamp_high, shifted)))
            # Stage 7: write. Every chunk of the word carries the same data, the mask says which is meant.
            m.d.comb += [self.write_data[n * outputs + lane].eq(code) for n in range(config.word // outputs)]
        final = beside[-1]
        m.d.comb += [
            self.write_mask.eq(Mux(final.write, 1 << final.position, 0)),
            self.write_address.eq(final.address),
            self.done.eq(final.done),
        ]
        return m
