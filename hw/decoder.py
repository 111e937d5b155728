"""Command decoder: one input stream carries everything; ``sdp.encoding`` is its format, ``sdp.program`` its fields."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.types import layer_layout, word_layout
from sdp.config import Config
from sdp.program import ALIGNED, HEADER_WORDS, Error, Kind, Opcode, fields, header_beats, limits, memory_words


def beat_layout(config: Config) -> data.StructLayout:
    """A beat of the input or output stream."""
    return data.StructLayout({"data": config.stream_bits, "last": 1})


class CommandDecoder(wiring.Component):
    """Reads headers, checks them, hands layers to the engine, writes the memories, streams stored words out.

    A header takes its beats, one cycle to check and one or more to dispatch, in which it waits for what it depends on; data
    follows at a beat per cycle.

    Members
    -------
    run : In, high while a program runs; input : In, output : Out, streams
    engine_busy : In; start : Out; layer : Out, header of the layer to start, valid with ``start``
    write_address, write_beat, write_data : Out, to all memories; write_activations, write_weights, write_scales : Out, enables
    read_valid, read_address : Out; read_data : In, a word of activations, one cycle later
    starved : Out, the decoder waits for input in this cycle
    done : Out, the program has ended; fault : Out, ``sdp.program.Error``
    """

    def __init__(self, config: Config):
        self.config = config
        beat = beat_layout(config)
        super().__init__({
            "run": In(1),
            "input": In(stream.Signature(beat)),
            "output": Out(stream.Signature(beat)),
            "engine_busy": In(1),
            "start": Out(1),
            "layer": Out(layer_layout(config)),
            "write_activations": Out(1),
            "write_weights": Out(1),
            "write_scales": Out(1),
            "write_address": Out(bits_for(max(memory_words(config, o) for o in Opcode if o <= Opcode.LOAD_SCALES) - 1)),
            "write_beat": Out(bits_for(max(config.weight_beats, config.scale_beats) - 1)),
            "write_data": Out(config.stream_bits),
            "read_valid": Out(1),
            "read_address": Out(bits_for(config.activation_words - 1)),
            "read_data": In(word_layout(config)),
            "starved": Out(1),
            "done": Out(1),
            "fault": Out(4),
        })

    def elaborate(self, platform):
        m = Module()
        config, per_beat = self.config, self.config.header_words

        # The header, as it came.
        header = Signal(data.ArrayLayout(32, header_beats(config, Opcode.LAYER) * per_beat))
        received = Signal(range(len(header) // per_beat + 1))
        opcode = Signal(8)
        m.d.comb += opcode.eq(header[0][:8])

        # A layer's fields and their checks.
        bounds = {name: (low, high, error) for name, low, high, error in limits(config)}
        problems = []
        for f in fields(config):
            raw = header[f.word][f.lsb : f.lsb + f.bits]
            value = raw.as_signed() if f.signed else raw
            m.d.comb += self.layer[f.name].eq(value)
            if f.name in bounds:
                low, high, error = bounds[f.name]
                problems.append((f.name, (value < low) | (value > high), error))
        order = list(bounds)
        problems.sort(key=lambda p: order.index(p[0]))
        # What not every array has; one that has all needs no gate for it.
        array, convolution = config.array_kind, self.layer.kind == Kind.CONV
        if False in (modes := [w4 in array.modes for w4 in (False, True)]):
            problems.append(("w4", convolution & (self.layer.w4 == modes.index(False)), Error.BUDGET))
        if len(budgets := array.budgets(config.group)) < 2 * config.group:
            problems.append(("budget", convolution & ~Cat(self.layer.budget == budget for budget in budgets).any(), Error.BUDGET))
        for name in ALIGNED:
            problems.append((name, self.layer[name][: bits_for(config.ports - 1)].any() if config.ports > 1 else 0, Error.ADDRESS))
        problems.append(("residual", self.layer.residual & (self.layer.in_base[-1] == self.layer.residual_base[-1]), Error.RESIDUAL))

        def first_problem(checks):
            """The error of the first check that fails."""
            result = Error.NONE.value
            for _, fails, error in reversed(checks):
                result = Mux(fails, error.value, result)
            return result

        address, count = header[1], header[2]

        def out_of(depth):
            return (count == 0) | (count > depth) | (address >= depth) | (Cat(address[:20], 0) + count[:21] > depth)

        checks = {Opcode.LAYER: first_problem(problems), Opcode.END: 0}
        for o, error in ((Opcode.LOAD_ACTIVATIONS, Error.ADDRESS), (Opcode.LOAD_WEIGHTS, Error.WEIGHT_ADDRESS), (Opcode.LOAD_SCALES, Error.SCALE_ADDRESS)):
            checks[o] = Mux(out_of(memory_words(config, o)), error.value, 0)
        tail = header[3]
        checks[Opcode.STORE] = Mux(out_of(config.activation_words), Error.ADDRESS.value,
                                   Mux((tail == 0) | (tail > config.word), Error.GEOMETRY.value, 0))

        item = self.input.payload
        transfer = Signal()
        m.d.comb += transfer.eq(self.input.valid & self.input.ready)
        first_word = item.data[:8]
        needed = Array(header_beats(config, Opcode(o)) if o in HEADER_WORDS else 1 for o in range(max(Opcode) + 1))

        # Data of a load: where it goes.
        words_left, beats_of_word = Signal(32), Signal(range(max(config.weight_beats, config.scale_beats) + 1))
        word_ends = Signal()
        m.d.comb += [
            self.write_data.eq(item.data),
            word_ends.eq(self.write_beat == beats_of_word - 1),
        ]

        # Stored words: a small queue behind the memory's read port takes up what is under way when the sink stalls.
        m.submodules.stored = stored = fifo.SyncFIFO(width=len(item.as_value()), depth=4)
        coming, coming_last = Signal(), Signal()
        kept = Signal(word_layout(config))
        m.d.comb += [
            *(kept[i].eq(Mux(i < tail, self.read_data[i], 0)) for i in range(config.word)),
            stored.w_data.eq(Cat(kept, coming_last)), stored.w_en.eq(coming),
            self.output.payload.as_value().eq(stored.r_data), self.output.valid.eq(stored.r_rdy), stored.r_en.eq(self.output.ready),
            self.read_address.eq(address),
        ]
        m.d.sync += [coming.eq(self.read_valid), coming_last.eq(count == 1)]

        idle = ~self.engine_busy
        m.d.comb += self.starved.eq(self.input.ready & ~self.input.valid)
        with m.FSM():
            with m.State("idle"):
                with m.If(self.run):
                    m.next = "header"
            with m.State("header"):
                m.d.comb += self.input.ready.eq(1)
                is_opcode = Signal(8)
                m.d.comb += is_opcode.eq(Mux(received == 0, first_word, opcode))
                with m.If(transfer):
                    m.d.sync += received.eq(received + 1)
                    with m.Switch(received):
                        for n in range(len(header) // per_beat):
                            with m.Case(n):
                                m.d.sync += [header[n * per_beat + i].eq(item.data[32 * i : 32 * i + 32]) for i in range(per_beat)]
                    with m.If((is_opcode == 0) | (is_opcode > max(Opcode))):
                        m.d.comb += self.fault.eq(Error.OPCODE)
                    with m.Elif(is_opcode == Opcode.END):
                        m.d.comb += self.fault.eq(Mux(item.last, Error.NONE.value, Error.OVERLONG.value))
                    with m.Elif(item.last):
                        m.d.comb += self.fault.eq(Error.TRUNCATED)
                    with m.If(received + 1 == needed[is_opcode[:3]]):
                        m.d.sync += received.eq(0)
                        m.next = "check"
            with m.State("check"):
                with m.Switch(opcode):
                    for o, error in checks.items():
                        with m.Case(o):
                            m.d.comb += self.fault.eq(error)
                m.d.sync += [words_left.eq(count), self.write_address.eq(address), self.write_beat.eq(0)]
                m.next = "dispatch"
            with m.State("dispatch"):
                with m.Switch(opcode):
                    with m.Case(Opcode.LOAD_ACTIVATIONS):
                        m.d.sync += beats_of_word.eq(1)
                        with m.If(idle):
                            m.next = "load"
                    with m.Case(Opcode.LOAD_WEIGHTS):
                        m.d.sync += beats_of_word.eq(config.weight_beats)
                        with m.If(idle | ~header[0][8]):
                            m.next = "load"
                    with m.Case(Opcode.LOAD_SCALES):
                        m.d.sync += beats_of_word.eq(config.scale_beats)
                        with m.If(idle | ~header[0][8]):
                            m.next = "load"
                    with m.Case(Opcode.LAYER):
                        with m.If(idle):
                            m.d.comb += self.start.eq(1)
                            m.next = "header"
                    with m.Case(Opcode.STORE):
                        with m.If(idle):
                            m.next = "store"
                    with m.Default():
                        with m.If(idle):
                            m.d.comb += self.done.eq(1)
                            m.next = "ended"
            with m.State("load"):
                m.d.comb += [
                    self.input.ready.eq(1),
                    self.write_activations.eq(transfer & (opcode == Opcode.LOAD_ACTIVATIONS)),
                    self.write_weights.eq(transfer & (opcode == Opcode.LOAD_WEIGHTS)),
                    self.write_scales.eq(transfer & (opcode == Opcode.LOAD_SCALES)),
                ]
                with m.If(transfer):
                    m.d.sync += self.write_beat.eq(self.write_beat + 1)
                    with m.If(word_ends):
                        m.d.sync += [self.write_beat.eq(0), self.write_address.eq(self.write_address + 1), words_left.eq(words_left - 1)]
                        with m.If(words_left == 1):
                            m.next = "header"
                    with m.If(item.last):
                        m.d.comb += self.fault.eq(Error.TRUNCATED)
            with m.State("store"):
                m.d.comb += self.read_valid.eq((count != 0) & (stored.level + coming < stored.depth))
                with m.If(self.read_valid):
                    m.d.sync += [address.eq(address + 1), count.eq(count - 1)]
                with m.If((count == 0) & ~coming & (stored.level == 0)):
                    m.next = "header"
            with m.State("ended"):
                m.next = "idle"
        return m
