"""The program format: round trips, bit positions, and the named error of every malformed stream."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.config import NAMED
from sdp.encoding import decode, encode
from sdp.listing import disassemble
from sdp.program import (
    ALIGNED,
    FIELDS,
    FLAGS,
    HEADER_WORDS,
    LAYER_WORDS,
    End,
    Error,
    Kind,
    Layer,
    Load,
    Opcode,
    ProgramError,
    Store,
    check_layer,
    limits,
)
from tests.sizes import ALL, UNIT

CONFIGS = [*NAMED.values(), *ALL]
LAYER = Layer(kind=Kind.CONV, in_base=0, in_plane=4, in_h=2, in_w=2, in_words=1, in_tail=3, out_base=512, out_plane=4, out_h=2, out_w=2, out_channels=5)


@st.composite
def layers(draw, config):
    """Any header that the decoder accepts, whether a layer of it could run or not."""
    bounds = {name: (low, high) for name, low, high, _ in limits(config)}
    values = {}
    for f in FIELDS:
        low, high = bounds.get(f.name, (0, (1 << f.bits) - 1))
        values[f.name] = draw(st.one_of(st.integers(low, high), st.sampled_from([low, high])))
    for name in ALIGNED:
        values[name] = max(values[name] // config.ports * config.ports, config.ports if "plane" in name else 0)
    for name in FLAGS:
        values[name] = bool(values[name])
    half = config.activation_words // 2
    if values["residual"] and values["in_base"] // half == values["residual_base"] // half:
        values["residual_base"] ^= half
    return Layer(**{**values, "kind": Kind(values["kind"])})


@st.composite
def commands(draw):
    config = draw(st.sampled_from(CONFIGS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    result = []
    for _ in range(draw(st.integers(0, 5))):
        opcode = draw(st.sampled_from(list(Opcode)[:-1]))
        depth, width = {Opcode.LOAD_WEIGHTS: (config.weight_words, config.weight_beats), Opcode.LOAD_SCALES: (config.scale_words, config.scale_beats)}.get(
            opcode, (config.activation_words, 1))
        count = draw(st.integers(1, min(5, depth)))
        address = draw(st.sampled_from([0, depth - count, draw(st.integers(0, depth - count))]))
        if opcode is Opcode.LAYER:
            result.append(draw(layers(config)))
        elif opcode is Opcode.STORE:
            result.append(Store(address=address, count=draw(st.sampled_from([count, depth - address])), tail=draw(st.integers(1, config.word))))
        else:
            data = rng.integers(0, 256, (count, width * config.word), dtype=np.uint8)
            result.append(Load(opcode=opcode, address=address, data=data, sync=draw(st.booleans())))
    return config, [*result, End()]


def same(a, b):
    if isinstance(a, Load):
        return isinstance(b, Load) and (a.opcode, a.address, a.sync) == (b.opcode, b.address, b.sync) and a.data.shape == b.data.shape and (a.data == b.data).all()
    return a == b


@given(commands())
@settings(max_examples=150)
def test_decode_is_the_inverse_of_encode(case):
    config, program = case
    stream = encode(config, program)
    assert len(stream) % config.word == 0
    decoded = decode(config, stream)
    assert len(decoded) == len(program) and all(map(same, program, decoded))
    assert encode(config, decoded) == stream


@given(st.sampled_from(CONFIGS).flatmap(lambda c: st.tuples(st.just(c), layers(c))))
def test_place_of_every_layer_field(case):
    config, layer = case
    words = np.frombuffer(encode(config, [layer]), dtype="<u4")
    assert words[0] == 4 and len(words) == -(-LAYER_WORDS // config.header_words) * config.header_words
    for f in FIELDS:
        assert int(words[f.word]) >> f.lsb & (1 << f.bits) - 1 == int(getattr(layer, f.name)) % (1 << f.bits)


def test_fields_do_not_overlap_and_are_those_of_a_layer():
    taken = {}
    for f in FIELDS:
        for bit in range(f.lsb, f.lsb + f.bits):
            assert bit < 32 and 1 <= f.word < LAYER_WORDS and taken.setdefault((f.word, bit), f.name) == f.name
    assert {f.name for f in FIELDS} == {f.name for f in dataclasses.fields(Layer)} - {"tag"}
    assert {name for name, *_ in limits(UNIT)} | {*FLAGS} == {f.name for f in FIELDS}


def test_flags_are_the_fields_of_one_bit():
    assert FLAGS == tuple(f.name for f in FIELDS if f.bits == 1) == ("w4", "in_signed", "residual", "residual_signed", "ties_even")


def test_a_layer_of_zeros_rounds_ties_away_from_zero():
    """Streams from before there was a choice mean what they meant: the bit was zero."""
    words = np.frombuffer(encode(UNIT, [dataclasses.replace(LAYER, shift=9, pad_top=1, pad_left=2)]), dtype="<u4")
    assert words[6] == 9 << 16 | 2 << 8 | 1
    assert np.frombuffer(encode(UNIT, [dataclasses.replace(LAYER, shift=9, ties_even=True)]), dtype="<u4")[6] == 1 << 24 | 9 << 16


def test_bytes_of_small_commands():
    data = np.arange(2 * 12, dtype=np.uint8).reshape(2, 12)
    stream = encode(UNIT, [Load(opcode=Opcode.LOAD_ACTIVATIONS, address=0x102, data=data, sync=True), Store(address=7, count=300, tail=9), End()])
    assert stream.hex(" ", 4) == (
        "01010000 02010000 02000000 " + data.tobytes().hex(" ", 4) + " 05000000 07000000 2c010000 09000000 00000000 00000000 06000000 00000000 00000000")


@pytest.mark.parametrize("name, value", [(f.name, v) for f in FIELDS if f.name not in ("kind", *FLAGS)
                                         for v in ((-(1 << f.bits - 1) - 1, 1 << f.bits - 1) if f.signed else (-1, 1 << f.bits))])
def test_encode_refuses_what_does_not_fit(name, value):
    bits = next(f.bits for f in FIELDS if f.name == name)
    with pytest.raises(ValueError, match=rf"^layer 'one': {name} = {value} does not fit {bits} bits$"):
        encode(UNIT, [dataclasses.replace(LAYER, tag="one", **{name: value})])


@pytest.mark.parametrize("data", [
    np.zeros((1, 11), np.uint8), np.zeros((1, 12), np.int8), np.zeros((2, 1, 12), np.uint8),
    np.zeros(12, np.uint8)])
def test_encode_refuses_other_data(data):
    with pytest.raises(ValueError, match=r"^LOAD_ACTIVATIONS data: .* \(.*\), but must be uint8 \(words, 12\)$"):
        encode(UNIT, [Load(opcode=Opcode.LOAD_ACTIVATIONS, address=0, data=data)])


def header(*words):
    words = list(words) + [0] * (-len(words) % UNIT.header_words)
    return np.array(words, dtype="<u4").tobytes()


END = header(6)


def layer(**changes):
    """The stream of one layer with raw values in some fields."""
    words = np.frombuffer(encode(UNIT, [LAYER]), dtype="<u4").copy()
    for f in FIELDS:
        if f.name in changes:
            mask = (1 << f.bits) - 1 << f.lsb
            words[f.word] = int(words[f.word]) & ~mask | (changes[f.name] % (1 << f.bits)) << f.lsb
    return words.tobytes()


def malformed():
    """(name, stream, code, message): what the decoder must stop at. Also what the hardware is tested with, where ``name`` has no 'bytes'."""
    beat = bytes(12)
    cases = [
        ("bytes left over", END + b"\0", Error.TRUNCATED, "13 bytes are no whole number of beats of 12 bytes"),
        ("no bytes", b"", Error.TRUNCATED, "the stream is empty"),
        ("opcode 0", header(0) + END, Error.OPCODE, "unknown command 0 at beat 0, allowed are 1 ... 6"),
        ("opcode 7", header(7) + END, Error.OPCODE, "unknown command 7 at beat 0, allowed are 1 ... 6"),
        ("opcode 255", header(255) + END, Error.OPCODE, "unknown command 255 at beat 0, allowed are 1 ... 6"),
        ("opcode 12 after a load", header(1, 0, 1) + beat + header(12) + END, Error.OPCODE, "unknown command 12 at beat 2, allowed are 1 ... 6"),
        ("kind past the last", layer(kind=max(Kind) + 1) + END, Error.OPCODE, f"unknown kind of layer {max(Kind) + 1} at beat 0"),
        ("kind 15", layer(kind=15) + END, Error.OPCODE, "unknown kind of layer 15 at beat 0"),
        ("end inside a layer header", layer()[:-12], Error.TRUNCATED, "the stream ends after 5 beats, inside a command that begins at or before beat 0"),
        ("end after the first beat of a layer header", layer()[:12], Error.TRUNCATED, "the stream ends after 1 beats, "),
        ("end with a layer", layer(), Error.TRUNCATED, "the stream ends after 6 beats, "),
        ("end with a load header", header(1, 0, 1), Error.TRUNCATED, "the stream ends after 1 beats, "),
        ("end inside load data", header(1, 0, 2) + beat, Error.TRUNCATED, "the stream ends after 2 beats, "),
        ("end with load data", header(1, 0, 2) + 2 * beat, Error.TRUNCATED, "the stream ends after 3 beats, "),
        ("end inside weight data", header(2, 0, 1) + 6 * beat, Error.TRUNCATED, "the stream ends after 7 beats, "),
        ("end with scale data", header(3, 0, 1) + beat, Error.TRUNCATED, "the stream ends after 2 beats, "),
        ("end with a store", header(5, 0, 1, 1), Error.TRUNCATED, "the stream ends after 2 beats, "),
        ("more after end", END + END, Error.OVERLONG, "1 beats after 'end'"),
        ("much more after end", END + 3 * beat, Error.OVERLONG, "3 beats after 'end'"),
        ("residual in the input's half", layer(residual=1, residual_base=508) + END, Error.RESIDUAL,
         "layer 'beat 0': input at 0 and residual at 508 lie in the same half"),
        ("residual in the input's upper half", layer(residual=1, in_base=512, residual_base=514) + END, Error.RESIDUAL,
         "layer 'beat 0': input at 512 and residual at 514 lie in the same half"),
    ]
    for opcode, depth, error, name in ((1, 1024, Error.ADDRESS, "LOAD_ACTIVATIONS"), (2, UNIT.weight_words, Error.WEIGHT_ADDRESS, "LOAD_WEIGHTS"),
                                       (3, 128, Error.SCALE_ADDRESS, "LOAD_SCALES"), (5, 1024, Error.ADDRESS, "STORE")):
        for address, count in ((0, 0), (0, depth + 1), (depth, 1), (depth - 1, 2), (1, depth), (1 << 31, 1), (0xFFFFFFFF, 1), (0, 0xFFFFFFFF),
                               (1, 0xFFFFFFFF), (1 << 20, 1), (1, 1 << 21), (depth // 2, depth // 2 + 1)):
            cases.append((f"{name} {address} {count}", header(opcode, address, count, *([1] if opcode == 5 else [])) + END, error,
                          f"{name} at beat 0: words {address} ... {address + count - 1} of a memory of {depth}"))
    for tail in (0, 13, 1 << 31, 256):
        cases.append((f"STORE tail {tail}", header(5, 0, 1, tail) + END, Error.GEOMETRY, f"STORE at beat 0: tail = {tail}, allowed are 1 ... 12"))
    for name, low, high, error in limits(UNIT):
        f = next(f for f in FIELDS if f.name == name)
        least, most = (-(1 << f.bits - 1), (1 << f.bits - 1) - 1) if f.signed else (0, (1 << f.bits) - 1)
        for value in sorted({least, low - 1, high + 1, most}):
            if name != "kind" and least <= value <= most and not low <= value <= high:
                cases.append((f"{name} {value}", layer(**{name: value}) + END, error, f"layer 'beat 0': {name} = {value}, allowed are {low} ... {high}"))
    for name in ALIGNED:
        cases.append((f"{name} odd", layer(**{name: 513}) + END, Error.ADDRESS, f"layer 'beat 0': {name} = 513 is no multiple of ports = 2"))
    # Of several errors the first in the documented order counts.
    cases += [
        ("order: kind before budget", layer(kind=15, budget=0) + END, Error.OPCODE, "unknown kind of layer 15"),
        ("order: budget before geometry", layer(budget=0, kernel_h=0) + END, Error.BUDGET, "layer 'beat 0': budget = 0"),
        ("order: geometry before address", layer(out_channels=0, in_base=4096) + END, Error.GEOMETRY, "layer 'beat 0': out_channels = 0"),
        ("order: address before weights", layer(residual_base=1024, weight_base=160) + END, Error.ADDRESS, "layer 'beat 0': residual_base = 1024"),
        ("order: weights before scales", layer(weight_base=160, scale_base=128) + END, Error.WEIGHT_ADDRESS, "layer 'beat 0': weight_base = 160"),
        ("order: scales before requantize", layer(scale_base=128, shift=0) + END, Error.SCALE_ADDRESS, "layer 'beat 0': scale_base = 128"),
        ("order: requantize before alignment", layer(shift=48, in_base=1) + END, Error.REQUANTIZE, "layer 'beat 0': shift = 48"),
        ("order: alignment before residual", layer(in_base=1, residual=1) + END, Error.ADDRESS, "layer 'beat 0': in_base = 1 is no multiple"),
    ]
    return cases


@pytest.mark.parametrize("stream, code, message", [pytest.param(*case[1:], id=case[0]) for case in malformed()])
def test_malformed_streams_have_their_error(stream, code, message):
    with pytest.raises(ProgramError) as caught:
        decode(UNIT, stream)
    assert caught.value.code is code and str(caught.value).startswith(f"{code.name}: {message}")


def test_malformed_streams_cover_every_error_of_the_decoder():
    assert {case[2] for case in malformed()} == set(Error) - {Error.NONE, Error.REDUCTION, Error.TIMEOUT}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_limits_are_inclusive(config):
    base = dataclasses.replace(LAYER, in_plane=16, out_base=0, out_plane=16)
    for name, low, high, error in limits(config):
        for value in (low, high):
            value = Kind(value) if name == "kind" else value // config.ports * config.ports if name in ALIGNED else value
            if low <= value:
                check_layer(config, dataclasses.replace(base, **{name: value}))
        if name != "kind":
            for value in (low - 1, high + 1):
                with pytest.raises(ProgramError, match=rf"^{error.name}: layer '': {name} = {value}, allowed are {low} \.\.\. {high}$"):
                    check_layer(config, dataclasses.replace(base, **{name: value}))


def test_header_words():
    assert HEADER_WORDS == {1: 3, 2: 3, 3: 3, 4: 16, 5: 4, 6: 1}


def test_disassemble():
    program = [Load(opcode=Opcode.LOAD_WEIGHTS, address=3, data=np.zeros((2, 84), np.uint8), sync=True),
               dataclasses.replace(LAYER, budget=3, ties_even=True, clamp_low=-128, tag="conv1"), Store(address=5, count=6, tail=7), End()]
    assert disassemble(program) == (
        "load_weights address=3 count=2 sync\n"
        "layer conv in_base=0 in_plane=4 in_h=2 in_w=2 in_words=1 in_tail=3 out_base=512 out_plane=4 out_h=2 out_w=2 out_channels=5 "
        "budget=3 ties_even=1 clamp_low=-128  ; conv1\nstore address=5 count=6 tail=7\nend")
