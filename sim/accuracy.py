"""Accuracy on labelled images: the float network by onnxruntime, integer networks by the integer model, with confidence intervals."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from golden.parallel import over_batches

Z = 1.959964
"""Of a normal distribution: 95 % lie within."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a share, in percent (Wilson): true also near 0 and 100 %, where the textbook's interval leaves the scale."""
    share, spread = hits / count, Z * Z / count
    center = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / 4 / count)
    return 100 * max(0.0, center - half), 100 * min(1.0, center + half)


def percent(hits: int, count: int) -> float:
    return round(100 * hits / count, 4)


def batches(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, size: int, progress: Callable[[int], None] | None = None,
            processes: bool = False) -> np.ndarray:
    """Logits (n, classes), ``size`` images at a time; ``processes``: over all cores, see :func:`golden.parallel.over_batches`."""
    parts, found = (images[begin : begin + size] for begin in range(0, len(images), size)), []
    for logits in over_batches(run, parts) if processes and len(images) > size else map(run, parts):
        found.append(np.asarray(logits).reshape(len(logits), -1))
        if progress:
            progress(len(logits))
    return np.concatenate(found)


def onnx_runner(model: str | Path, threads: int = 0) -> tuple[Callable[[np.ndarray], np.ndarray], int | None]:
    """(function from images (n, h, w, c) to the model's outputs by onnxruntime, the batch size that the file fixes, if any).

    ``threads``: 0 for as many as there are cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    fixed = source.shape[0] if isinstance(source.shape[0], int) and source.shape[0] > 0 else None

    def run(images):
        feed = np.ascontiguousarray(np.moveaxis(images, 3, 1))
        missing = (fixed or len(feed)) - len(feed)
        padded = np.concatenate([feed, np.repeat(feed[-1:], missing, axis=0)]) if missing else feed
        return session.run(None, {source.name: padded})[0][: len(images)]

    return run, fixed
