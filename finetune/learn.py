"""Trains a model with a float network as its teacher, and shows how it goes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from compiler.loss import blends
from compiler.network import Network
from finetune.model import Model
from finetune.train import Held, Settings, train
from sim.data import Data
from sim.run import progress_bar

BATCH = 100
"""Held images that the teacher answers at once."""


def learn(model: Model, network: Network, teacher: Callable[[np.ndarray], np.ndarray], training: Data, rest: Data, settings: Settings, checkpoint: Path,
          key: str, console: Console) -> list[dict]:
    """Trains ``model`` in place on ``training``; figures of each epoch on ``rest``, which nothing is trained on, and blends of it.

    Parameters
    ----------
    network : the float one, which ``teacher`` computes: images (n, h, w, c) to logits (n, outputs)
    checkpoint, key : see :func:`finetune.train.train`
    """
    torch.manual_seed(settings.seed)
    hard, _ = blends(network, rest.images, rest.labels, len(rest) // 2)
    shown = np.concatenate([rest.images, hard])
    held = Held(shown, rest.labels, np.concatenate([teacher(shown[at : at + BATCH]) for at in range(0, len(shown), BATCH)]))
    right = 100 * float((held.wanted[: len(rest)].argmax(axis=1) == rest.labels).mean())
    console.print(f"float: {right:.2f} % of the held images")
    with progress_bar(console) as bar:
        task = bar.add_task("epoch 1", total=1)

        def report(figures):
            bar.update(task, description=f"epoch {figures['epoch'] + 1}", completed=0)
            bar.console.print("epoch {epoch}: {accuracy:.2f} % of the held images, divergence {divergence:.4f}".format(**figures))

        return train(model, training.images, training.labels, teacher, held, settings, checkpoint, key=key,
                     progress=lambda done, total: bar.update(task, completed=done, total=total), report=report)
