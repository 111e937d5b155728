"""The loop: the integer network learns what the float network says, on images that vary.

The loss of a batch is ``distilled * KL(float || integer) * T**2 + (1 - distilled) * cross entropy`` at temperature ``T`` (Hinton et al., arXiv:1503.02531).
With ``mixed``, a share of a batch's images are mixtures of two (mixup, Zhang et al., arXiv:1710.09412): there the float network's answer, not the label, is
what is worth knowing, and a network that was trained on these very images says more about mixtures than about what it knows by heart.
"""

import dataclasses
import math
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from compiler.loss import loss
from finetune.model import Model

PAD = 4
"""Pixels that crops may be moved."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """``rate``: of Adam at its peak, which it reaches after ``warm`` epochs; it falls to zero with the cosine of what remains.

    ``augment``: crops and flips; ``background``: what lies outside of an image, per channel, in the network's units. ``average``: what comes out is
    the mean of the parameters over the last batches, each older one counting for so much less (0: the last ones): steps of integers back and forth
    cancel out (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992).
    """

    epochs: int = 30
    batch: int = 64
    rate: float = 5e-4
    slow: float = 0.1
    warm: float = 0.5
    temperature: float = 2.0
    distilled: float = 0.9
    mixed: float = 0.25
    augment: bool = True
    average: float = 0.0
    background: tuple[float, ...] = (0.0,)
    seed: int = 0
    threads: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """Images that nothing is trained on and blends of them behind; labels of the images; the float network's logits of all."""

    images: np.ndarray
    labels: np.ndarray
    wanted: np.ndarray


def varied(images: np.ndarray, rng: np.random.Generator, settings: Settings) -> np.ndarray:
    """Images (n, h, w, c) moved by up to :data:`PAD` pixels and mirrored, then some of them mixed."""
    if settings.augment:
        count, height, width, channels = images.shape
        padded = np.empty((count, height + 2 * PAD, width + 2 * PAD, channels), dtype=images.dtype)
        padded[...] = np.array(settings.background, dtype=images.dtype)
        padded[:, PAD:-PAD, PAD:-PAD] = images
        at = rng.integers(0, 2 * PAD + 1, (count, 2))
        images = np.stack([padded[i, y : y + height, x : x + width] for i, (y, x) in enumerate(at)])
        mirrored = rng.random(count) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
    if settings.mixed:
        share = np.where(rng.random(len(images)) < settings.mixed, rng.uniform(0, 0.5, len(images)), 0).astype(np.float32)[:, None, None, None]
        images = images * (1 - share) + np.roll(images, 1, axis=0) * share
    return np.ascontiguousarray(images, dtype=np.float32)


def cost(seen: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Mean loss of logits ``seen`` against the float network's, ``wanted``, and the labels."""
    t = settings.temperature
    distance = functional.kl_div(functional.log_softmax(seen / t, 1), functional.log_softmax(wanted / t, 1), log_target=True, reduction="batchmean")
    if settings.distilled == 1:
        return t * t * distance
    return settings.distilled * t * t * distance + (1 - settings.distilled) * functional.cross_entropy(seen, labels)


@torch.no_grad()
def measure(model: Model, held: Held) -> dict[str, float]:
    """On held images: ``accuracy`` in percent, ``divergence`` from the float network in nats, ``blended`` the same on their blends."""
    seen = np.concatenate([model.logits(held.images[at : at + 128]).numpy() for at in range(0, len(held.images), 128)])
    count = len(held.labels)
    hits = float((seen[:count].argmax(axis=1) == held.labels).mean())
    near, far = loss(held.wanted[:count], seen[:count]), loss(held.wanted[count:], seen[count:])
    return {"accuracy": round(100 * hits, 4), "divergence": round(near.divergence, 6), "blended": round(far.divergence, 6)}


def train(model: Model, images: np.ndarray, labels: np.ndarray, teacher: Callable[[np.ndarray], np.ndarray], held: Held, settings: Settings,
          checkpoint: Path, key: str = "", progress: Callable[[int, int], None] | None = None, report: Callable[[dict], None] | None = None) -> list[dict]:
    """Trains in place; the figures of every epoch, the start's first.

    Parameters
    ----------
    teacher : images (n, h, w, c) to the float network's logits
    checkpoint : a file that holds everything after each epoch; if it exists and was made with the same ``key``, training goes on from there
    progress, report : called with (batch, batches) and with an epoch's figures
    """
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(settings.threads)
    optimizer = torch.optim.Adam([{"params": group, "share": share} for group, share in model.groups(settings.slow)], lr=settings.rate)
    batches = len(images) // settings.batch
    curve, first = [], 0
    mean = [parameter.detach().clone() for parameter in model.parameters()]
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else {}
    if state.get("key") == key:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        mean = state["mean"]
        curve, first = state["curve"], len(state["curve"]) - 1
    else:
        curve.append({"epoch": 0, **measure(model, held)})
    if report:
        report(curve[-1])
    for epoch in range(first, settings.epochs):
        # A seed for each epoch: what comes does not depend on where training was interrupted.
        rng = np.random.default_rng((settings.seed, epoch))
        order, total = rng.permutation(len(images))[: batches * settings.batch].reshape(batches, settings.batch), 0.0
        for at, chosen in enumerate(order):
            done = epoch + at / batches
            share = (done - settings.warm) / max(settings.epochs - settings.warm, 1e-9)
            rate = settings.rate * (done + 1 / batches) / settings.warm if share < 0 else settings.rate * (1 + math.cos(math.pi * share)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            batch = varied(images[chosen], rng, settings)
            value = cost(model.logits(batch), torch.from_numpy(teacher(batch)), torch.from_numpy(labels[chosen]), settings)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            _follow(mean, model, min(settings.average, 1 - 1 / (epoch * batches + at + 1)))
            total += value.item()
            if progress:
                progress(at + 1, batches)
        with _holding(model, mean):
            curve.append({"epoch": epoch + 1, "loss": round(total / max(batches, 1), 6), **measure(model, held)})
        part = checkpoint.with_suffix(".part")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "mean": mean, "curve": curve, "key": key}, part)
        part.replace(checkpoint)
        if report:
            report(curve[-1])
    _exchange(model, mean)
    return curve


@torch.no_grad()
def _follow(mean: list[torch.Tensor], model: Model, decay: float) -> None:
    for old, new in zip(mean, model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


@torch.no_grad()
def _exchange(model: Model, mean: list[torch.Tensor]) -> None:
    for old, new in zip(mean, model.parameters(), strict=True):
        kept = new.clone()
        new.copy_(old)
        old.copy_(kept)


@contextmanager
def _holding(model: Model, mean: list[torch.Tensor]):
    """The model with the mean for its parameters."""
    _exchange(model, mean)
    try:
        yield
    finally:
        _exchange(model, mean)
