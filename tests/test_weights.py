"""Digits: every weight of both modes is exact, and memory words keep them."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.weights import (
    DIGITS,
    FORMATS,
    allowed,
    decode_digit,
    encode_digit,
    pack,
    pack_bytes,
    pack_slots,
    slot_bytes,
    slots_of,
    split_w8,
    unpack,
    unpack_slots,
    weights_of,
)
from sdp.config import BASELINES, CONFIGS, NAMED, VARIANTS
from tests.sizes import ALL, DENSE, PLAIN

OF_DIGITS = [*NAMED.values(), *VARIANTS.values(), *ALL, *PLAIN]


@pytest.mark.parametrize("bits, values", [(4, range(-8, 8)), (5, range(-15, 16))])
def test_every_digit_round_trips_in_its_bits(bits, values):
    assert DIGITS[bits].tolist() == list(values)
    coded = encode_digit(DIGITS[bits], bits)
    assert coded.dtype == np.uint8 and coded.max() < 1 << bits and decode_digit(coded, bits).tolist() == list(values)
    assert [code >> bits - 1 for code in coded.tolist()] == [value < 0 for value in values]


@pytest.mark.parametrize("bits", [4, 5])
def test_every_pattern_decodes_to_what_it_stands_for(bits):
    """Also that of a sign without a magnitude: -8, out of reach of three bits of magnitude, or 0, and whatever lies above it in a slot."""
    half = 1 << bits - 1
    for pattern in range(1 << bits):
        value = pattern if pattern < half else half - pattern or (-8 if bits == 4 else 0)
        for above in (0, 1 << bits):
            assert decode_digit(np.array([pattern | above], dtype=np.uint16), bits)[0] == value


@pytest.mark.parametrize("bits, value, reach", [
    *((5, value, "-15 ... 15") for value in (-16, 16, 28)), *((4, value, "-8 ... 7") for value in (-9, 8, 15))])
def test_other_values_are_refused(bits, value, reach):
    with pytest.raises(ValueError, match=rf"^no digit stands for \[{value}\]; allowed are {re.escape(reach)}$"):
        encode_digit(np.array([0, value]), bits)


def test_every_w8_code_is_exact_and_made_of_digits():
    codes = np.arange(-128, 128)
    high, low = split_w8(codes)
    assert (16 * high + low).tolist() == codes.tolist()
    assert (16 * decode_digit(encode_digit(high, 5), 5) + decode_digit(encode_digit(low, 5), 5)).tolist() == codes.tolist()


@pytest.mark.parametrize("code", [-129, 128])
def test_w8_out_of_range(code):
    with pytest.raises(ValueError, match=re.escape(f"w8 weights reach from {min(code, 0)} to {max(code, 0)}, allowed are -128 ... 127") + "$"):
        split_w8(np.array([0, code]))


def test_no_weights_split():
    assert split_w8(np.zeros((0, 3)))[0].shape == (0, 3)


@given(st.sampled_from(OF_DIGITS), st.integers(1, 3), st.integers(0, 2**32))
def test_unpack_is_the_inverse_of_pack(config, words, seed):
    rng = np.random.default_rng(seed)
    high, low = (rng.choice(allowed(config, True), (words, config.columns, config.word)) for _ in range(2))
    memory = pack(config, high, low)
    assert memory.dtype == np.uint8 and memory.shape == (words, config.weight_beats * config.word)
    for expected, actual in zip((high, low), unpack(config, memory)):
        assert actual.shape == expected.shape and (actual == expected).all()


@pytest.mark.parametrize("config", OF_DIGITS, ids=lambda c: c.name)
def test_place_of_every_slot(config):
    """Slot s of column c lies at bit (c * word + s) * 10 or, of digits of four bits, 8: low digit below, sign above magnitude, the rest is zero."""
    width, rng = 5 if config.array == "sdp" else 4, np.random.default_rng(1)
    high, low = (rng.choice(allowed(config, True), (2, config.columns, config.word)) for _ in range(2))
    for word, memory in enumerate(pack(config, high, low)):
        whole = int.from_bytes(memory.tobytes(), "little")
        for column in range(config.columns):
            for slot in range(config.word):
                bits = whole >> (column * config.word + slot) * 2 * width & (1 << 2 * width) - 1
                for digit, value in ((bits & (1 << width) - 1, low), (bits >> width, high)):
                    magnitude = digit & (1 << width - 1) - 1
                    assert (-(magnitude or 8) if digit >> width - 1 else magnitude) == value[word, column, slot]
        assert whole >> config.columns * config.word * 2 * width == 0


EVERY = [*OF_DIGITS, *BASELINES.values(), *DENSE]


@given(st.sampled_from([(c, w4) for c in EVERY for w4 in c.array_kind.modes]), st.integers(1, 3), st.integers(0, 2**32))
def test_weights_survive_their_words(config_and_mode, words, seed):
    (config, w4), rng = config_and_mode, np.random.default_rng(seed)
    weights = rng.choice(allowed(config, w4), (words, config.block(w4), config.word))
    memory = pack_slots(config, slots_of(config, weights, w4))
    assert memory.shape == (words, config.weight_beats * config.word)
    np.testing.assert_array_equal(weights_of(config, unpack_slots(config, memory), w4), weights)


@pytest.mark.parametrize("config, w4", [(c, w4) for c in DENSE[:3] for w4 in c.array_kind.modes])
def test_every_dense_weight_is_plain_two_s_complement(config, w4):
    """Slot s of column c lies at bit (c * word + s) * 8: a byte, or in w4 one nibble for channel c and the upper one for channel columns + c."""
    values = allowed(config, w4)
    assert values.tolist() == (list(range(-8, 8)) if w4 else list(range(-128, 128)))
    weights = np.resize(values, (-(-256 // config.word // config.columns) + 1, config.block(w4), config.word))
    for word, memory in zip(weights, pack_slots(config, slots_of(config, weights, w4))):
        whole = int.from_bytes(memory.tobytes(), "little")
        for column in range(config.columns):
            for slot in range(config.word):
                byte = whole >> (column * config.word + slot) * 8 & 255
                expected = (word[column, slot] & 15 | (word[column + config.columns, slot] & 15) << 4) if w4 else word[column, slot] & 255
                assert byte == expected


def test_every_slot_of_a_byte_decodes():
    slots, form = np.arange(256, dtype=np.uint16), FORMATS["int4"]
    high, low = form.decode(slots, False)
    assert (16 * high + low).tolist() == [b - 256 if b > 127 else b for b in range(256)] and low.min() == 0
    high, low = form.decode(slots, True)
    assert low.tolist() == [(b & 15) - 16 if b & 8 else b & 15 for b in range(256)] and high.min() == -8


def test_every_weight_of_plain_digits():
    """Every slot is a pair of digits of its own; w8 has all sums of 16 times one and another that a byte has, w4 each digit."""
    config, form = VARIANTS["small-plain"], FORMATS["sdp-plain"]
    pairs = list(itertools.product(range(-8, 8), range(-8, 8)))
    assert allowed(config, False).tolist() == [value for value in sorted(16 * high + low for high, low in pairs) if value >= -128]
    assert allowed(config, True).tolist() == list(range(-8, 8))
    for w4 in (False, True):
        high, low = form.decode(np.arange(256, dtype=np.uint16), w4)
        assert sorted(zip(high.tolist(), low.tolist())) == pairs
    high, low = np.array(pairs).T
    assert [part.tolist() for part in form.decode(form.encode(high, low), True)] == [high.tolist(), low.tolist()]


def test_every_pair_of_drq():
    config = BASELINES["drq-small"]
    values = allowed(config, False)
    assert values.tolist() == list(range(-128, 120))
    high, low = FORMATS["drq"].decode(FORMATS["drq"].encode(values[:, None], values), False)
    assert (high == values[:, None]).all() and (low == values).all()


@pytest.mark.parametrize("name, w4, weight, reach", [("small", True, 16, "-15 to 15"), ("small-plain", True, 12, "-8 to 7"), ("small-plain", False, 120, "-128 to 119"),
                                                     ("int4-small", True, 8, "-8 to 7"), ("int8-small", False, 128, "-128 to 127"),
                                                     ("drq-small", False, 120, "-128 to 119")])
def test_weights_that_an_array_does_not_have(name, w4, weight, reach):
    config = CONFIGS[name]
    with pytest.raises(ValueError, match=rf"^weights \[{weight}\] are none of {'w4' if w4 else 'w8'}, which reach from {reach} on the {config.array} array$"):
        slots_of(config, np.full((1, config.block(w4), config.word), weight), w4)


@pytest.mark.parametrize("config", EVERY, ids=lambda c: c.name)
def test_depthwise_weights_lie_in_column_0_as_bytes(config):
    weights = np.resize(np.arange(-128, 128), (2 + 256 // config.word, config.word))
    memory = pack_bytes(config, weights)
    slots = unpack_slots(config, memory)
    assert (slot_bytes(config, slots[:, 0]) == weights).all() and not slots[:, 1:].any()
    for word, codes in zip(memory, weights.tolist()):
        whole = int.from_bytes(word.tobytes(), "little")
        for slot, code in enumerate(codes):
            bits = whole >> slot * config.slot_bits & (1 << config.slot_bits) - 1
            if config.array == "sdp":
                assert bits & 15 | (bits >> 5 & 15) << 4 == code % 256 and bits >> 4 & 1 == bits >> 9 == 0
            else:
                assert bits == code % 256
