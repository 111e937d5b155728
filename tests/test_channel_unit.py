"""Pooling: against loops; the channel unit against golden pooling."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.channel_unit import depthwise, pool
from tests import reference
from tests.test_mac_array import geometries
from tests.units import everywhere, plain_digits, simulate


@given(geometries(), st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=80)
def test_pool_equals_loops(geometry, seed, signed, maximum):
    (n, h, w, c, _), kernel, stride, pad, out = geometry
    image = np.random.default_rng(seed).integers(-128 if signed else 0, 128 if signed else 256, (n, h, w, c)).astype(np.int16)
    actual = pool(image, maximum, kernel, stride, pad, out)
    assert actual.dtype == np.int64 and (actual == reference.pooling(image, maximum, kernel, stride, pad, out)).all()


def test_a_window_outside_of_the_image_yields_zero_and_padding_is_no_zero_for_the_maximum():
    image = np.full((1, 2, 2, 1), -5, dtype=np.int16)
    assert pool(image, True, (1, 1), (2, 2), (2, 2), (3, 3))[0, ..., 0].tolist() == [[0, 0, 0], [0, -5, 0], [0, 0, 0]]
    assert pool(image, True, (2, 2), (1, 1), (1, 1), (3, 3))[0, ..., 0].tolist() == [[-5] * 3] * 3
    assert pool(image, False, (2, 2), (1, 1), (1, 1), (3, 3))[0, ..., 0].tolist() == [[-5, -10, -5], [-10, -20, -10], [-5, -10, -5]]


@given(geometries(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60)
def test_depthwise_equals_loops(geometry, seed, signed):
    """A depthwise convolution is a convolution whose weights are zero but on the diagonal of channels."""
    (n, h, w, c, _), kernel, stride, pad, out = geometry
    rng = np.random.default_rng(seed)
    image = rng.integers(-128 if signed else 0, 128 if signed else 256, (n, h, w, c)).astype(np.int16)
    weights = rng.integers(-128, 128, (*kernel, c))
    actual = depthwise(image, weights, stride, pad, out)
    assert actual.dtype == np.int64 and (actual == reference.convolution(image, weights[..., None] * np.eye(c, dtype=int), stride, pad, out)).all()


def test_largest_sum():
    image = np.full((1, 31, 31, 1), 255, dtype=np.int16)
    assert pool(image, False, (31, 31), (1, 1), (0, 0), (1, 1)).tolist() == [[[[255 * 961]]]]


@everywhere
def test_channel_unit(simulator, config):
    simulate("channel_unit", simulator, config)


@plain_digits
def test_channel_unit_with_bytes(config):
    """Slots of eight bits, as all arrays have them whose digits do not have five."""
    simulate("channel_unit", "icarus", config)
