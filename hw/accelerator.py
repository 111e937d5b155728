"""Top: stream in, stream out, register port, interrupt."""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.activation_memory import ActivationMemory
from hw.arrays import convolution_unit, depthwise_slots
from hw.channel_unit import ChannelUnit
from hw.controller import Controller
from hw.decoder import CommandDecoder, beat_layout
from hw.drain import Drain
from hw.drq_masks import Masks
from hw.output_stage import OutputStage
from hw.registers import RegisterPort, Registers, event_members
from hw.stream_memory import StreamMemory
from hw.types import layer_layout
from sdp.config import Config


class Core(wiring.Component):
    """Everything that a program runs on. Memories keep their contents through a reset, all else begins anew.

    Members
    -------
    run : In; input : In, output : Out; done, fault : Out, see ``CommandDecoder``
    busy, layer_done, starved, terms, slots : Out, for the counters; activation_reads ... beats_out : Out, a cycle late
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "run": In(1),
            "input": In(stream.Signature(beat_layout(config))),
            "output": Out(stream.Signature(beat_layout(config))),
            **event_members(config),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.decoder = decoder = CommandDecoder(config)
        m.submodules.controller = controller = Controller(config)
        m.submodules.activations = activations = ActivationMemory(config)
        m.submodules.weights = weights = StreamMemory(
            width=config.weight_bits, depth=config.weight_words, beat=config.stream_bits, few=config.depthwise_beats)
        m.submodules.scales = scales = StreamMemory(width=config.scale_word_bits, depth=config.scale_words, beat=config.stream_bits)
        m.submodules.convolution = convolution = convolution_unit(config)
        m.submodules.channel = channel = ChannelUnit(config)
        m.submodules.drain = drain = Drain(config)
        m.submodules.output_stage = output_stage = OutputStage(config)
        connect(m, flipped(self.input), decoder.input)
        connect(m, decoder.output, flipped(self.output))

        # The running layer's header; the decoder reads the next one meanwhile.
        layer = Signal(layer_layout(config))
        started = Signal()
        m.d.sync += started.eq(decoder.start)
        with m.If(decoder.start):
            m.d.sync += [layer.eq(decoder.layer), self.busy.eq(1)]
        with m.Elif(output_stage.done):
            m.d.sync += self.busy.eq(0)

        m.d.comb += [
            decoder.run.eq(self.run), decoder.engine_busy.eq(self.busy), decoder.read_data.eq(activations.data[0]),
            *(unit.layer.eq(layer) for unit in (controller, convolution, channel, drain, output_stage)),
            controller.start.eq(started), drain.start.eq(started),
            # reads
            activations.read.eq(controller.read),
            convolution.words.eq(activations.data), convolution.beat.eq(controller.beat), convolution.step.eq(controller.step),
            channel.word.eq(activations.data[0]), channel.beat.eq(controller.beat), channel.step.eq(controller.step), channel.ahead.eq(controller.ahead),
            weights.read_enable.eq(convolution.weight_enable | channel.weight_enable), weights.read_few.eq(channel.weight_enable),
            weights.read_address.eq(Mux(channel.weight_enable, channel.weight_address, convolution.weight_address)),
            convolution.weights.eq(weights.data), channel.slots.eq(depthwise_slots(config, weights.data)),
            # results
            drain.captured.eq(convolution.captured | channel.captured), convolution.shift.eq(drain.shift),
            output_stage.active.eq(drain.active), output_stage.chunk.eq(drain.chunk),
            output_stage.sums.eq(convolution.drain), output_stage.pooled.eq(channel.result),
            scales.read_enable.eq(output_stage.scale_enable), scales.read_address.eq(output_stage.scale_address),
            output_stage.scales.eq(scales.data),
            activations.residual_valid.eq(output_stage.residual_valid), activations.residual_address.eq(output_stage.residual_address),
            output_stage.residual.eq(activations.residual_data),
            # writes: activations are loaded only while no layer runs
            activations.write_mask.eq(Mux(decoder.write_activations, (1 << len(activations.write_mask)) - 1, output_stage.write_mask)),
            activations.write_address.eq(Mux(decoder.write_activations, decoder.write_address, output_stage.write_address)),
            activations.write_data.eq(Mux(decoder.write_activations, decoder.write_data, output_stage.write_data)),
            *(memory_input.eq(decoder_output) for memory in (weights, scales) for memory_input, decoder_output in (
                (memory.write_address, decoder.write_address), (memory.write_beat, decoder.write_beat), (memory.write_data, decoder.write_data))),
            weights.write_enable.eq(decoder.write_weights), scales.write_enable.eq(decoder.write_scales),
            # counters
            self.done.eq(decoder.done), self.layer_done.eq(output_stage.done), self.starved.eq(decoder.starved),
            self.terms.eq(convolution.terms), self.slots.eq(convolution.slots),
            self.fault.eq(Mux(decoder.fault != 0, decoder.fault, Mux(controller.fault != 0, controller.fault, drain.fault))),
        ]
        m.d.comb += [self.activation_reads.eq(activations.reads), self.activation_writes.eq(activations.writes)]
        m.d.sync += [
            self.weight_reads.eq(weights.reads), self.weight_writes.eq(weights.write_enable),
            self.scale_reads.eq(scales.reads), self.scale_writes.eq(scales.write_enable),
            self.beats_in.eq(self.input.valid & self.input.ready), self.beats_out.eq(self.output.valid & self.output.ready),
        ]
        if config.array == "drq":
            m.submodules.masks = masks = Masks(config)
            m.d.comb += [
                masks.layer.eq(layer), masks.start.eq(started), masks.valid.eq(output_stage.write_mask.any()), masks.codes.eq(output_stage.write_data),
                masks.read.eq(controller.mask), convolution.masks.eq(masks.data),
                controller.stall.eq(convolution.stall), convolution.draining.eq(drain.active & ~drain.ending),
            ]
        with m.If(decoder.read_valid):
            m.d.comb += [activations.read.valid.eq(1), activations.read.address[0].eq(decoder.read_address)]
        return m


class Accelerator(wiring.Component):
    """The machine as a user embeds it. Synchronous, active-high reset.

    Members
    -------
    input, output : streams of ``lanes * group`` bytes and ``last``; registers : register port; interrupt : Out
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "input": In(stream.Signature(beat_layout(config))),
            "output": Out(stream.Signature(beat_layout(config))),
            "registers": In(RegisterPort()),
            "interrupt": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = Registers(self.config)
        core = Core(self.config)
        m.submodules.core = ResetInserter(registers.core_reset)(core)
        connect(m, flipped(self.input), core.input)
        connect(m, core.output, flipped(self.output))
        connect(m, flipped(self.registers), registers.port)
        m.d.comb += [
            self.interrupt.eq(registers.interrupt),
            core.run.eq(registers.running),
            *(getattr(registers, name).eq(getattr(core, name)) for name in event_members(self.config)),
        ]
        return m
