"""A layer of a rival: the same integers, and the mode that it runs in."""

from dataclasses import dataclass, fields

import numpy as np

from compiler.arithmetic import Mode
from compiler.quantized import QuantizedLayer


@dataclass(frozen=True, kw_only=True, eq=False)
class ModeLayer(QuantizedLayer):
    """``mode``: of a rival's arithmetic."""

    mode: Mode


def with_mode(kind: type[ModeLayer], layer: QuantizedLayer, **more) -> ModeLayer:
    """``layer`` as one of this kind."""
    return kind(**{field.name: getattr(layer, field.name) for field in fields(layer)}, **more)


def uses(layer: QuantizedLayer) -> np.ndarray:
    """How many windows of a layer hold each pixel of its input, int (height, width)."""
    def along(axis: int) -> np.ndarray:
        at = np.arange(layer.out_shape[axis])[:, None] * layer.stride[axis] + np.arange(layer.kernel[axis]) - layer.pad[axis]
        return np.bincount(at[(at >= 0) & (at < layer.in_shape[axis])], minlength=layer.in_shape[axis])

    return np.outer(along(0), along(1))


def used_share(layer: QuantizedLayer, marked: np.ndarray) -> float:
    """Share of a layer's multiplications whose code is among ``marked``, bool (n, h, w, c), on average; those of the padding are not."""
    per_pixel = marked.sum(axis=(0, 3), dtype=np.int64)
    return float((per_pixel * uses(layer)).sum()) * layer.out_shape[2] / (layer.macs * len(marked))
