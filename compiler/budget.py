"""Budgets and weight modes of all layers: the fewest cycles at a bounded loss on calibration images.

First one budget for all layers but the first and the last. Around the smallest that keeps the bound, sensitivities of single layers
(:mod:`compiler.sensitivity`) propose a curve of networks, each the best for one price of a cycle in loss. A few of them are fitted and measured as
a whole; how far the sum of the single losses was off corrects the next proposal. Then again around the best network found.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from rich.progress import Progress

from compiler.arithmetic import Arithmetic, Mode, Terms, convolutions
from compiler.calibration import Calibration
from compiler.loss import Bound, Loss
from compiler.quantize import quantize
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from compiler.sensitivity import Point
from sdp.config import Config

__all__ = ["Bound", "Loss", "Tradeoff", "Verified", "search"]
FLOOR = 1e-6
"""Smallest increase of the divergence that is told from none."""
TRIALS = 6
"""Networks that are fitted and measured as a whole, per round."""
IMAGES = 64
"""Of images to fit to, and twice as many of those behind them, are used for the sensitivities."""


@dataclass(frozen=True, eq=False)
class Verified:
    """One point of the trade-off: a network that was fitted and measured on all calibration images; ``loss``: beyond exact 8 bit."""

    cycles: int
    loss: Loss
    modes: dict[str, Mode]
    network: QuantizedNetwork


@dataclass(frozen=True, eq=False)
class Tradeoff:
    """``points`` by falling cycles; ``best``: the fastest within the bound; ``changes``: of single layers that were measured."""

    points: list[Verified]
    best: Verified
    changes: int = 0


def part_of(total: int, fit: int, images: int = IMAGES) -> np.ndarray:
    """Which of ``total`` images make a small calibration: ``images`` of the first ``fit``, and twice as many of those behind them."""
    behind = total - fit
    return np.r_[: min(images, fit), fit + np.linspace(0, behind, min(2 * images, behind), endpoint=False).astype(int)]


def part(calibration: Calibration, images: int = IMAGES) -> Calibration:
    """The calibration with fewer images."""
    at = part_of(len(calibration.tensors[calibration.network.input]), calibration.fit, images)
    return replace(calibration, tensors={name: tensor[at] for name, tensor in calibration.tensors.items()}, fit=min(images, calibration.fit),
                   _wanted={})


class _Search:
    def __init__(self, calibration, config, arithmetic, bound, options, report):
        self.calibration, self.small, self.config, self.bound, self.options, self.report = calibration, part(calibration), config, bound, options, report
        self.arithmetic, self.plain = arithmetic, quantize(calibration, config)
        self.names = convolutions(self.plain)
        self.elsewhere = arithmetic.elsewhere([layer for layer in self.plain.layers if layer.name not in self.names])
        self.costs = arithmetic.costs(calibration, self.names)
        self.verified: dict[tuple, Verified] = {}
        self.changes = 0
        self.exact = Point(calibration, config, dict.fromkeys(self.names, arithmetic.exact), correct=options["correct"], weights="nearest",
                           arithmetic=arithmetic)

    def cycles(self, modes: dict[str, Mode]) -> int:
        return self.elsewhere + sum(self.costs[name, mode] for name, mode in modes.items())

    def losses(self, around: dict[str, Mode]) -> tuple[float, dict[str, dict[Mode, float]]]:
        """(divergence at a working point, its increase by each layer's modes).

        From the exact network all modes are seen, most of them interpolated; elsewhere a layer's next ones.
        """
        point, found, arithmetic = Point(self.small, self.config, around, **self.options), {}, self.arithmetic
        base = point.loss.divergence
        for name in self.names:
            here, there = around[name], self.costs
            tried = arithmetic.probes() if here == arithmetic.exact else arithmetic.neighbours(here)
            tried = [mode for mode in tried if (name, mode) in there]
            if here != arithmetic.exact:
                tried = [mode for mode in tried if there[name, mode] != there[name, here]]
            self.changes += len(tried)
            found[name] = {mode: point.changed(name, mode).divergence - base for mode in tried}
            if here == arithmetic.exact and tried:
                found[name] = arithmetic.completed(found[name], FLOOR)
            found[name][here] = 0.0
            self.report(f"sensitivity of {name}")
        return base, found

    def curve(self, base: float, losses: dict[str, dict[Mode, float]]) -> list[tuple[float, dict[str, Mode]]]:
        """(expected divergence, modes) of the networks that are best at some price of a cycle, by falling cycles."""
        found = {}
        for price in np.geomspace(1e-12, 1e-1, 400):
            modes = {name: min(losses[name], key=lambda mode: (losses[name][mode] + price * self.costs[name, mode], self.arithmetic.preference(mode)))
                     for name in self.names}
            found[tuple(modes.items())] = base + sum(losses[name][mode] for name, mode in modes.items()), modes
        return sorted(found.values(), key=lambda item: -self.cycles(item[1]))

    def verify(self, modes: dict[str, Mode]) -> Verified:
        key = tuple(sorted(modes.items()))
        if key not in self.verified:
            point = Point(self.calibration, self.config, modes, **self.options)
            loss = point.loss.beyond(self.exact.loss)
            cycles = self.arithmetic.counted(self.cycles(modes), point.network.layers, point.tensors)
            self.verified[key] = Verified(cycles, loss, modes, point.network)
            self.report(f"{cycles:.0f} cycles, divergence {loss.divergence:.4f}, points {loss.points:.2f} +- {loss.error:.2f}")
        return self.verified[key]

    def descend(self, curve: list[tuple[float, dict[str, Mode]]]) -> None:
        """Bisection on the curve, the guess from the last trial's ratio of measured to summed losses."""
        low, high, ratio = 0, len(curve) - 1, None
        base = curve[0][0] if len(curve) else 0.0
        for _ in range(TRIALS):
            if low > high:
                return
            at = (low + high) // 2
            if ratio is not None:
                at = int(np.clip(sum((total - base) * ratio <= 1 for total, _ in curve) - 1, low, high))
            result = self.verify(curve[at][1])
            excess = result.loss.excess(self.bound)
            low, high = (at + 1, high) if excess <= 1 else (low, at - 1)
            ratio = excess / max(curve[at][0] - base, FLOOR)

    def uniform(self) -> None:
        """One mode for all layers, until it breaks the bound."""
        for group in self.arithmetic.uniform(self.names):
            if not any(result.loss.within(self.bound) for result in [self.verify(modes) for modes in group]):
                return

    def best(self) -> Verified | None:
        return min((v for v in self.verified.values() if v.loss.within(self.bound)), key=lambda v: v.cycles, default=None)


def search(calibration: Calibration, config: Config, cycles: Callable[[QuantizedLayer], int], bound: Bound, *, allow_w4: bool = True,
           correct: bool = True, weights: str = "fitted", rounds: int = 2, progress: Progress | None = None,
           arithmetic: Arithmetic | None = None) -> Tradeoff:
    """The trade-off of cycles and loss, of SDP or of another ``arithmetic``, for which ``cycles`` and ``allow_w4`` say nothing.

    Parameters
    ----------
    cycles : cycles of a layer at its budget and weight mode
    correct, weights : as in :func:`compiler.correction.step`
    rounds : how often sensitivities are measured
    progress : shows the search, if given
    """
    task = progress.add_task("budgets", total=None) if progress else None

    def report(text: str) -> None:
        if progress:
            progress.update(task, advance=1, description=text)

    arithmetic = arithmetic or Terms(config, cycles, allow_w4)
    state = _Search(calibration, config, arithmetic, bound, {"correct": correct, "weights": weights, "arithmetic": arithmetic}, report)
    exact = dict.fromkeys(state.names, arithmetic.exact)
    state.uniform()
    around = state.best().modes if state.best() else exact
    for _ in range(rounds):
        state.descend(state.curve(*state.losses(around)))
        best = state.best()
        if best is None or best.modes == around:
            break
        around = best.modes
    plain = Verified(state.cycles(exact), state.exact.loss.beyond(state.exact.loss), exact, state.exact.network)
    points = sorted([plain, *state.verified.values()], key=lambda v: -v.cycles)
    return Tradeoff(points, state.best() or plain, state.changes)
