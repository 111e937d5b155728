"""Requantization: against exact rational arithmetic; scale memory words."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from golden.output_stage import pack_scales, requantize, round_shift, unpack_scales
from sdp.config import NAMED
from sdp.program import SHIFT_MAX
from tests.sizes import ALL, UNIT
from tests.units import everywhere, simulate

CONFIGS = [*NAMED.values(), *ALL]


def half_away(value: Fraction) -> int:
    """Nearest integer, ties away from zero."""
    magnitude = abs(value)
    whole, rest = divmod(magnitude.numerator, magnitude.denominator)
    whole += 2 * rest >= magnitude.denominator
    return -whole if value < 0 else whole


ROUND = {False: half_away, True: round}
"""What the two ways to round do to a fraction: Python's ``round`` takes ties to even."""
shift = st.integers(1, SHIFT_MAX)


@given(st.integers(-(2**61), 2**61), shift)
@example(1, 1)
@example(-1, 1)
@example(-3, 1)
@example(3, 1)
@example(2**46, 47)
@example(-(2**46), 47)
@example(3 * 2**46, 47)
@example(-3 * 2**46, 47)
@example(2**46 - 1, 47)
@example(-(2**46) + 1, 47)
def test_round_shift_is_exact(value, shift):
    for ties_even, nearest in ROUND.items():
        assert int(round_shift(np.array([value]), shift, ties_even)[0]) == nearest(Fraction(value, 2**shift))


def test_every_small_number():
    """All of them, so that no neighbour of a tie is left out, on either side of zero."""
    for shift in range(1, 8):
        values = np.arange(-3 << shift, (3 << shift) + 1)
        for ties_even, nearest in ROUND.items():
            assert round_shift(values, shift, ties_even).tolist() == [nearest(Fraction(int(value), 2**shift)) for value in values]


@given(st.integers(-1000, 1000), shift)
def test_ties(whole, shift):
    value = np.array([(2 * whole + 1) << shift - 1])  # whole + 1/2
    assert int(round_shift(value, shift)[0]) == (whole + 1 if whole >= 0 else whole)
    assert int(round_shift(value, shift, ties_even=True)[0]) == (whole if whole % 2 == 0 else whole + 1)


@given(acc=st.integers(-(2**35), 2**35), bias=st.integers(-(2**31), 2**31 - 1), multiplier=st.integers(0, 2**24 - 1), shift=shift,
       residual=st.integers(-128, 255), residual_multiplier=st.integers(0, 2**24 - 1), low=st.integers(-128, 0), high=st.integers(0, 255),
       ties_even=st.booleans())
def test_requantize_is_exact(acc, bias, multiplier, shift, residual, residual_multiplier, low, high, ties_even):
    total = Fraction((acc + bias) * multiplier + residual * residual_multiplier, 2**shift)
    expected = min(max(ROUND[ties_even](total), low), high)
    actual = requantize(np.array([[acc]]), np.array([bias]), np.array([multiplier]), shift, low, high, np.array([[residual]]), residual_multiplier, ties_even)
    assert actual.dtype == np.int16 and actual.tolist() == [[expected]]


@given(st.integers(-300, 300), shift, st.booleans())
def test_requantize_near_every_tie(near, shift, ties_even):
    """Codes that clamping does not touch, one step of the sum away from a tie and on it."""
    for delta in (-1, 0, 1):
        total = (near << shift - 1) + delta
        expected = min(max(ROUND[ties_even](Fraction(total, 2**shift)), -128), 127)
        assert requantize(np.array([total]), 0, 1, shift, -128, 127, ties_even=ties_even).tolist() == [expected]


@given(acc=st.integers(-(2**32) + 1, 2**32 - 1), bias=st.integers(-(2**31), 2**31 - 1), multiplier=st.integers(0, 2**28 - 1), shift=shift,
       residual=st.integers(-128, 255), residual_multiplier=st.integers(0, 2**28 - 1), low=st.sampled_from([-128, 0]), ties_even=st.booleans())
