"""What one element of Eyeriss computes: a row of a filter slides over a row of ifmaps, and one row of psums comes out; and how long that takes.

[J] V-C (see ``golden.eyeriss``): words of 16 bit; scratch pads of 12 ifmap words, 224 filter words, 24 psums; a multiplier of two stages, which
zeros gate. From memory of it: products of 32 bit are cut to 16; a zero ifmap word, known by its bit in a zero buffer, saves the read of the
filter and the multiplication, not the cycle; one pipeline stage for the pads, two for the multiplication and the addition.

Our assumptions: a product loses its ``fraction`` lower bits without rounding, and sums wrap; a psum starts from that of the element below, so
that adding it costs no cycle; a new ifmap word takes the place of one as soon as that has met all filters.
"""

import numpy as np

LATENCY = 4
"""Cycles from the one in which a filter word's address goes out to its psum: then the pads' words stand, then half products, then the sum."""


def wrap(values: np.ndarray) -> np.ndarray:
    """To 16 bit two's complement, int64."""
    return np.asarray(values, dtype=np.int64).astype(np.int16).astype(np.int64)


def rows(ifmaps: np.ndarray, filters: np.ndarray, psums: np.ndarray, step: int, fraction: int) -> np.ndarray:
    """psums after the element, int64 (windows, filters).

    Parameters
    ----------
    ifmaps : (words,) 16 bit, the channels of a pixel side by side; a window of as many words as a filter has moves on by ``step``
    filters : (window, filters) 16 bit
    psums : (windows, filters), those of the element below
    """
    at = np.arange(len(psums))[:, None] * step + np.arange(len(filters))
    products = np.asarray(ifmaps, dtype=np.int64)[at][:, :, None] * filters.astype(np.int64) >> fraction
    return wrap(psums + products.sum(axis=1))


def cycles(window: int, filters: int, step: int, windows: int) -> int:
    """From the first product's issue to the last psum, all words and psums being there in time."""
    # Where no word of a window is in the next one, the last arrives as the window ends, and is not seen before the next cycle.
    return windows * window * filters + (windows - 1) * (step == window) - 1 + LATENCY
