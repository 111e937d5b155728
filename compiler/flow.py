"""From a float network and calibration images to the fastest integer network within a bound: all passes in their order."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from compiler import budget, correction, importance
from compiler.arithmetic import Arithmetic, Terms, convolutions
from compiler.calibration import RANGES, Calibration, calibrate
from compiler.loss import Bound, Loss, blends, clustered, float_logits, loss, pairs
from compiler.network import Network
from compiler.quantize import quantize
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from compiler.sensitivity import Point
from sdp.config import Config

HELD = 0.25
"""Share of the calibration images that no layer is fitted to while budgets are chosen: losses are measured on them and on their blends."""
BLENDS = 1024
"""Blends of held images."""
CONFIRMING = 4096
"""Other blends of them, on which the points that were found are measured again."""
STRENGTHS = (0.0, 0.5, 1.0)
"""Importance that is tried."""
ORDERING = 128
"""Images that the order of the channels is found on."""


@dataclass(frozen=True)
class Trial:
    """How far a network of nominal modes is from the float one, with one importance, one rule for ranges and one variant of the arithmetic."""

    strength: float
    ranges: str
    divergence: float
    variant: str = ""


@dataclass(frozen=True, eq=False)
class Arranged:
    """``network``: the same function, channels scaled and ordered for the selection; ``ranges``: the rule for scales; ``arithmetic``: the variant
    of it; all the best of ``trials``."""

    network: Network
    ranges: str
    trials: list[Trial]
    arithmetic: Arithmetic


@dataclass(frozen=True, eq=False)
class Optimized:
    """``network``: with the modes of ``best``, a point of ``tradeoff``, fitted to all images; ``arranged``: what it was made from."""

    network: QuantizedNetwork
    best: budget.Verified
    tradeoff: budget.Tradeoff
    arranged: Arranged


@dataclass(frozen=True, eq=False)
class Samples:
    """``images``: the first ``fit`` are to fit to, those behind them, held ones and blends of these, to measure on; ``sources``: which held
    image each of those is from; ``temperature``: see :mod:`compiler.loss`."""

    images: np.ndarray
    fit: int
    sources: np.ndarray
    temperature: float

    @classmethod
    def of(cls, network: Network, images: np.ndarray, labels: np.ndarray | None = None, seed: int = 0, count: int = BLENDS) -> "Samples":
        """From calibration images (n, h, w, c), with labels if there are any; another ``seed``: the same images, ``count`` other blends."""
        held = np.arange(len(images)) % round(1 / HELD) == 0
        fit, rest = images[~held], images[held]
        hard, temperature = blends(network, rest, None if labels is None else labels[held], count, seed=seed)
        sources = np.concatenate([np.arange(len(rest)), pairs(len(rest), count, seed)[0]])
        return cls(np.concatenate([fit, rest, hard]), len(fit), sources, temperature)

    def part(self) -> "Samples":
        """Fewer of them, as the sensitivities take."""
        at = budget.part_of(len(self.images), self.fit)
        return Samples(self.images[at], int((at < self.fit).sum()), self.sources[at[at >= self.fit] - self.fit], self.temperature)

    def calibrate(self, network: Network, ranges: str) -> Calibration:
        """The network on them; any that computes the same as that which they are from."""
        return calibrate(network, self.images, ranges, self.fit, self.temperature)


def arrange(network: Network, samples: Samples, config: Config, *, strengths: tuple[float, ...] = STRENGTHS, ranges: tuple[str, ...] = RANGES,
            progress: Progress | None = None, arithmetic: Arithmetic | None = None) -> Arranged:
    """Importance, order of channels, rule for ranges and variant of the arithmetic with the least divergence at nominal modes, on images that
    nothing was fitted to."""
    arithmetic = arithmetic or Terms(config)
    part, fitted, variants = samples.part(), samples.images[: samples.fit], arithmetic.variants()
    task = progress.add_task("order of channels", total=len(strengths) + len(ranges) - 1 + len(variants)) if progress else None
    tried: dict[tuple[float, str, str], tuple[Trial, Network, Arithmetic]] = {}

    def attempt(made: Network, strength: float, rule: str, using: Arithmetic) -> None:
        small = part.calibrate(made, rule)
        modes = using.nominal(small, convolutions(quantize(small, config)))
        divergence = Point(small, config, modes, correct=True, weights="fitted", arithmetic=using).loss.divergence
        variant = str(using) if variants else ""
        tried[strength, rule, variant] = Trial(strength, rule, divergence, variant), made, using
        if progress:
            progress.update(task, advance=1, description=f"importance {strength:g}, ranges by {rule}: divergence {divergence:.4f}")

    def best() -> tuple[Trial, Network, Arithmetic]:
        return min(tried.values(), key=lambda item: item[0].divergence)

    for strength in strengths:
        scaled = importance.equalize(network, fitted, strength) if strength else network
        attempt(arithmetic.ordered(scaled, fitted[:ORDERING]), strength, ranges[-1], arithmetic)
    for rule in ranges[:-1]:
        attempt(best()[1], best()[0].strength, rule, arithmetic)
    for variant in variants:
        attempt(best()[1], best()[0].strength, best()[0].ranges, variant)
    trial, made, using = best()
    return Arranged(made, trial.ranges, [trial for trial, *_ in tried.values()], using)


def confirm(tradeoff: budget.Tradeoff, network: Network, samples: Samples, config: Config, bound: Bound,
            arithmetic: Arithmetic | None = None) -> budget.Verified:
    """The fastest point that keeps the bound on other samples than those of the search, too.

    The best of many noisy measurements owes some of it to luck, and luck does not come twice. The standard error is that of held images:
    blends of one image are no independent ones.
    """
    arithmetic, images = arithmetic or Terms(config), samples.images[samples.fit :]
    wanted = float_logits(network, images)

    def measured(point: budget.Verified) -> Loss:
        return loss(wanted, arithmetic.logits(point.network, images), samples.temperature)

    exact, *_ = tradeoff.points
    base = measured(exact)
    for point in reversed(tradeoff.points):
        if point.loss.within(bound) and point is not exact:
            lost = measured(point).beyond(base)
            if dataclasses.replace(lost, error=clustered(lost.lost, samples.sources)).within(bound):
                return point
    return exact


def optimize(network: Network, images: np.ndarray, labels: np.ndarray | None, config: Config, cycles: Callable[[QuantizedLayer], int], bound: Bound,
             *, strengths: tuple[float, ...] = STRENGTHS, ranges: tuple[str, ...] = RANGES, progress: Progress | None = None,
             arithmetic: Arithmetic | None = None, **options) -> Optimized:
    """The search of :mod:`compiler.budget` on the network as :func:`arrange` leaves it, then fitted to all calibration images.

    Parameters
    ----------
    labels : of the images, if there are any: they make the estimate of the loss of accuracy better
    arithmetic : SDP's, if none; another one knows its costs itself, without ``cycles``
    options : of :func:`compiler.budget.search`
    """
    samples = Samples.of(network, images, labels)
    arranged = arrange(network, samples, config, strengths=strengths, ranges=ranges, progress=progress, arithmetic=arithmetic)
    chosen = arranged.arithmetic if arithmetic else None
    found = budget.search(samples.calibrate(arranged.network, arranged.ranges), config, cycles, bound, progress=progress, arithmetic=chosen, **options)
    best = confirm(found, arranged.network, Samples.of(network, images, labels, seed=1, count=CONFIRMING), config, bound, chosen)
    return Optimized(refitted(arranged, best.modes, calibrate(arranged.network, images, arranged.ranges)), best, found, arranged)


def refitted(arranged: Arranged, modes: dict, calibration: Calibration) -> QuantizedNetwork:
    """The network with these modes, fitted to this calibration."""
    arithmetic = arranged.arithmetic
    made = arithmetic.network(calibration, modes)
    return correction.correct(made, calibration, arithmetic.config, correct=True, weights="fitted", arithmetic=arithmetic)
