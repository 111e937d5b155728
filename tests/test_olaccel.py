"""OLAccel's numbers: what is normal and what an outlier, chunks, exact sums; its groups against them, under both simulators."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import olaccel
from golden.mac_array import convolve
from golden.olaccel import LANES, chunk_cycles, encode_chunks, limits, split_activations, split_precise, split_weights
from hw.olaccel_normal import NormalGroup
from hw.olaccel_outlier import OutlierGroup
from hw.verilog import export
from sim.cocotb_runner import run
from tests import reference
from tests.cocotb_olaccel_stimulus import random_weights
from tests.units import SIMULATORS, Units

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from([8, 16]), st.booleans())
def test_activations_are_cut_in_two_without_a_remainder(seed, bits, signed):
    low, high = limits(bits, signed)
    codes = np.random.default_rng(seed).integers(low, high + 1, 200).astype(np.int32)
    codes[:40] = np.arange(40) - 20 * signed
    normal, outliers = split_activations(codes, signed)
    assert (normal + outliers == codes).all() and not (normal * outliers.astype(np.int64)).any()
    assert normal.min() >= (-8 if signed else 0) and normal.max() <= (7 if signed else 15)
    assert not ((outliers >= (-8 if signed else 0)) & (outliers <= (7 if signed else 15)) & (outliers != 0)).any()
    assert normal.dtype == outliers.dtype == np.int32


def test_precise_codes_as_two_nibbles_that_a_mac_takes():
    codes = np.arange(-128, 256)
    high, low = split_precise(codes)
    assert (16 * high + low == codes).all() and low.min() == 0 and low.max() == 15 and high.min() == -8 and high.max() == 15


def test_weights_as_two_digits():
    codes = np.arange(-128, 120)
    msb, nibble = split_weights(codes)
    assert (16 * msb + nibble == codes).all() and all(digit.min() == -8 and digit.max() == 7 for digit in (msb, nibble))
    assert ((msb != 0) == ((codes < -8) | (codes > 7))).all()
    with pytest.raises(ValueError, match=r"^OLAccel's weights reach to 119, not 120$"):
        split_weights(np.array([0, 120]))


@given(seeds)
def test_chunks_hold_their_weights(seed):
    weights = random_weights(np.random.default_rng(seed), 50)
    chunks, msbs = encode_chunks(weights)
    cycles = chunk_cycles(weights)[:, 0]
    for weight, nibbles, pointer, index, msb, cycle in zip(weights, *(chunks[name] for name in ("nibbles", "pointer", "index", "msb")), cycles):
        outliers = sum(w < -8 or w > 7 for w in weight)
        assert (cycle, bool(pointer)) == ((2, True) if outliers > 1 else (1, False))
        more = msbs[pointer - 1] if pointer else msb * (np.arange(LANES) == index)
        assert (nibbles + 16 * more == weight).all() and not (pointer and msb)
    assert chunks["pointer"].max() == len(msbs)


def test_no_more_chunks_with_several_outliers_than_pointers():
    weights = np.full((256, LANES), 100)
    assert encode_chunks(weights[:255])[0]["pointer"].tolist() == list(range(1, 256))
    with pytest.raises(ValueError, match=r"^256 chunks have several outliers, and a pointer tells 255 apart$"):
        encode_chunks(weights)


@given(seeds, st.integers(1, 40))
def test_chunks_of_fewer_channels_are_filled_with_zeros(seed, channels):
    weights = np.random.default_rng(seed).integers(-20, 20, (3, 2, channels))
    found = chunk_cycles(weights)
    assert found.shape == (3, 2, -(-channels // LANES))
    for at in np.ndindex(found.shape):
        part = weights[at[0], at[1], at[2] * LANES : at[2] * LANES + LANES]
        assert found[at] == (2 if sum(not -8 <= w <= 7 for w in part) > 1 else 1)
    assert olaccel.weight_bits(weights) == 80 * found.sum()


@given(seeds, st.booleans())
@settings(max_examples=40)
def test_sums_are_exact_and_those_of_both_kinds_of_groups(seed, signed):
    """16-bit outliers and the largest weights: beyond float32's mantissa."""
    rng = np.random.default_rng(seed)
    low, high = limits(16, signed)
    codes = np.where(rng.random((2, 5, 4, 20)) < 0.2, rng.choice([low, high, 9999], (2, 5, 4, 20)), rng.integers(0, 8, (2, 5, 4, 20))).astype(np.int32)
    weights = rng.choice([-128, 119, -8, 7, 1, 0], (3, 2, 20, 18)).astype(np.int16)
    geometry = (1, 2), (1, 0), (5, 2)
    found = olaccel.sums(codes, weights, *geometry)
    assert (found == reference.convolution(codes, weights.astype(np.int64), *geometry)).all()
    parts = [olaccel.sums(part, weights, *geometry) for part in split_activations(codes, signed)]
    assert (parts[0] + parts[1] == found).all()
    digits = [convolve(parts_of, digit.astype(np.float64), *geometry) for parts_of in split_activations(codes, signed) for digit in split_weights(weights)]
    assert (16 * (digits[0] + digits[2]) + digits[1] + digits[3] == found).all()


