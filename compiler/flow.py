"""From a float network and calibration images to the fastest integer network within a bound: all passes in their order."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from compiler import budget, correction, importance
from compiler.calibration import Calibration, calibrate
from compiler.loss import Bound, blends
from compiler.network import Network
from compiler.quantize import quantize
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from compiler.sensitivity import Point, convolutions
from sdp.config import Config

HELD = 0.25
"""Share of the calibration images that no layer is fitted to while budgets are chosen: losses are measured on them and on their blends."""
BLENDS = 1024
"""Blends of held images."""
STRENGTHS = (0.0, 0.5, 1.0)
"""Importance that is tried."""
NOMINAL = 4
"""Budget at which it is tried, in all layers but the first and the last."""


@dataclass(frozen=True, eq=False)
class Optimized:
    """``network``: the best modes of ``tradeoff``, fitted to all images; ``strength``: of the importance that was chosen."""

    network: QuantizedNetwork
    tradeoff: budget.Tradeoff
    strength: float


def prepare(network: Network, images: np.ndarray, labels: np.ndarray | None = None) -> Calibration:
    """Images to fit to, held ones behind them, and blends of these."""
    held = np.arange(len(images)) % round(1 / HELD) == 0
    fit, rest = images[~held], images[held]
    hard, temperature = blends(network, rest, None if labels is None else labels[held], BLENDS)
    return calibrate(network, np.concatenate([fit, rest, hard]), fit=len(fit), temperature=temperature)


def optimize(network: Network, images: np.ndarray, labels: np.ndarray | None, config: Config, cycles: Callable[[QuantizedLayer], int], bound: Bound,
             *, strengths: tuple[float, ...] = STRENGTHS, progress: Progress | None = None, **options) -> Optimized:
    """The search of :mod:`compiler.budget` on the network with the best importance, then fitted to all calibration images.

    Parameters
    ----------
    labels : of the images, if there are any: they make the estimate of the loss of accuracy better
    options : of :func:`compiler.budget.search`
    """
    tried = {}
    for strength in strengths:
        scaled = importance.equalize(network, images, strength) if strength else network
        small = budget.part(prepare(scaled, images, labels)) if len(strengths) > 1 else None
        if small is not None:
            names = convolutions(quantize(small, config))
            modes = {name: (NOMINAL, True) for name in names} | {name: (2 * config.group, False) for name in (names[0], names[-1])}
            tried[strength] = Point(small, config, modes, correct=True, weights="fitted").loss.divergence, scaled
        else:
            tried[strength] = 0.0, scaled
    strength = min(tried, key=lambda strength: tried[strength][0])
    scaled = tried[strength][1]
    found = budget.search(prepare(scaled, images, labels), config, cycles, bound, progress=progress, **options)
    whole = calibrate(scaled, images)
    best = correction.correct(quantize(whole, config, found.best.modes), whole, config, correct=True, weights="fitted")
    return Optimized(best, found, strength)
