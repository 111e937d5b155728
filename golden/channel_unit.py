"""What has no reduction over channels: maximum and sum over a window, per channel, in plain 8 bit."""

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
