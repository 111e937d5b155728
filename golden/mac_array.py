"""What the MAC array computes: a convolution of masked codes with integer weights, exactly.

The array never sees a convolution, only terms times digits; ``sum(term * digit)`` over kept terms and both digits of a weight is the
convolution of the masked codes with the whole weights, and that is what is written here.
"""

import numpy as np


def windows(image: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int], fill: int = 0) -> np.ndarray:
    """View of (n, h, w, c) as (n, out_h, out_w, kernel_h, kernel_w, c); ``fill`` outside of the image. ``pad`` is (top, left)."""
    n, h, w, c = image.shape
    need_h, need_w = (out[0] - 1) * stride[0] + kernel[0], (out[1] - 1) * stride[1] + kernel[1]
    padded = np.full((n, max(need_h, pad[0] + h), max(need_w, pad[1] + w), c), fill, dtype=image.dtype)
    padded[:, pad[0] : pad[0] + h, pad[1] : pad[1] + w] = image
    view = np.lib.stride_tricks.sliding_window_view(padded[:, :need_h, :need_w], kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def convolve(image: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int]) -> np.ndarray:
    """Exact integer convolution.

    Parameters
    ----------
    image : int16 (n, h, w, c), masked codes
    weights : int (kernel_h, kernel_w, c, channels)
    pad : (top, left); bottom and right follow from ``out``

    Returns
    -------
    int64 (n, out_h, out_w, channels)
    """
    kh, kw, c, channels = weights.shape
    flat = weights.reshape(-1, channels)
    # The BLAS is exact as long as no partial sum leaves the mantissa.
    bound = 255 * int(np.abs(flat).astype(np.int64).sum(axis=0).max(initial=0))
    kind = np.float32 if bound < 1 << 24 else np.float64
    flat, sums = flat.astype(kind), np.empty((len(image), *out, channels), dtype=np.int64)
    # Few images at once: their windows, which repeat every code, stay in a core's cache.
    count = max(1, _PATCHES // max(1, out[0] * out[1] * len(flat)))
    for begin in range(0, len(image), count):
        at = slice(begin, begin + count)
        patches = windows(image[at].astype(kind), (kh, kw), stride, pad, out).reshape(-1, len(flat))
        sums[at] = (patches @ flat).reshape(-1, *out, channels)
    return sums


_PATCHES = 1 << 18
"""Codes in windows at once."""
