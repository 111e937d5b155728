"""Convolution: against loops and onnxruntime; the MAC array against golden sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import mac_array
from golden.mac_array import convolve, exact, windows
from tests import reference
from tests.units import everywhere, plain_digits, simulate


@st.composite
def geometries(draw, largest=6):
    """(n, h, w, c, channels), kernel, stride, (top, left), (out_h, out_w): padding differs on all four sides."""
    n, h, w, c, channels = (draw(st.integers(1, m)) for m in (2, largest, largest, 4, 4))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pad = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    end = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    stride = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    out = tuple((size + p + e - k) // s + 1 for size, p, e, k, s in zip((h, w), pad, end, kernel, stride))
    # A kernel larger than the padded image has no output; then the image grows.
    if min(out) < 1:
        h, w = h + kernel[0], w + kernel[1]
        out = tuple((size + p + e - k) // s + 1 for size, p, e, k, s in zip((h, w), pad, end, kernel, stride))
    return (n, h, w, c, channels), kernel, stride, pad, out


def operands(sizes, kernel, seed, signed):
    n, h, w, c, channels = sizes
    rng = np.random.default_rng(seed)
    image = rng.integers(-128 if signed else 0, 128 if signed else 256, (n, h, w, c)).astype(np.int16)
    return image, rng.integers(-128, 128, (*kernel, c, channels))


@given(geometries(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60)
def test_convolve_equals_loops(geometry, seed, signed):
    sizes, kernel, stride, pad, out = geometry
    image, weights = operands(sizes, kernel, seed, signed)
    actual = convolve(image, weights, stride, pad, out)
    assert actual.dtype == np.int64 and (actual == reference.convolution(image, weights, stride, pad, out)).all()


@given(geometries(largest=12), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60)
def test_convolve_equals_onnxruntime(geometry, seed, signed):
    pytest.importorskip("onnxruntime")
    sizes, kernel, stride, pad, out = geometry
    image, weights = operands(sizes, kernel, seed, signed)
    assert (convolve(image, weights, stride, pad, out) == reference.conv_integer(image, weights, stride, pad, out)).all()


def test_padding_beyond_the_kernel_and_outputs_beyond_the_image():
    image, weights = operands((1, 3, 2, 2, 3), (2, 3), 5, True)
    for pad, out in (((5, 4), (9, 12)), ((0, 0), (6, 5)), ((4, 0), (1, 1))):
        assert (convolve(image, weights, (1, 2), pad, out) == reference.convolution(image, weights, (1, 2), pad, out)).all()


@pytest.mark.parametrize("count", [8, 514, 515, 516, 2304, 65536])
def test_sums_beyond_single_precision_are_exact(count):
    """Around the 2**24 where float32 ends (515 times 255 * 128), and at the largest reduction. Odd sums: one operand is smaller by one."""
    image = np.full((1, 1, 1, count), 255, dtype=np.int16)
    weights = np.full((1, 1, count, 2), -128)
    weights[..., 0, 1] = -127
    assert convolve(image, weights, (1, 1), (0, 0), (1, 1)).ravel().tolist() == [-255 * 128 * count, -255 * 128 * count + 255]


@pytest.mark.parametrize("count, kind", [(514, np.float32), (515, np.float64)])
def test_sums_as_the_blas_yields_them(count, kind):
    image, weights = np.full((3, 1, 2, count), 255, dtype=np.int16), np.full((1, 1, count, 1), 128)
    found = convolve(image, weights, (1, 1), (0, 0), (1, 2), dtype=None)
    assert found.dtype == kind and (found == 255 * 128 * count).all() and found.shape == (3, 1, 2, 1)
    weights = exact(weights)
    assert weights.dtype == kind and (convolve(image.astype(np.uint8), weights, (1, 1), (0, 0), (1, 2), dtype=None) == found).all()


@pytest.mark.parametrize("dtype", [None, np.int64])
def test_more_images_than_columns_are_made_of_at_once(dtype, monkeypatch):
    image, weights = operands((7, 5, 4, 3, 4), (3, 3), 8, True)
    together = convolve(image, weights, (1, 1), (1, 1), (5, 4), dtype)
    monkeypatch.setattr(mac_array, "_COLUMNS", 2 * 5 * 4 * 27)
    assert (convolve(image, weights, (1, 1), (1, 1), (5, 4), dtype) == together).all()


@given(geometries(), st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_order_in_memory_does_not_matter(geometry, seed):
    """Channels in planes, as results have them, or side by side; few images at once or many."""
    sizes, kernel, stride, pad, out = geometry
    image, weights = operands(sizes, kernel, seed, True)
    planes = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, -1, 0)), 0, -1)
    assert (convolve(planes, weights, stride, pad, out) == convolve(image, weights, stride, pad, out)).all()


def test_windows_is_a_view_in_documented_order():
    image = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    view = windows(image, (2, 3), (1, 2), (0, 0), (3, 2))
    assert view.shape == (2, 3, 2, 2, 3, 3)
    for n, y, x, ky, kx, c in np.ndindex(view.shape):
        assert view[n, y, x, ky, kx, c] == image[n, y + ky, 2 * x + kx, c]
    assert windows(image, (1, 1), (1, 1), (1, 0), (1, 1), fill=-7).ravel().tolist() == [-7] * 6


@everywhere
def test_mac_array(simulator, config):
    simulate("mac_array", simulator, config)


@plain_digits
def test_mac_array_with_digits_of_four_bits(config):
    simulate("mac_array", "icarus", config)
