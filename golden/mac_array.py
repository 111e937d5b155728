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


def convolve(image: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int], dtype=np.int64) -> np.ndarray:
    """Exact integer convolution.

    Parameters
    ----------
    image : int16 (n, h, w, c), masked codes
    weights : int (kernel_h, kernel_w, c, channels)
    pad : (top, left); bottom and right follow from ``out``
    dtype : of the result; none: float32 or float64, as the BLAS yields them, integers all the same

    Returns
    -------
    (n, out_h, out_w, channels), its channels in planes
    """
    kernel, channels = weights.shape[:2], weights.shape[3]
    matrix = weights.reshape(-1, channels).T
    # The BLAS is exact as long as no partial sum leaves the mantissa.
    bound = 255 * int(np.abs(matrix).astype(np.int64).sum(axis=1).max(initial=0))
    kind = np.float32 if bound < 1 << 24 else np.float64
    matrix, sums = np.ascontiguousarray(matrix, dtype=kind), np.empty((channels, len(image), *out), dtype=dtype or kind)
    place = _columns if stride == (1, 1) else _strided_columns
    # Few images at once: their columns, which repeat every code, stay in a core's cache.
    count = max(1, _COLUMNS // max(1, out[0] * out[1] * matrix.shape[1]))
    for begin in range(0, len(image), count):
        at = slice(begin, begin + count)
        columns, rows = place(image[at], kernel, stride, pad, out, kind)
        sums[:, at] = (matrix @ columns).reshape(channels, -1, *rows)[..., : out[0], : out[1]]
    return np.moveaxis(sums, 0, -1)


_COLUMNS = 1 << 19
"""Codes in columns at once."""


def _columns(image, kernel, stride, pad, out, kind) -> tuple[np.ndarray, tuple[int, int]]:
    """Columns (kernel_h * kernel_w * c, positions) of a convolution with stride 1, and the (height, width) of positions per image.

    Images lie one after the other in one row of zeros and codes per channel, so that each tap of the kernel is that row, shifted. A
    window that leaves its line on the right sees the zeros left of the next one; what is computed past ``out`` is for nobody.
    """
    (n, h, w, c), (kernel_h, kernel_w), (top, left) = image.shape, kernel, pad
    height, width = max(top + h, out[0], out[0] + kernel_h - 1 - top), max(left + w, out[1], out[1] + kernel_w - 1 - left)
    size = n * height * width
    columns = np.empty((kernel_h * kernel_w, c, size), dtype=kind)
    if (height, width) == (h, w) and len(columns) == 1:
        columns.reshape(c, n, h, w)[...] = np.moveaxis(image, -1, 0)
        return columns[0], (h, w)
    line = np.zeros((c, size + (kernel_h - 1) * width + kernel_w - 1), dtype=kind)
    line[:, :size].reshape(c, n, height, width)[:, :, top : top + h, left : left + w] = np.moveaxis(image, -1, 0)
    for tap, column in enumerate(columns):
        at = tap // kernel_w * width + tap % kernel_w
        column[...] = line[:, at : at + size]
    return columns.reshape(-1, size), (height, width)


def _strided_columns(image, kernel, stride, pad, out, kind) -> tuple[np.ndarray, tuple[int, int]]:
    view = windows(image.astype(kind), kernel, stride, pad, out).transpose(3, 4, 5, 0, 1, 2)
    return view.reshape(-1, len(image) * out[0] * out[1]), out
