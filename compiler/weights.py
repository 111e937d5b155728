"""Weights to integers, each to its nearest: the steps per output channel and the values that one digit has."""

import numpy as np

from golden.weights import W4_VALUES

_MIDDLES = (W4_VALUES[1:] + W4_VALUES[:-1]) / 2


def nearest(values: np.ndarray, w4: bool) -> np.ndarray:
    """The nearest weights that the mode has, int16."""
    if not w4:
        return np.clip(np.rint(values), -127, 127).astype(np.int16)
    return W4_VALUES[np.searchsorted(_MIDDLES, values)].astype(np.int16)


def weight_scales(weight: np.ndarray, w4: bool) -> np.ndarray:
    """Scale per output channel for weights (out, reduction): the peak at 127 for two digits, the least squared error for one."""
    peak = np.abs(weight).max(axis=1)
    if not w4:
        return peak / 127
    candidates = peak / np.linspace(7, 40, 67)[:, None]
    errors = [np.square(weight - nearest(weight / np.maximum(s, 1e-30)[:, None], True) * s[:, None]).sum(axis=1) for s in candidates]
    return np.take_along_axis(candidates, np.argmin(errors, axis=0)[None], axis=0)[0]