@given(seeds, st.sampled_from([0.01, 0.03, 0.1]), st.booleans())
@settings(max_examples=30)
def test_the_threshold_leaves_as_many_outliers_as_asked_for(seed, ratio, signed):
    """But for negative codes, which reach one further."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=(10, 4, 4, 50)) * rng.uniform(0.001, 1000)
    values = values if signed else np.maximum(values, 0)
    step = olaccel.activation_step(values, ratio, signed)
    outliers = split_activations(olaccel.quantise_activations(values, step, signed=signed), signed)[1] != 0
    assert abs((abs(values) > step * (7.5 if signed else 15.5)).sum() - ratio * values.size) <= 1
    assert (outliers == ((values > step * (7.5 if signed else 15.5)) | (values < -8.5 * step))).all()
    weights = rng.laplace(size=(3, 3, 64, 5)) * rng.uniform(0.001, 1000, 5)
    steps = olaccel.weight_steps(weights, ratio)
    codes = olaccel.quantise_weights(weights, steps)
    assert steps.shape == (5,) and codes.dtype == np.int16
    assert ((split_weights(codes)[0] != 0) == ((weights > 7.5 * steps) | (weights < -8.5 * steps))).all()
    assert (abs((abs(weights) > 7.5 * steps).sum(axis=(0, 1, 2)) - ratio * 9 * 64) <= 1).all()
    assert (abs(codes * steps - weights) <= steps / 2 * 1.0000001).all()


def test_a_long_tail_makes_the_step_longer_instead_of_being_cut():
    weights = np.array([1.0] * 999 + [1195.0]).reshape(1, 1, -1, 1)
    assert olaccel.weight_steps(weights).tolist() == [10.0]
    assert olaccel.quantise_weights(weights, np.array([10.0])).max() == 119


def test_an_error_is_half_a_step_up_to_the_largest_code():
    values = np.linspace(0, 300, 3001)
    for bits, top in ((8, 255), (16, 300)):
        assert abs(olaccel.quantise_activations(values, 1.0, bits) - np.minimum(values, top)).max() <= 0.5
    assert olaccel.quantise_activations(np.array([-1e9, 1e9]), 1.0, 8, signed=True).tolist() == [-127, 127]
    assert olaccel.quantise_activations(np.array([-1e9, 1e9]), 1.0).tolist() == [0, 65535]


def test_mostly_or_wholly_zero_tensors_have_a_step():
    values = np.zeros(1000)
    assert olaccel.activation_step(values) == 1
    values[:10] = 31
    assert olaccel.activation_step(values) == 2
    assert olaccel.weight_steps(np.zeros((1, 1, 4, 2))).tolist() == [1, 1]


def test_bits_of_activations():
    codes = np.zeros((2, 4, 4, 8), dtype=int)
    codes[1, 0, 0, :3] = 16, 15, 255
    assert olaccel.activation_bits(codes) == 4 * 256 + 2 * (16 + 7)
    assert olaccel.activation_bits(codes, bits=8) == 4 * 256 + 2 * (8 + 7)
    assert olaccel.activation_bits(codes, signed=True) == 4 * 256 + 3 * (16 + 7)


UNITS = {"olaccel_normal": NormalGroup, **{f"olaccel_outlier_{bits}": functools.partial(OutlierGroup, bits=bits) for bits in (8, 16)}}


@functools.cache
def verilog() -> str:
    """All side by side: a build under Verilator costs the same for one."""
    return export(Units({name: make() for name, make in UNITS.items()}), "units", constant=())


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_group(unit, simulator):
    module = "tests.cocotb_olaccel_normal" if unit == "olaccel_normal" else "tests.cocotb_olaccel_outlier"
    run(verilog(), "units", module, simulator=simulator, env={"UNIT": unit, "SIMULATION": simulator})


class RejectedNormal(NormalGroup):
    """Never elaborated; the warning for that looks at the instance, and may come after the test has ended."""

    _MustUse__silence = True


class RejectedOutlier(OutlierGroup):
    _MustUse__silence = True


@pytest.mark.parametrize("make, message", [
    (lambda: RejectedOutlier(bits=12), r"^bits must be 8 or 16, not 12$"),
    (lambda: RejectedOutlier(accumulator_bits=25), r"^accumulator_bits must be at least 26, the width of what a lane adds, not 25$"),
    (lambda: RejectedNormal(accumulator_bits=13), r"^accumulator_bits must be at least 14, the width of what a lane adds, not 13$")])
def test_sizes_that_no_group_has(make, message):
    with pytest.raises(ValueError, match=message):
        make()
