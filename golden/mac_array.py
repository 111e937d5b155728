"""What the MAC array computes: a convolution of masked codes with integer weights, exactly.

The array never sees a convolution, only terms times digits; ``sum(term * digit)`` over kept terms and both digits of a weight is the
convolution of the masked codes with the whole weights, and that is what is written here.
"""

import numpy as np


def windows(image: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int], fill: int = 0) -> np.ndarray:
    """View of (n, h, w, c) as (n, out_h, out_w, kernel_h, kernel_w, c); ``fill`` outside of the image. ``pad`` is (top, left)."""
    n, h, w, c = image.shape
    need_h, need_w = (out[0] - 1) * stride[0] + kernel[0], (out[1] - 1) * stride[1] + kernel[1]
    padded = image
    if any(pad) or need_h > h or need_w > w:
        padded = np.full_like(image, fill, shape=(n, max(need_h, pad[0] + h), max(need_w, pad[1] + w), c))
        padded[:, pad[0] : pad[0] + h, pad[1] : pad[1] + w] = image
    view = np.lib.stride_tricks.sliding_window_view(padded[:, :need_h, :need_w], kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def exact(weights: np.ndarray) -> np.ndarray:
    """Weights (..., channels) in floating point in which the BLAS is exact, because no partial sum leaves the mantissa."""
    bound = 255 * int(np.abs(weights.reshape(-1, weights.shape[-1]).astype(np.int64)).sum(axis=0).max(initial=0))
    return weights.astype(np.float32 if bound < 1 << 24 else np.float64)


def convolve(image: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int], dtype=np.int64) -> np.ndarray:
    """Exact integer convolution.

    Parameters
    ----------
    image : integers (n, h, w, c), masked codes
    weights : integers (kernel_h, kernel_w, c, channels), or what :func:`exact` made of them
    pad : (top, left); bottom and right follow from ``out``
    dtype : of the result; none: float32 or float64, as the BLAS yields them, integers all the same

    Returns
    -------
    (n, out_h, out_w, channels), its channels in planes
    """
    weights = weights if weights.dtype.kind == "f" else exact(weights)
    kernel, channels, kind = weights.shape[:2], weights.shape[3], weights.dtype
    matrix, place = np.ascontiguousarray(weights.reshape(-1, channels).T), _columns if stride == (1, 1) else _strided_columns
    rows = _rows(image.shape, kernel, pad, out) if stride == (1, 1) else out
    sums = np.empty((channels, len(image), *rows), dtype=kind)
    # Few images at once: their columns, which repeat every code, stay in a core's cache.
    count = max(1, _COLUMNS // max(1, out[0] * out[1] * matrix.shape[1]))
    for begin in range(0, len(image), count):
        at = slice(begin, begin + count)
        np.matmul(matrix, place(image[at], kernel, stride, pad, out, kind), out=sums[:, at].reshape(channels, -1))
    inside = sums[:, :, : out[0], : out[1]].transpose(1, 2, 3, 0)
    return inside if dtype is None else inside.astype(dtype)


_COLUMNS = 1 << 19
"""Codes in columns at once."""


def _rows(shape, kernel, pad, out) -> tuple[int, int]:
    """(height, width) of an image's positions in :func:`_columns`."""
    (_, h, w, _), (kernel_h, kernel_w), (top, left) = shape, kernel, pad
    return max(top + h, out[0], out[0] + kernel_h - 1 - top), max(left + w, out[1], out[1] + kernel_w - 1 - left)


def _columns(image, kernel, stride, pad, out, kind) -> np.ndarray:
    """Columns (kernel_h * kernel_w * c, positions) of a convolution with stride 1.

    Images lie one after the other in one row of zeros and codes per channel, so that each tap of the kernel is that row, shifted. A
    window that leaves its line on the right sees the zeros left of the next one; what is computed past ``out`` is for nobody.
    """
    (n, h, w, c), (kernel_h, kernel_w), (top, left) = image.shape, kernel, pad
    height, width = _rows(image.shape, kernel, pad, out)
    planes, size = image.transpose(3, 0, 1, 2), n * height * width
    columns = np.empty((kernel_h * kernel_w, c, size), dtype=kind)
    if (height, width) == (h, w) and len(columns) == 1:
        columns.reshape(planes.shape)[...] = planes
        return columns[0]
    line = np.zeros((c, size + (kernel_h - 1) * width + kernel_w - 1), dtype=kind)
    line[:, :size].reshape(c, n, height, width)[:, :, top : top + h, left : left + w] = planes
    for tap, column in enumerate(columns):
        at = tap // kernel_w * width + tap % kernel_w
        column[...] = line[:, at : at + size]
    return columns.reshape(-1, size)


def _strided_columns(image, kernel, stride, pad, out, kind) -> np.ndarray:
    view = windows(image.astype(kind), kernel, stride, pad, out).transpose(3, 4, 5, 0, 1, 2)
    return view.reshape(-1, len(image) * out[0] * out[1])
