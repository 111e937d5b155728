"""Time of OLAccel: what its groups do in each cycle, and how the tiles of a layer are dealt to them.

Stated, by second hand (see ``golden.olaccel``): a group of 16 MACs and one for outliers; a weight chunk with at most one outlier takes a cycle,
with two or more two; zero activations are skipped; outlier activations are a sparse list for groups of 17 MACs of their own; groups finish at
different times.

Our assumptions, generous where the sources are silent:

1. A cycle is one activation times the weight chunk of 16 output channels, so a skipped zero is a cycle less. A tile is one output pixel of 16
   output channels, its whole reduction in one group: nothing is added up between groups.
2. Tiles are dealt in order, those of one block of output channels after the other, each to the group that is free first: hardly any imbalance is
   left but at a layer's end. Each image and layer begins with all groups idle.
3. Finding the next non-zero activation of a chunk of 16 channels costs nothing; a chunk without any costs the cycle in which it is held.
   Chunks outside of the image do not exist.
4. A cluster is ``groups`` normal groups and one outlier group, which adds a tile's outliers to the sums that its normal group hands over, in the
   order in which tiles were dealt; there is always room for sums that wait. A tile without outliers does not pass through it.
5. All buffers deliver a chunk per cycle and group, and the sums leave in no time; loading is hidden.
6. 8 clusters of 6 groups, 768 4-bit MACs: from memory of [P]; comparisons at equal area choose their own number.
7. A first layer takes two passes, one per nibble of its 8-bit codes, and no outlier groups.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from golden.mac_array import convolve
from golden.olaccel import LANES, chunk_cycles, split_activations, split_precise

LATENCY = 3
"""Cycles from the load of a chunk to the one in which its first activation is multiplied: held, weights fetched, operands held."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """``groups``: normal groups of a cluster."""

    clusters: int = 8
    groups: int = 6

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"OLAccel's {name} must be at least 1, not {value}")

    @property
    def macs(self) -> int:
        """4-bit MACs of the normal groups, without those for outliers, as such machines are named."""
        return self.clusters * self.groups * LANES


@dataclass(frozen=True)
class Work:
    """Cycles that the tiles of a layer take, int64 (images, tiles): of a normal group for activations, for chunks without any; of an outlier
    group."""

    normal: np.ndarray
    empty: np.ndarray
    outlier: np.ndarray


def group_cycles(activations: np.ndarray, cycles: np.ndarray) -> int:
    """Cycles of a normal group for a chunk: ``activations`` (16,) without outliers, ``cycles`` (16,) of their weight chunks."""
    return max(1, int(cycles[activations != 0].sum()))


def work(codes: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int], signed: bool = False) -> Work:
    """Of an ordinary layer.

    ``codes`` (n, h, w, c), ``weights`` (kernel_h, kernel_w, c, channels), ``pad`` (top, left), ``out`` (out_h, out_w); outliers are told by
    their values.
    """
    normal, outliers = split_activations(codes, signed)
    found = _normal_work(normal, weights, stride, pad, out)
    return Work(found.normal, found.empty, _tiles(convolve(outliers != 0, chunk_cycles(weights), stride, pad, out)))


def precise_work(codes: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int]) -> Work:
    """Of a first layer: codes of 8 bit, 0 ... 255 or -128 ... 127. High and low nibbles are tiles of their own."""
    passes = [_normal_work(nibbles, weights, stride, pad, out) for nibbles in split_precise(codes)]
    return Work(*(np.concatenate([getattr(found, name) for found in passes], axis=1) for name in ("normal", "empty", "outlier")))


def _normal_work(codes, weights, stride, pad, out) -> Work:
    cycles = chunk_cycles(weights)
    taken = convolve(codes != 0, cycles, stride, pad, out)
    chunks = np.pad(codes != 0, [(0, 0)] * 3 + [(0, -codes.shape[3] % LANES)]).reshape(*codes.shape[:3], -1, LANES)
    empty = ~chunks.any(axis=-1)
    passed = convolve(empty, np.ones((*weights.shape[:2], empty.shape[3], 1), dtype=np.int64), stride, pad, out)
    return Work(_tiles(taken), _tiles(np.broadcast_to(passed, taken.shape)), np.zeros_like(_tiles(taken)))


def _tiles(found: np.ndarray) -> np.ndarray:
    """(n, out_h, out_w, blocks) as (n, tiles), block by block."""
    return np.moveaxis(found, -1, 1).reshape(len(found), -1)


def ideal(work: Work, array: Array) -> np.ndarray:
    """Cycles per image, int64 (n,), if groups were always busy and nothing but non-zero activations took time."""
    normal, outlier = work.normal.sum(axis=1), work.outlier.sum(axis=1)
    return np.maximum(-(-normal // (array.clusters * array.groups)), -(-outlier // array.clusters))


def modelled(work: Work, array: Array) -> np.ndarray:
    """Cycles per image, int64 (n,), as the groups take them; tiles follow each other without a gap, and the latency comes once."""
    normal = (work.normal + work.empty).tolist()
    return np.array([LATENCY + _deal(*tiles, array) for tiles in zip(normal, work.outlier.tolist())], dtype=np.int64)


def _deal(normal: list[int], outlier: list[int], array: Array) -> int:
    """When the last tile of an image is done."""
    free, outliers_done, done = [(0, group) for group in range(array.clusters * array.groups)], [0] * array.clusters, 0
    for cycles, more in zip(normal, outlier):
        time, group = free[0]
        time += cycles
        heapq.heapreplace(free, (time, group))
        if more:
            cluster = group // array.groups
            time = outliers_done[cluster] = max(outliers_done[cluster], time) + more
        done = max(done, time)
    return done
