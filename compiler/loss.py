"""How far the integer network is from the float one, finer than a few hundred labels can tell.

512 images resolve an accuracy to one point at best, and a network knows its training images by heart: its margins on them are wider than
on images that it never saw. So losses are measured on blends of two calibration images, too, from pure to nearly even, of which the
float network gets as many right as it does of new images (:data:`ACCURACY`). The accuracy that is lost where the integer network names another
class is estimated from the float network's own probabilities, ``p(its class) - p(the other class)``: a number for each image
instead of a coin toss. Networks are too sure of themselves, so a temperature is fitted on the blends first. Blends lie nearer to boundaries
than images do and even exact 8 bit crosses some, so what is bounded is the loss beyond that of exact 8 bit. No test image is looked at.
"""

from dataclasses import dataclass, field

import numpy as np

from compiler.network import Network

ACCURACY = 0.9
"""What the float network is taken to have on images that it never saw."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What may be lost beyond exact 8 bit. ``divergence``: mean over images, in nats; ``disagreement``: share of images whose top class is
    not the float network's; ``points``: accuracy expected to be lost, in percentage points, one standard error included."""

    divergence: float = np.inf
    disagreement: float = 1.0
    points: float = np.inf


@dataclass(frozen=True)
class Loss:
    """As :class:`Bound`; ``error``: standard error of ``points``; ``lost``: points of each image."""

    divergence: float
    disagreement: float
    points: float
    error: float
    lost: np.ndarray | None = field(default=None, repr=False, compare=False)

    def beyond(self, base: "Loss") -> "Loss":
        """What is lost more than at ``base`` on the same images."""
        lost = self.lost - base.lost
        return Loss(self.divergence - base.divergence, self.disagreement - base.disagreement, float(lost.mean()),
                    float(lost.std() / np.sqrt(len(lost))), lost)

    def excess(self, bound: Bound) -> float:
        """The largest quotient of a loss and its bound: at most 1 if all are kept."""
        return max(self.divergence / bound.divergence, self.disagreement / bound.disagreement, (self.points + self.error) / bound.points)

    def within(self, bound: Bound) -> bool:
        return self.excess(bound) <= 1


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.reshape(len(logits), -1)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def loss(wanted: np.ndarray, seen: np.ndarray, temperature: float = 1.0) -> Loss:
    """Loss of logits ``seen`` (n, classes) against the float network's, ``wanted``; ``temperature``: see :func:`blends`."""
    probability = np.exp(log_softmax(wanted / temperature))
    wanted, seen = log_softmax(wanted), log_softmax(seen)
    divergence = (np.exp(wanted) * (wanted - seen)).sum(axis=1)
    top, other = wanted.argmax(axis=1)[:, None], seen.argmax(axis=1)[:, None]
    lost = 100 * (np.take_along_axis(probability, top, 1) - np.take_along_axis(probability, other, 1))
    lost = lost[:, 0]
    return Loss(float(divergence.mean()), float((top != other).mean()), float(lost.mean()), float(lost.std() / np.sqrt(len(lost))), lost)


def float_logits(network: Network, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """The float network's last tensor (n, outputs), in batches, so that memory stays bounded."""
    name = network.nodes[-1].name
    return np.concatenate([network.run(images[at : at + batch])[name].reshape(len(images[at : at + batch]), -1)
                           for at in range(0, len(images), batch)])


def clustered(lost: np.ndarray, sources: np.ndarray) -> float:
    """Standard error of a mean of values of which those from one source are no independent ones (``sources``: int, one per value)."""
    return float(np.sqrt(np.square(np.bincount(sources, lost - lost.mean())).sum()) / len(lost))


def pairs(images: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first image, second image, share 0 ... 1) of each blend; every image is as often the first, which is the larger part of most."""
    rng = np.random.default_rng(images + seed)
    first = np.resize(rng.permutation(images), count)
    return first, (first + 1 + rng.integers(0, images - 1, count)) % images, rng.random(count).astype(np.float32)


def blends(network: Network, images: np.ndarray, labels: np.ndarray | None, count: int, accuracy: float = ACCURACY,
           seed: int = 0) -> tuple[np.ndarray, float]:
    """(``count`` blends of two images each, temperature of the float network's probabilities on them).

    Without labels those that the network gives to the images stand for them. Another ``seed`` gives other pairs and shares.
    """
    first, second, shares = pairs(len(images), count, seed)
    shares, probe = shares[:, None, None, None], min(count, 256)

    def blend(most: float, count: int) -> np.ndarray:
        share = np.float32(most) * shares[:count]
        return (images[first[:count]] * (1 - share) + images[second[:count]] * share).astype(np.float32)

    if labels is None:
        labels = float_logits(network, images).argmax(axis=1)
    labels = labels[first[:probe]]
    for most in np.linspace(0.3, 0.6, 7):
        values = float_logits(network, blend(most, probe))
        if (values.argmax(axis=1) == labels).mean() <= accuracy:
            break
    temperatures = np.geomspace(0.5, 8, 60)
    costs = [-np.take_along_axis(log_softmax(values / t), labels[:, None], 1).mean() for t in temperatures]
    return blend(most, count), float(temperatures[np.argmin(costs)])
