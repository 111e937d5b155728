"""How far the integer network is from the float one, finer than a few hundred labels can tell.

512 images resolve an accuracy to one point at best, and a network knows its training images by heart: its margins on them are wider than
on images that it never saw. So losses are measured on calibration images and on blends of two of them, of a strength at which the
float network is about as sure as it is right on new images (:data:`CONFIDENCE`). On those, the accuracy that is lost when the integer network
names another class is estimated from the float network's own probabilities, ``p(its class) - p(the other class)``, which is
a number for each image instead of a coin toss. No label and no test image is looked at.
"""

from dataclasses import dataclass

import numpy as np

from compiler.network import Network

CONFIDENCE = 0.9
"""Mean probability of the top class on blends: the accuracy that the float network is taken to have on images that it never saw."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """``divergence``: mean over images, in nats; ``disagreement``: share of images whose top class is not the float network's; ``points``:
    accuracy expected to be lost, in percentage points, one standard error included."""

    divergence: float = np.inf
    disagreement: float = 1.0
    points: float = np.inf


@dataclass(frozen=True)
class Loss:
    """As :class:`Bound`; ``error``: standard error of ``points``."""

    divergence: float
    disagreement: float
    points: float
    error: float

    def excess(self, bound: Bound) -> float:
        """The largest quotient of a loss and its bound: at most 1 if all are kept."""
        return max(self.divergence / bound.divergence, self.disagreement / bound.disagreement, (self.points + self.error) / bound.points)

    def within(self, bound: Bound) -> bool:
        return self.excess(bound) <= 1


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.reshape(len(logits), -1)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def loss(wanted: np.ndarray, seen: np.ndarray) -> Loss:
    """Loss of logits ``seen`` (n, classes) against the float network's, ``wanted``."""
    wanted, seen = log_softmax(wanted), log_softmax(seen)
    probability = np.exp(wanted)
    divergence = (probability * (wanted - seen)).sum(axis=1)
    top, other = wanted.argmax(axis=1)[:, None], seen.argmax(axis=1)[:, None]
    lost = 100 * (np.take_along_axis(probability, top, 1) - np.take_along_axis(probability, other, 1))
    return Loss(float(divergence.mean()), float((top != other).mean()), float(lost.mean()), float(lost.std() / np.sqrt(len(lost))))


def blends(network: Network, images: np.ndarray, count: int, confidence: float = CONFIDENCE) -> np.ndarray:
    """``count`` blends of two images each, of the strength at which the float network is as sure as ``confidence`` on average."""
    rng = np.random.default_rng(len(images))
    first = np.resize(rng.permutation(len(images)), count)
    second = (first + 1 + rng.integers(0, len(images) - 1, count)) % len(images)
    name, probe = network.nodes[-1].name, slice(0, min(count, 128))

    def blend(share: float, at: slice) -> np.ndarray:
        return ((1 - share) * images[first[at]] + share * images[second[at]]).astype(np.float32)

    shares = np.linspace(0, 0.5, 11)
    sure = [float(np.exp(log_softmax(network.run(blend(share, probe))[name])).max(axis=1).mean()) for share in shares]
    enough = np.flatnonzero(np.array(sure) <= confidence)
    return blend(shares[enough[0]] if len(enough) else 0.5, slice(None))