def test_sums_in_floating_point_are_requantized_exactly(acc, bias, multiplier, shift, residual, residual_multiplier, low, ties_even):
    """Also next to ties, which random sums miss: the bias brings the total there, as far as it reaches."""
    near = bias if not multiplier else int(np.clip((((acc % 255) << shift) + (1 << shift - 1)) // multiplier - acc, -(2**31), 2**31 - 1))
    for value in (bias, near, min(near + 1, 2**31 - 1)):
        operands = np.array([value]), np.array([multiplier]), shift, low, 255 + low, np.array([[residual]]), residual_multiplier, ties_even
        assert requantize(np.array([[acc]], dtype=np.float64), *operands).tolist() == requantize(np.array([[acc]]), *operands).tolist()


@given(st.integers(-300, 300), st.integers(1, 23), st.booleans(), st.sampled_from([-128, 0]))
def test_ties_in_floating_point(near, shift, ties_even, low):
    for delta in (-1, 0, 1):
        total = (near << shift - 1) + delta
        for kind in (np.float64, *([np.float32] if abs(total) < 1 << 24 else [])):
            expected = min(max(ROUND[ties_even](Fraction(total, 2**shift)), low), 255 + low)
            assert requantize(np.array([total], dtype=kind), 0, 1, shift, low, 255 + low, ties_even=ties_even).tolist() == [expected]


def test_totals_that_double_precision_does_not_hold():
    """One less than a tie at about 2**54, where doubles are even numbers."""
    acc, multiplier, shift = 255 << 19, 1 << 27, 47
    for kind in (np.int64, np.float64):
        assert requantize(np.array([acc], dtype=kind), 0, multiplier, shift, 0, 255, np.array([-1]), 1).tolist() == [127]
        assert requantize(np.array([acc], dtype=kind), 0, multiplier, shift, 0, 255, np.array([0]), 1).tolist() == [128]


def test_channels_have_their_own_bias_and_multiplier():
    acc = np.arange(-6, 6).reshape(2, 2, 3)
    bias, multiplier = np.array([0, 100, -7]), np.array([2, 1, 3])
    residual = np.arange(12).reshape(2, 2, 3)
    actual = requantize(acc, bias, multiplier, 1, -128, 127, residual, 5)
    for at in np.ndindex(acc.shape):
        c = at[2]
        total = Fraction(int((acc[at] + bias[c]) * multiplier[c] + 5 * residual[at]), 2)
        assert actual[at] == half_away(total)


def test_largest_operands_do_not_overflow():
    """|acc + bias| below 2**32 (w8 weights, 65536 codes, bias int32), 31 bits of multiplier, and the largest residual."""
    acc, multiplier = 255 * 128 * 65536, 2**31 - 1
    for sign in (1, -1):
        for shift in (1, 47):
            bias = 2**31 - 1 if sign > 0 else -(2**31)
            total = Fraction((sign * acc + bias) * multiplier + sign * 127 * multiplier, 2**shift)
            for ties_even, nearest in ROUND.items():
                expected = min(max(nearest(total), -128), 127)
                actual = requantize(np.array([sign * acc]), bias, multiplier, shift, -128, 127, np.array([sign * 127]), multiplier, ties_even)
                assert actual.tolist() == [expected]


@given(st.sampled_from(CONFIGS), st.integers(1, 70), st.integers(0, 2**32))
def test_unpack_scales_is_the_inverse(config, channels, seed):
    rng = np.random.default_rng(seed)
    bias = rng.integers(-(2**31), 2**31, channels)
    multiplier = rng.integers(0, 1 << config.scale_bits, channels)
    words = pack_scales(config, bias, multiplier)
    assert words.dtype == np.uint8 and words.shape == (-(-channels // config.outputs), config.scale_beats * config.word)
    actual_bias, actual_multiplier = unpack_scales(config, words)
    padding = [0] * (-channels % config.outputs)
    assert actual_bias.tolist() == bias.tolist() + padding and actual_multiplier.tolist() == multiplier.tolist() + padding


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_place_of_every_channel(config):
    rng = np.random.default_rng(2)
    bias = rng.integers(-(2**31), 2**31, 2 * config.outputs)
    multiplier = rng.integers(0, 1 << config.scale_bits, 2 * config.outputs)
    for word, memory in enumerate(pack_scales(config, bias, multiplier)):
        whole, width = int.from_bytes(memory.tobytes(), "little"), 32 + config.scale_bits
        for i in range(config.outputs):
            field = whole >> i * width & (1 << width) - 1
            assert field & 0xFFFFFFFF == bias[word * config.outputs + i] & 0xFFFFFFFF
            assert field >> 32 == multiplier[word * config.outputs + i]
        assert whole >> config.outputs * width == 0


@pytest.mark.parametrize("bias, multiplier, message", [
    (1 << 31, 0, r"^bias reaches from 2147483648 to 2147483648, allowed is int32$"),
    (-(1 << 31) - 1, 0, r"^bias reaches from -2147483649 to -2147483649, allowed is int32$"),
    (0, 1 << 18, r"^multiplier reaches from 262144 to 262144, allowed are 18 bits, unsigned$"),
    (0, -1, r"^multiplier reaches from -1 to -1, allowed are 18 bits, unsigned$"),
])
def test_scales_out_of_range(bias, multiplier, message):
    with pytest.raises(ValueError, match=message):
        pack_scales(UNIT, [bias], [multiplier])


@everywhere
def test_output_stage(simulator, config):
    simulate("output_stage", simulator, config, shifts=SHIFT_MAX)
