"""Weights to integers, each to its nearest: the values that a weight may have, and the steps per output channel that suit them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.weights import NIBBLES, W4_VALUES
from sdp.config import Config


@dataclass(frozen=True, eq=False)
class Alphabet:
    """``values``: what a weight may be, ascending. ``peaks``: codes of a channel's largest weight that are tried for the least squared error; one
    needs no trial. ``widths``: scales that :mod:`compiler.rounding` tries, relative to the one found. ``steps``: finds the scales (out,) of
    weights (out, reduction) instead, if given."""

    values: np.ndarray
    peaks: np.ndarray
    widths: tuple[float, ...]
    steps: Callable[[np.ndarray], np.ndarray] | None = None

    @cached_property
    def middles(self) -> np.ndarray:
        return (self.values[1:] + self.values[:-1]) / 2

    @cached_property
    def whole(self) -> bool:
        """Every integer from the lowest to the highest."""
        return len(self.values) == self.values[-1] - self.values[0] + 1


FITTED = (0.75, 0.82, 0.9, 0.96, 1.0, 1.06, 1.14, 1.25)
TWO_DIGITS = Alphabet(np.arange(-127, 128), np.array([127.0]), (1.0, 0.93))
ONE_DIGIT = Alphabet(W4_VALUES, np.linspace(12, 32, 67), FITTED)
INT4 = Alphabet(NIBBLES, np.linspace(6, 24, 67), FITTED)
PLAIN_DIGITS = Alphabet(np.arange(-119, 120), np.array([119.0]), (1.0, 0.93))
"""Two digits of four bits."""


def alphabet(config: Config, w4: bool, depthwise: bool = False) -> Alphabet:
    """Of weights of two digits or of one, as wide as ``config`` has them; those of depthwise convolutions are bytes on every array."""
    if config.array == "sdp-plain" and not depthwise:
        return INT4 if w4 else PLAIN_DIGITS
    return ONE_DIGIT if w4 else TWO_DIGITS


def nearest(values: np.ndarray, letters: Alphabet) -> np.ndarray:
    """The nearest weights that there are, int16."""
    if letters.whole:
        return np.clip(np.rint(values), letters.values[0], letters.values[-1]).astype(np.int16)
    return letters.values[np.searchsorted(letters.middles, values)].astype(np.int16)


def weight_scales(weight: np.ndarray, letters: Alphabet) -> np.ndarray:
    """Scale per output channel for weights (out, reduction): the peak at the largest of two digits, the least squared error for one."""
    if letters.steps:
        return letters.steps(weight)
    peak = np.abs(weight).max(axis=1)
    if len(letters.peaks) == 1:
        return peak / letters.peaks[0]
    candidates = peak / letters.peaks[:, None]
    errors = [np.square(weight - nearest(weight / np.maximum(s, 1e-30)[:, None], letters) * s[:, None]).sum(axis=1) for s in candidates]
    return np.take_along_axis(candidates, np.argmin(errors, axis=0)[None], axis=0)[0]
