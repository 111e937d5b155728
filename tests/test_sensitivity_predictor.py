"""DRQ's sensitivity predictor: the rule against loops, the hardware against the rule; the memory of its masks."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.sensitivity_predictor import REGIONS_MAX, predict, spread
from hw.sensitivity_predictor import SUM_BITS, MaskMemory, SensitivityPredictor
from sdp.config import Config
from sdp.program import REGION_H_MAX, REGION_W_MAX, THRESHOLD_MAX
from tests.units import simulate


def sizes(name, **kwargs):
    return Config(name=name, array="drq", ports=1, **{"rows": 4, "activation_words": 2048, "scale_words": 16, "weight_words": 9, **kwargs})


# Blocks of 10 channels in words of 12, one at a time; whole blocks of 8 in two chunks; blocks of 12 in words of 12.
SIZES = (sizes("drq-single", group=4, lanes=3, columns=5, outputs=1, reduction=60), sizes("drq-chunks", group=4, lanes=2, columns=4, outputs=4, reduction=16),
         sizes("drq-thirds", group=2, lanes=6, columns=6, outputs=3, reduction=24))
REGIONS = st.tuples(st.integers(0, REGION_H_MAX), st.integers(0, REGION_W_MAX))


@given(st.tuples(*(st.integers(1, m) for m in (2, 11, 20, 3))), REGIONS, st.integers(0, THRESHOLD_MAX), st.booleans(), st.integers(0, 2**32))
def test_rule(shape, region, threshold, signed, seed):
    """Region by region; many have sums that lie at the threshold."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128 if signed else 0, 128 if signed else 256, shape).astype(np.int16)
    near = rng.random(shape) < 0.9
    codes[near] = np.where(rng.random(near.sum()) < 0.1, threshold + 1, threshold).clip(0, 127 if signed else 255) * (1 - 2 * (signed & (rng.random(near.sum()) < 0.5)))
    masks = predict(codes, threshold, *region)
    (n, h, w, c), (rows, columns) = shape, (2 ** region[0], 2 ** region[1])
    assert masks.dtype == bool and masks.shape == (n, -(-h // rows), -(-w // columns), c)
    for image, i, j, channel in np.ndindex(masks.shape):
        total = sum(abs(int(codes[image, y, x, channel])) for y in range(i * rows, min((i + 1) * rows, h)) for x in range(j * columns, min((j + 1) * columns, w)))
        assert masks[image, i, j, channel] == (total / (rows * columns) >= threshold)


@given(st.tuples(*(st.integers(1, m) for m in (2, 11, 20, 3))), REGIONS, st.integers(0, 2**32))
def test_spread_gives_every_pixel_the_bit_of_its_region(shape, region, seed):
    n, h, w, c = shape
    masks = np.random.default_rng(seed).random((n, -(-h >> region[0]), -(-w >> region[1]), c)) < 0.5
    pixels = spread(masks, *region, h, w)
    assert pixels.shape == shape
    assert all(pixels[at] == masks[at[0], at[1] >> region[0], at[2] >> region[1], at[3]] for at in np.ndindex(shape))


@pytest.mark.parametrize("values, threshold, sensitive", [
    ([10, 10, 10, 10], 10, True), ([10, 10, 10, 9], 10, False), ([40, 0, 0, 0], 10, True), ([-10, 10, -10, 10], 10, True), ([0, 0, 0, 0], 0, True),
    ([255, 255, 255, 255], 255, True), ([255, 255, 255, 255], 256, False), ([-128, -128, -128, -128], 128, True),
])
def test_at_least_the_threshold_is_sensitive(values, threshold, sensitive):
    assert predict(np.array(values).reshape(1, 2, 2, 1), threshold, 1, 1).tolist() == [[[[sensitive]]]]


def test_what_a_region_lacks_counts_as_zero():
    codes = np.full((1, 3, 3, 1), 20)
    assert predict(codes, 20, 1, 1)[0, ..., 0].tolist() == [[True, False], [False, False]]
    assert predict(codes, 10, 1, 1)[0, ..., 0].tolist() == [[True, True], [True, False]]
    assert predict(codes, 5, 1, 1).all() and predict(codes, 5, 2, 2).all() and not predict(codes, 12, 2, 2).any()


def test_sums_hold_the_largest_region_and_no_bit_more():
    largest = 255 << REGION_H_MAX + REGION_W_MAX
    assert largest.bit_length() == SUM_BITS and REGIONS_MAX & REGIONS_MAX - 1 == 0


@pytest.mark.parametrize("config", SIZES, ids=lambda c: c.name)
def test_sensitivity_predictor(config):
    simulate("sensitivity_predictor", "icarus", config, make=SensitivityPredictor, sizes=json.dumps(config.parameters()))


@pytest.mark.parametrize("config", SIZES, ids=lambda c: c.name)
def test_mask_memory(config):
    simulate("drq_mask_memory", "icarus", config, make=MaskMemory, sizes=json.dumps(config.parameters()))
