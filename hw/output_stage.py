"""Output stage: chunks of sums through the output lanes and into activation memory, ``outputs`` codes per cycle."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden import cycles
from hw.channel_unit import SUM_BITS
from hw.drain import chunk_layout
from hw.output_lane import OutputLane, scale_layout
from hw.types import layer_layout, sums_layout, word_layout
from sdp.config import Config
from sdp.program import SHIFT_MAX, Kind


class OutputStage(wiring.Component):
    """A pipeline without stalls: select and combine the digit columns, bias, multiply (two stages), shift, round and clamp, write.

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
        scales = Signal(data.ArrayLayout(scale_layout(config), outputs))
        m.d.comb += scales.as_value().eq(self.scales)

        # What goes beside the data, one stage per entry.
        beside = [self.chunk]
        for stage in range(1, cycles.OUTPUT_STAGES):
            copy = Signal(chunk_layout(config), name=f"chunk_{stage}")
            m.d.sync += copy.eq(beside[-1])
            beside.append(copy)
        m.d.comb += [
            self.scale_enable.eq(self.active), self.scale_address.eq(self.chunk.scale_address),
            self.residual_valid.eq(self.active & self.chunk.write & layer.residual), self.residual_address.eq(self.chunk.residual_address),
        ]
        amount, pooling, digits = Signal(range(SHIFT_MAX)), Signal(), config.columns // outputs
        m.d.sync += amount.eq(layer.shift - 1)
        m.d.comb += pooling.eq(layer.kind != Kind.CONV)
        for n in range(outputs):
            lane = m.submodules[f"output_lane_{n}"] = OutputLane(config)
            m.d.comb += [
                lane.layer.eq(layer), lane.amount.eq(amount), lane.scale.eq(scales[n]),
                lane.residual.eq(self.residual.as_value().word_select(beside[1].position * outputs + n, 8)),
                # Every chunk of the word carries the same data, the mask says which is meant.
                *(self.write_data[chunk * outputs + n].eq(lane.code) for chunk in range(config.word // outputs)),
            ]
            with m.If(pooling):
                with m.Switch(self.chunk.index):
                    for chunk in range(config.word // outputs):
                        with m.Case(chunk):
                            m.d.comb += lane.low.eq(self.pooled[chunk * outputs + n])
            with m.Else():
                with m.Switch(self.chunk.index):
                    for chunk in range(digits):
                        sums = self.sums[chunk * outputs + n]
                        with m.Case(chunk):
                            m.d.comb += [lane.low.eq(sums.low), lane.high.eq(Mux(layer.w4, 0, sums.high) if config.block(False) == config.columns else 0)]
                        with m.Case(chunk + digits):
                            m.d.comb += lane.low.eq(sums.high)
        final = beside[-1]
        m.d.comb += [
            self.write_mask.eq(Mux(final.write, 1 << final.position, 0)),
            self.write_address.eq(final.address),
            self.done.eq(final.done),
        ]
        return m
