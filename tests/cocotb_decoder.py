"""Programs through the command decoder: what it writes, starts, stores and reports is what golden.program.decode says."""

import cocotb
import numpy as np

from golden import cycles
from golden.machine import Machine
from hw.types import layer_layout, word_layout
from sdp.encoding import decode, encode
from sdp.program import FIELDS, FLAGS, End, Error, Kind, Layer, Load, Opcode, ProgramError, Store, beats_per_word, limits
from tests import layers
from tests.bench import SEED, Bench, config, generator, pack, unpack
from tests.sizes import UNIT as UNIT_CONFIG
from tests.test_program import malformed

CONFIG = config()
WIDTHS = {Opcode.LOAD_ACTIVATIONS: CONFIG.activation_words, Opcode.LOAD_WEIGHTS: CONFIG.weight_words, Opcode.LOAD_SCALES: CONFIG.scale_words}
WRITES = {Opcode.LOAD_ACTIVATIONS: "activations", Opcode.LOAD_WEIGHTS: "weights", Opcode.LOAD_SCALES: "scales"}


def programs(rng):
    """Commands in every order; layers are headers only, nothing runs here."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    commands = []
    for _ in range(rng.randint(1, 9)):
        opcode = rng.choice(list(Opcode)[:-1])
        if commands and isinstance(commands[-1], Layer) and rng.random() < 0.6:
            opcode = rng.choice((Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES))
        if opcode is Opcode.LAYER:
            fields = layers.header(rng, CONFIG, rng.choice(list(Kind)))
            flags = {name: bool(fields.get(name)) for name in FLAGS}
            commands.append(Layer(**{**fields, **flags}))
        elif opcode is Opcode.STORE:
            count = rng.choice((1, 2, 3, rng.randint(1, 20)))
            address = rng.choice((0, CONFIG.activation_words - count, rng.randint(0, CONFIG.activation_words - count)))
            commands.append(Store(address=address, count=count, tail=rng.randint(1, CONFIG.word)))
        else:
            count = rng.randint(1, min(4, WIDTHS[opcode]))
            address = rng.choice((0, WIDTHS[opcode] - count))
            data = numbers.integers(0, 256, (count, beats_per_word(CONFIG, opcode) * CONFIG.word), dtype=np.uint8)
            commands.append(Load(opcode=opcode, address=address, data=data, sync=rng.random() < 0.5))
    return [*commands, End()]


def beats(stream):
    return [stream[n : n + CONFIG.word] for n in range(0, len(stream), CONFIG.word)]


class Decoder(Bench):
    """Source, sink, engine and activation memory around the decoder; ``events`` lists what it did."""

    def __init__(self, dut, idle=0.0, stall=0.0):
        super().__init__(dut)
        self.rng, self.idle, self.stall = generator(idle, stall), idle, stall
        self.memory = np.random.default_rng(SEED).integers(0, 256, (CONFIG.activation_words, CONFIG.word), dtype=np.uint8)

    async def run(self, stream, busy_cycles=lambda layer: 5, limit=4000):
        """Until done or fault; returns the cycles from the one in which ``run`` is first high."""
        await self.begin(run=0, input__valid=0, input__payload=0, output__ready=0, engine_busy=0, read_data=0)
        self.events, self.outputs, self.fault, self.starved = [], [], 0, 0
        source, at, valid, ready, busy, read = beats(stream), 0, False, False, 0, None
        held = None
        for cycle in range(limit):
            # A source that offers a beat keeps it until it is taken.
            if not valid and at < len(source):
                valid = self.rng.random() >= self.idle
            ready = self.rng.random() >= self.stall
            payload = int.from_bytes(source[at], "little") | (at == len(source) - 1) << CONFIG.stream_bits if valid else self.rng.getrandbits(CONFIG.stream_bits + 1)
            data = pack(word_layout(CONFIG), self.memory[read].tolist()) if read is not None else self.rng.getrandbits(CONFIG.stream_bits)
            await self.cycle(run=1, input__valid=int(valid), input__payload=payload, output__ready=int(ready), engine_busy=int(busy > 0), read_data=data)
            # What was offered and not taken stays.
            if held is not None:
                assert self["output__valid"] and self["output__payload"] == held, f"cycle {cycle}, seed {SEED}: an offered beat was taken back"
            held = None
            if self["output__valid"]:
                if ready:
                    word = self["output__payload"]
                    self.outputs.append((word & (1 << CONFIG.stream_bits) - 1, word >> CONFIG.stream_bits))
                else:
                    held = self["output__payload"]
            self.starved += self["starved"]
            assert self["starved"] == (self["input__ready"] and not valid), f"cycle {cycle}, seed {SEED}"
            for opcode, name in WRITES.items():
                if self[f"write_{name}"]:
                    assert valid and self["input__ready"]
                    beat = self["write_beat"] if opcode is not Opcode.LOAD_ACTIVATIONS else 0
                    self.events.append((name, self["write_address"], beat, self["write_data"], busy > 0))
            read = self["read_address"] if self["read_valid"] else None
            if read is not None:
                assert busy == 0, f"cycle {cycle}: read while the engine runs"
            busy = max(0, busy - 1)
            if self["start"]:
                assert busy == 0
                layer = unpack(layer_layout(CONFIG), self["layer"])
                self.events.append(("layer", layer))
                busy = busy_cycles(layer)
            if valid and self["input__ready"]:
                at, valid = at + 1, False
            if self["fault"]:
                self.fault = self["fault"]
                return cycle
            if self["done"]:
                assert busy == 0 and at == len(source)
                return cycle
        raise AssertionError(f"neither done nor fault after {limit} cycles, seed {SEED}; taken {at} of {len(source)} beats")


def expected(commands, memory):
    events, outputs = [], []
    for command in commands:
        match command:
            case Load():
                per_word = beats_per_word(CONFIG, command.opcode)
                for n, word in enumerate(command.data.reshape(-1, per_word, CONFIG.word)):
                    for beat, data in enumerate(word):
                        events.append((WRITES[command.opcode], command.address + n, beat, int.from_bytes(data.tobytes(), "little")))
            case Layer():
                events.append(("layer", {f.name: int(getattr(command, f.name)) for f in FIELDS}))
            case Store():
                for n in range(command.count):
                    word = memory[command.address + n].copy()
                    word[command.tail :] = 0
                    outputs.append((int.from_bytes(word.tobytes(), "little"), int(n == command.count - 1)))
    return events, outputs


async def stream_test(dut, idle, stall, count):
    rng = generator("programs")
    beside = 0
    for n in range(count):
        program = programs(rng)
        stream = encode(CONFIG, program)
        commands = decode(CONFIG, stream)
        decoder = Decoder(dut, idle, stall)
        await decoder.run(stream, lambda layer: rng.choice((1, 2, 30)))
        assert decoder.fault == 0, f"program {n}, seed {SEED}: {Error(decoder.fault).name}"
        events, outputs = expected(commands, decoder.memory)
        assert [e[:4] for e in decoder.events] == events, f"program {n}, seed {SEED}"
        assert decoder.outputs == outputs, f"program {n}, seed {SEED}"
        assert idle or decoder.starved == 0
        # Only loads of weights and scales without the sync bit run beside a layer.
        allowed = {(WRITES[c.opcode], c.address) for c in commands if isinstance(c, Load) and c.opcode is not Opcode.LOAD_ACTIVATIONS and not c.sync}
        for event in decoder.events:
            if len(event) == 5 and event[4]:
                assert any(event[0] == name and event[1] >= address for name, address in allowed), f"program {n}, seed {SEED}: {event}"
                beside += 1
    assert beside > 0 or idle or stall


@cocotb.test()
async def free_running(dut):
    await stream_test(dut, 0.0, 0.0, 25)


@cocotb.test()
async def idle_source(dut):
    await stream_test(dut, 0.5, 0.0, 15)


@cocotb.test()
async def stalling_sink(dut):
    await stream_test(dut, 0.0, 0.6, 15)


@cocotb.test()
async def idle_source_and_stalling_sink(dut):
    await stream_test(dut, 0.4, 0.4, 15)


@cocotb.test()
async def loads_wait_for_the_layer_if_they_must(dut):
    fields = layers.header(generator(), CONFIG)
    layer = Layer(**{**fields, **{name: bool(fields.get(name)) for name in FLAGS}})
    for opcode in WRITES:
        for sync in (False, True):
            data = np.zeros((1, beats_per_word(CONFIG, opcode) * CONFIG.word), dtype=np.uint8)
            decoder = Decoder(dut)
            await decoder.run(encode(CONFIG, [layer, Load(opcode=opcode, address=0, data=data, sync=sync), End()]), lambda _: 100)
            writes = [event[4] for event in decoder.events[1:]]
            assert len(writes) == beats_per_word(CONFIG, opcode)
            assert writes == [opcode is not Opcode.LOAD_ACTIVATIONS and not sync] * len(writes), f"{opcode.name}, sync {sync}"
    for command in (layer, Store(address=0, count=1, tail=1)):
        decoder = Decoder(dut)
        assert await decoder.run(encode(CONFIG, [layer, command, End()]), lambda _: 100) > 100


@cocotb.test()
async def cycles_of_a_free_running_program(dut):
    """With an engine as fast as golden.cycles says, the program takes what the golden machine counts."""
    rng = generator("cycles")
    for n in range(20):
        program = programs(rng)
        try:
            golden = Machine(CONFIG).run(program).cycles
        except ValueError:
            continue  # a hazard: loads at random addresses may meet what a layer reads
        decoder = Decoder(dut)
        names = {f.name for f in FIELDS}
        actual = await decoder.run(encode(CONFIG, program), lambda h: cycles.layer_cycles(
            CONFIG, Layer(**{**{k: v for k, v in h.items() if k in names}, "kind": Kind(h["kind"]), "w4": bool(h["w4"])})).total)
        # The golden machine counts from the start register, one cycle before `run`, up to and including the cycle of `done`.
        assert actual + 1 == golden, f"program {n}, seed {SEED}"


def cases():
    if CONFIG == UNIT_CONFIG:
        # Those of the format's own tests; what ends in the middle of a beat, or before one, has no `last`.
        yield from ((name, stream, code) for name, stream, code, _ in malformed() if stream and len(stream) % CONFIG.word == 0)
    # Of every configuration: each field of a layer just inside and just outside of its limits.
    good = layers.header(generator("good"), CONFIG) | {"residual": 0}
    good |= {name: bool(good.get(name)) for name in FLAGS}
    for name, low, high, _ in limits(CONFIG):
        f = next(f for f in FIELDS if f.name == name)
        least, most = (-(1 << f.bits - 1), (1 << f.bits - 1) - 1) if f.signed else (0, (1 << f.bits) - 1)
        for value in {low - 1, low, high, high + 1, least, most}:
            if least <= value <= most:
                words = np.frombuffer(encode(CONFIG, [Layer(**{**good, "kind": Kind.CONV})]), dtype="<u4").copy()
                mask = (1 << f.bits) - 1 << f.lsb
                words[f.word] = int(words[f.word]) & ~mask | (value % (1 << f.bits)) << f.lsb
                stream = words.tobytes() + encode(CONFIG, [End()])
                try:
                    decode(CONFIG, stream)
                    yield f"{name} = {value}", stream, Error.NONE
                except ProgramError as error:
                    yield f"{name} = {value}", stream, error.code


@cocotb.test()
async def errors(dut):
    codes = set()
    for idle in (0.0, 0.5):
        for name, stream, code in cases():
            decoder = Decoder(dut, idle)
            await decoder.run(stream, limit=200)
            assert decoder.fault == code, f"{name}: fault {decoder.fault}, expected {code}"
            assert not any(event[0] == "layer" for event in decoder.events) or code in (Error.NONE, Error.TRUNCATED, Error.OVERLONG), name
            codes.add(code)
    # The others are those of units that run while a layer does.
    wanted = {Error.NONE, Error.OPCODE, Error.BUDGET, Error.GEOMETRY, Error.ADDRESS, Error.WEIGHT_ADDRESS, Error.SCALE_ADDRESS, Error.REQUANTIZE}
    if CONFIG == UNIT_CONFIG:
        wanted |= {Error.TRUNCATED, Error.OVERLONG, Error.RESIDUAL}
    assert codes >= wanted, wanted - codes


@cocotb.test()
async def nothing_happens_before_run(dut):
    bench = Bench(dut)
    await bench.begin(run=0, input__valid=1, input__payload=(1 << CONFIG.stream_bits + 1) - 1, output__ready=1, engine_busy=0, read_data=0)
    for _ in range(20):
        await bench.cycle()
        assert [bench[name] for name in ("input__ready", "output__valid", "start", "done", "fault", "starved", "read_valid")] == [0] * 7
        assert [bench[f"write_{name}"] for name in WRITES.values()] == [0] * 3
