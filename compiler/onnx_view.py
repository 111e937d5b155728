"""Where the elements of an ONNX tensor lie: operators that only move data compute nothing here but an array of indices.

Flatten, Reshape, Transpose, Slice, Pad and the like apply to the index array just as they would to the data. What is left when an
operator computes again is recognised: nothing at all, padding that the convolution can do itself, or a selection of rows, columns and
channels that a convolution with one weight per output channel makes.
"""

from dataclasses import dataclass, replace

import numpy as np

from compiler.network import Shape
from sdp.config import STRIDE_MAX


def nchw(shape: Shape) -> np.ndarray:
    """The index array of a tensor as ONNX sees it, (1, channels, height, width), into the NHWC tensor of this shape."""
    return np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape).transpose(2, 0, 1)[None]


def vector(size: int) -> np.ndarray:
    """The index array of a tensor (1, size)."""
    return nchw((1, 1, size))[:, :, 0, 0]


@dataclass(frozen=True, eq=False)
class View:
    """An ONNX tensor, batch 1, whose element at any place is element ``index`` of the tensor ``node``, or zero where that is -1.

    ``alone``: nothing else reads the tensor, so its node may still take on more; ``name``: of the ONNX tensor.
    """

    node: str
    shape: Shape
    index: np.ndarray
    alone: bool = False
    name: str = ""

    def moved(self, index: np.ndarray) -> "View":
        return replace(self, index=np.ascontiguousarray(index))

    @property
    def has_zeros(self) -> bool:
        return bool((self.index < 0).any())

    def is_plain(self) -> bool:
        """The whole tensor, in ONNX' order."""
        height, width, channels = self.shape
        return self.index.shape == (1, channels, height, width) and np.array_equal(self.index, nchw(self.shape))


@dataclass(frozen=True, eq=False)
class Gather:
    """Rows ``i * stride + offset`` and columns alike, zero where that is outside; ``channels``: the one that each is, or -1 for zeros."""

    channels: np.ndarray
    stride: tuple[int, int]
    offset: tuple[int, int]
    out: tuple[int, int]

    def same_channels(self, channels: int) -> bool:
        return np.array_equal(self.channels, np.arange(channels))


def _progression(found: np.ndarray, size: int) -> tuple[int, int] | None:
    """(stride, offset) of coordinates that are -1 just where the progression leaves 0 ... size - 1."""
    start = int(np.argmax(found >= 0))
    for stride in range(1, STRIDE_MAX + 1):
        offset = int(found[start]) - start * stride
        wanted = np.arange(len(found)) * stride + offset
        if np.array_equal(found, np.where((wanted >= 0) & (wanted < size), wanted, -1)):
            return stride, offset
    return None


def gather(view: View) -> Gather | None:
    """How the rows, columns and channels of a four-dimensional view are made, or none if it is not that simple."""
    if view.index.ndim != 4 or view.index.size == 0:
        return None
    (height, width, channels), index = view.shape, view.index[0]
    valid = index >= 0
    channel = np.where(valid, index % channels, -1).max(axis=(1, 2))
    row = np.where(valid, index // (width * channels), -1).max(axis=(0, 2))
    column = np.where(valid, index // channels % width, -1).max(axis=(0, 1))
    grid = np.meshgrid(channel, row, column, indexing="ij")
    if not np.array_equal(index, np.where(np.min(grid, axis=0) >= 0, (grid[1] * width + grid[2]) * channels + grid[0], -1)):
        return None
    rows, columns = _progression(row, height), _progression(column, width)
    if rows is None or columns is None:
        return None
    return Gather(channel, (rows[0], columns[0]), (rows[1], columns[1]), index.shape[1:])
