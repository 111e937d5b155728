"""What is compared: each method an arithmetic, its assumptions and its search, which is the same one for all."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from rich.progress import Progress

from compare.drq import Drq
from compare.olaccel import Olaccel
from compare.sdp import Sdp
from compare.static import Static
from compiler import flow
from compiler.arithmetic import Arithmetic, convolutions
from compiler.budget import Verified
from compiler.calibration import calibrate
from compiler.loss import Bound
from compiler.network import Conv, Network
from compiler.quantize import quantize
from compiler.quantized import QuantizedNetwork
from golden.parallel import one_blas_thread
from sdp import UserError
from sdp.config import Config
from sdp.program import Kind

RANGE_IMAGES = 64
"""Calibration images that data-dependent cost is counted on."""


class CompareError(UserError):
    """A comparison that cannot be made."""


@dataclass(frozen=True)
class Method:
    """``make``: its arithmetic; ``sources``: files that it runs and others do not; ``searched``: modes per layer are searched for, otherwise all
    layers are exact."""

    name: str
    make: Callable[[Config], Arithmetic]
    sources: tuple[str, ...]
    searched: bool = True


METHODS = {method.name: method for method in (
    Method("sdp", Sdp, ("compare/sdp.py", "compiler/schedule.py", "compiler/tile.py", "golden/cycles.py")),
    Method("static", Static, ("compare/static.py",)),
    Method("int8", Static, ("compare/static.py",), searched=False),
    Method("drq", Drq, ("compare/drq.py", "golden/drq_array.py")),
    Method("olaccel", Olaccel, ("compare/olaccel.py", "golden/olaccel.py", "golden/olaccel_cycles.py")))}


@dataclass(frozen=True, eq=False)
class Point:
    """A network in integers on the curve of a method.

    ``modes``: of its layers; ``loss``, ``error``, ``divergence``: beyond exact 8 bit, estimated in the search, in points of accuracy and in nats;
    ``ideal``: nibble products per multiplication on calibration images, without any stall; ``cost``: what the search counted; ``as_built``:
    nibble cycles per multiplication of the hardware, where they are known.
    """

    network: QuantizedNetwork
    modes: dict
    loss: float
    error: float
    divergence: float
    ideal: float
    cost: float
    as_built: float | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """``points``: by falling cost, exact 8 bit first, those that no other beats in both cost and divergence, and the chosen one; ``chosen``: which of
    them is the fastest within the bound, on calibration images alone; ``measured``: all networks that were measured, as dictionaries;
    ``effort``: how much was searched."""

    arithmetic: Arithmetic
    points: list[Point]
    chosen: int
    measured: list[dict]
    effort: dict


def macs(network: QuantizedNetwork) -> int:
    """Multiplications of the layers that sum over channels; what a depthwise layer does is the same for all methods."""
    return sum(layer.macs for layer in network.layers if layer.kind is Kind.CONV)


def ideal(arithmetic: Arithmetic, network: QuantizedNetwork, images: np.ndarray) -> float:
    """Nibble products per multiplication on these images: a multiplier of nibbles that is always busy takes as many cycles."""
    tensors = arithmetic.run(network, images)
    return sum(arithmetic.ideal(layer, tensors[layer.input]) for layer in network.layers if layer.kind is Kind.CONV) / macs(network)


def front(points: list[Verified]) -> list[Verified]:
    """Those that no other beats in both cost and divergence, by falling cost."""
    found: list[Verified] = []
    for point in sorted(points, key=lambda point: (point.cycles, point.loss.divergence)):
        if not found or point.loss.divergence < found[-1].loss.divergence:
            found.append(point)
    return found[::-1]


def check(network: Network, images: np.ndarray) -> None:
    """Raises CompareError for a network or images that cannot be compared."""
    summing = [node for node in network.nodes if isinstance(node, Conv) and not node.depthwise]
    if len(summing) < 3:
        raise CompareError(f"network {network.name!r}: {len(summing)} layers sum over channels, a comparison takes 3 at least")
    own = [node.name for node in network.nodes if isinstance(node, Conv) and node.weight_scale is not None] + list(network.codes)
    if own or network.modes:
        raise CompareError(f"network {network.name!r}: {(own or list(network.modes))[0]!r} comes with integers or modes of its own; "
                           "a comparison takes a float network, so that each method may choose its own")
    if len(images) < 16:
        raise CompareError(f"network {network.name!r}: {len(images)} calibration images are too few, it takes 16 at least")


def space(method: Method, arithmetic: Arithmetic, network: Network, config: Config, images: np.ndarray) -> dict:
    """How much there is to choose from: modes of a layer, and the decimal logarithm of all combinations."""
    if not method.searched:
        return {"modes": 1, "variants": 1, "log10": 0.0}
    calibration = calibrate(network, images[:2])
    counts: dict[str, int] = {}
    for name, _ in arithmetic.costs(calibration, convolutions(quantize(calibration, config))):
        counts[name] = counts.get(name, 0) + 1
    variants = 1 + len(arithmetic.variants())
    arranged = len(flow.STRENGTHS) * len(flow.RANGES) * variants
    return {"modes": max(counts.values()), "variants": variants, "log10": round(float(np.log10(list(counts.values())).sum() + np.log10(arranged)), 1)}


def fit(method: Method, network: Network, images: np.ndarray, labels: np.ndarray | None, config: Config, max_loss: float,
        progress: Progress | None = None) -> Fitted:
    """The points of a method. ``max_loss``: points of accuracy that the chosen one may lose beyond exact 8 bit, a standard error included.

    Nothing but calibration ``images`` (n, h, w, c) and their ``labels``, if there are any, is looked at.
    """
    check(network, images)
    begin, arithmetic = perf_counter(), method.make(config)
    with one_blas_thread():
        size = space(method, arithmetic, network, config, images)
        if not method.searched:
            calibration = calibrate(network, images)
            made = arithmetic.network(calibration, {})
            modes = {layer.name: arithmetic.exact for layer in made.layers if layer.kind is Kind.CONV}
            point = Point(made, modes, 0.0, 0.0, 0.0, ideal(arithmetic, made, images[:1]), 4.0 * macs(made))
            return Fitted(arithmetic, [point], 0, [], {"space": size, "networks": 1, "changes": 0, "trials": [], "seconds": perf_counter() - begin})
        found = flow.optimize(network, images, labels, config, None, Bound(points=max_loss), progress=progress, arithmetic=arithmetic)
        arithmetic, tradeoff = found.arranged.arithmetic, found.tradeoff
        kept = front([*tradeoff.points[:1], *tradeoff.points])
        kept = sorted({id(p): p for p in [tradeoff.points[0], *kept, found.best]}.values(), key=lambda p: -p.cycles)
        whole = calibrate(found.arranged.network, images, found.arranged.ranges)
        points, task = [], progress.add_task("fitting the curve", total=len(kept)) if progress else None
        for point in kept:
            made = found.network if point is found.best else flow.refitted(found.arranged, point.modes, whole)
            points.append(Point(made, point.modes, point.loss.points, point.loss.error, point.loss.divergence,
                                ideal(arithmetic, made, images[:RANGE_IMAGES]), float(point.cycles), _as_built(arithmetic, point, made)))
            if progress:
                progress.update(task, advance=1)
    measured = [{"cost": float(p.cycles), "loss": p.loss.points, "error": p.loss.error, "divergence": p.loss.divergence} for p in tradeoff.points]
    trials = [{"importance": t.strength, "ranges": t.ranges, "variant": t.variant, "divergence": t.divergence} for t in found.arranged.trials]
    effort = {"space": size, "networks": len(trials) + len(measured), "changes": tradeoff.changes, "trials": trials,
              "ranges": found.arranged.ranges, "variant": str(arithmetic) if arithmetic.variants() else "", "seconds": perf_counter() - begin}
    return Fitted(arithmetic, points, kept.index(found.best), measured, effort)


def _as_built(arithmetic: Arithmetic, point: Verified, network: QuantizedNetwork) -> float | None:
    """SDP's cost is cycles of its machine already; the others' are not known here."""
    if not isinstance(arithmetic, Sdp):
        return None
    cycles = sum(arithmetic.cycles(layer) for layer in network.layers if layer.kind is Kind.CONV)
    return cycles * arithmetic.config.nibble_multipliers / macs(network)
