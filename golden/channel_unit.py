"""What has no reduction over channels: maximum, sum and weighted sum over a window, per channel, in plain 8 bit."""

import numpy as np

from golden.mac_array import windows


def pool(image: np.ndarray, maximum: bool, kernel, stride, pad, out) -> np.ndarray:
    """(n, h, w, c) code values to (n, out_h, out_w, c), int64.

    Outside of the image a maximum sees nothing (a window wholly outside yields 0) and a sum sees zeros.
    """
    # One axis after the other: height + width of the window are the steps, not their product.
    fill, best = np.iinfo(np.int32).min if maximum else 0, image.astype(np.int32)
    for here in (0, 1):
        def only(pair, other):
            return tuple(value if axis == here else other for axis, value in enumerate(pair))

        size = out if here else (out[0], image.shape[2])
        view = windows(best, only(kernel, 1), only(stride, 1), only(pad, 0), size, fill)
        taps = np.moveaxis(view[:, :, :, 0] if here else view[:, :, :, :, 0], 3, 0)
        best = taps[0].copy(order="K")
        for tap in taps[1:]:
            (np.maximum if maximum else np.add)(best, tap, out=best)
    return np.where(best == fill, 0, best).astype(np.int64) if maximum else best.astype(np.int64)


def depthwise(image: np.ndarray, weights: np.ndarray, stride, pad, out) -> np.ndarray:
    """(n, h, w, c) code values times weights (kernel_h, kernel_w, c), -128 ... 127, to (n, out_h, out_w, c), int64."""
    view, weights = windows(image.astype(np.int32), weights.shape[:2], stride, pad, out), weights.astype(np.int32)
    sums = view[:, :, :, 0, 0] * weights[0, 0]
    for ky, kx in list(np.ndindex(*weights.shape[:2]))[1:]:
        sums += view[:, :, :, ky, kx] * weights[ky, kx]
    return sums.astype(np.int64)
