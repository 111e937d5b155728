"""Weight chunks and activations for OLAccel's groups."""

import numpy as np

from golden.olaccel import LANES


def random_weights(rng, count: int) -> np.ndarray:
    """(count, 16) codes, chunks with none, one, several and only outliers."""
    weights = rng.integers(-8, 8, (count, LANES))
    outliers = rng.random((count, LANES)) < rng.choice([0, 0.03, 0.06, 0.2, 1], (count, 1))
    return np.where(outliers, rng.integers(-128, 120, (count, LANES)), weights)


def random_chunks(rng, most: int) -> tuple[np.ndarray, np.ndarray]:
    """16 activations of up to ``most``, or from it if that is negative, and their weight chunks (16, 16); often with zeros."""
    low, high = (0, most) if most > 0 else (most, -1 - most)
    activations = np.where(rng.random(LANES) < rng.choice([0, 0.3, 0.5, 0.9, 1]), rng.integers(low, high + 1, LANES), 0)
    return activations, random_weights(rng, LANES)
