"""DRQ's sensitivity predictor (Song et al., ISCA 2020): which regions of a tensor are computed in 8 x 8 bits.

[S] A feature map is cut into regions of pixels, the mean of each is held against a threshold, and the bit that results is the mask of the
layer that reads the tensor. [A] Regions are per channel; magnitudes are averaged where codes have a sign; "at least" the threshold is sensitive; pixels
that a region lacks at the border of the image count as zero.
"""

import numpy as np

REGIONS_MAX = 64
"""Regions side by side, at most: what the predictor's memory of partial sums holds."""


def predict(codes: np.ndarray, threshold: int, region_h: int, region_w: int) -> np.ndarray:
    """Which regions are sensitive, bool (n, regions down, regions across, c).

    Parameters
    ----------
    codes : (n, h, w, c) code values
    threshold : least mean magnitude of a sensitive region, in codes; 0 makes all sensitive, 256 none
    region_h, region_w : log2 of a region's pixels
    """
    n, h, w, c = codes.shape
    rows, columns = 1 << region_h, 1 << region_w
    # Along one axis after the other: bytes become sums only where they are few.
    magnitude = np.abs(codes.astype(np.int16, copy=False))
    down = np.add.reduceat(magnitude, np.arange(0, h, rows), axis=1, dtype=np.int32)
    return np.add.reduceat(down, np.arange(0, w, columns), axis=2) >= threshold << region_h + region_w


def spread(masks: np.ndarray, region_h: int, region_w: int, h: int, w: int) -> np.ndarray:
    """Masks of regions as masks of pixels, bool (n, h, w, c)."""
    return masks.repeat(1 << region_h, axis=1)[:, :h].repeat(1 << region_w, axis=2)[:, :, :w]
