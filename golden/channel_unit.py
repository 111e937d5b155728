"""What has no reduction over channels: maximum, sum and weighted sum over a window, per channel, in plain 8 bit."""

import numpy as np

from golden.mac_array import windows


def pool(image: np.ndarray, maximum: bool, kernel, stride, pad, out) -> np.ndarray:
    """(n, h, w, c) code values to (n, out_h, out_w, c), int64.

    Outside of the image a maximum sees nothing (a window wholly outside yields 0) and a sum sees zeros.
    """
    fill = np.iinfo(image.dtype).min if maximum else 0
    view = windows(image, kernel, stride, pad, out, fill)
    if not maximum:
        return view.sum(axis=(3, 4), dtype=np.int64)
    best = view.max(axis=(3, 4)).astype(np.int64)
    return np.where(best == fill, 0, best)


def depthwise(image: np.ndarray, weights: np.ndarray, stride, pad, out) -> np.ndarray:
    """(n, h, w, c) code values times weights (kernel_h, kernel_w, c), -128 ... 127, to (n, out_h, out_w, c), int64."""
    view = windows(image, weights.shape[:2], stride, pad, out)
    return np.einsum("nyxhwc,hwc->nyxc", view.astype(np.int32), weights.astype(np.int32)).astype(np.int64)
