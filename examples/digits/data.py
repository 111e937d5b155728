"""The digits of scikit-learn (8 x 8 pixels, 1,797 images) and the one split that everything here uses.

``train`` is what the network learns from, ``calibration`` a part of it (ranges, budgets, bias correction), ``test`` a quarter held
out from both: it is looked at once, for the figures that are reported.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20230


@dataclass(frozen=True)
class Split:
    """``images``: float32 (n, 8, 8, 1), 0 ... 1; ``labels``: int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def load(calibration: int = 448) -> dict[str, Split]:
    """``train`` (1,347), ``calibration`` (of ``train``) and ``test`` (450), stratified by digit and always the same."""
    digits = load_digits()
    images = (digits.images[..., None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=450, stratify=labels, random_state=SEED)
    _, part = train_test_split(train, test_size=calibration, stratify=labels[train], random_state=SEED)
    return {name: Split(images[at], labels[at]) for name, at in (("train", train), ("calibration", part), ("test", test))}
