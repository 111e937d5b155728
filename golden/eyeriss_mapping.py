"""Eyeriss: how a layer lies on the array, what fits, and how long its passes take. Sources and assumptions: ``golden.eyeriss``."""

import math
from dataclasses import dataclass

import numpy as np

ROWS, COLUMNS = 12, 14
FILTER_WORDS, IFMAP_WORDS, PSUM_WORDS = 224, 12, 24
"""Scratch pads of an element; a word is 16 bit everywhere."""
BANKS, BANK_WORDS = 25, 2048
"""The 100 KiB of the buffer for ifmaps and psums: a bank holds one or the other (V-A)."""
FILTER_BUFFER_WORDS = 4096
"""The other 8 KiB: the filters of the next pass."""
BUILT_WORDS = 128
WIDE, NARROW = 4, 1
"""Words a cycle: filters and psums, each way; ifmaps."""


class EyerissError(ValueError):
    """A layer that the chip does not take."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution. ``channels`` and ``filters``: of one of ``groups``; shapes: (height, width); ``pad``: zeros at (top, left).

    ``zeros``, ``out_zeros``: share of zeros in ifmaps and ofmaps; ``first``: its ifmaps are not compressed.
    """

    name: str
    channels: int
    filters: int
    in_shape: tuple[int, int]
    out_shape: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    groups: int = 1
    zeros: float = 0.0
    out_zeros: float = 0.0
    first: bool = False

    @property
    def weights(self) -> int:
        return self.groups * self.filters * self.channels * math.prod(self.kernel)

    @property
    def outputs(self) -> int:
        """Of one image."""
        return self.groups * self.filters * math.prod(self.out_shape)

    @property
    def macs(self) -> int:
        """Of one image, those on padding included, as in the published tables."""
        return self.weights * math.prod(self.out_shape)

    @property
    def width(self) -> int:
        """Words of an ifmap row that the array gets, with padding."""
        return (self.out_shape[1] - 1) * self.stride[1] + self.kernel[1]

    def height(self, e: int) -> int:
        """Ifmap rows for ``e`` ofmap rows, with padding."""
        return (e - 1) * self.stride[0] + self.kernel[0]


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """[J] table II. A pass is ``n`` images, ``e`` ofmap rows, ``q * r`` channels and ``p * t`` filters: ``q`` and ``p`` interleaved in an element,
    ``r`` and ``t`` in sets of ``kernel_h * e`` elements side by side. The buffer holds psums of ``m`` filters."""

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int


def ceil(a, b):
    return -(-a // b)


def sets(kernel_h: int, e: int) -> int:
    """Sets of ``kernel_h * e`` elements that fit the array; one that is too wide is cut in segments, one below the other (IV-A)."""
    rows = ROWS // kernel_h
    return rows * (COLUMNS // e) if e <= COLUMNS else rows // ceil(e, COLUMNS)


def fits(layer: Layer, k: Mapping, built: bool = False):
    """Whether all capacities hold. Here and in all that follows fields of ``k`` other than ``n`` and ``e`` may be arrays; so is then the answer."""
    kernel_h, kernel_w = layer.kernel
    channels = k.q * k.r
    ifmaps, psums = k.n * channels * layer.height(k.e) * layer.width, k.n * k.m * k.e * layer.out_shape[1]
    return ((k.r * k.t <= sets(kernel_h, k.e)) & (k.p <= PSUM_WORDS) & (k.q * kernel_w <= IFMAP_WORDS) & (k.p * k.q * kernel_w <= FILTER_WORDS)
            & (k.p * k.t * channels * kernel_w * kernel_h <= FILTER_BUFFER_WORDS) & (ceil(ifmaps, BANK_WORDS) + ceil(psums, BANK_WORDS) <= BANKS)
            & ((channels == 1) | (channels * layer.width <= BUILT_WORDS) | (not built)))


def parts(whole: int, part: int) -> list[tuple[int, int]]:
    """(size, how many) of the parts that ``whole`` is cut into."""
    return [(size, times) for size, times in ((part, whole // part), (whole % part, 1)) if size and times]


def passes(layer: Layer, k: Mapping) -> tuple:
    """Passes over (channels, filters), order as in [J] fig. 7: strips, images, groups of ``m`` filters, channels, filters."""
    return ceil(layer.channels, k.q * k.r), layer.filters // k.m * ceil(k.m, k.p * k.t) + ceil(layer.filters % k.m, k.p * k.t)


def sweeps(layer: Layer, batch: int, k: Mapping) -> int:
    """How often all passes over channels and filters are gone through: once per strip and ``n`` images."""
    return ceil(layer.out_shape[0], k.e) * ceil(batch, k.n)


def filter_loads(layer: Layer, batch: int, k: Mapping):
    """How often every filter comes into the array: filters that are one block stay."""
    channels, filters = passes(layer, k)
    return np.where(channels * filters == 1, 1, sweeps(layer, batch, k))


def processing(layer: Layer, batch: int, k: Mapping):
    """Cycles of a batch, DRAM hidden."""
    (kernel_h, kernel_w), (out_h, out_w) = layer.kernel, layer.out_shape
    channels, filters = passes(layer, k)
    blocks = layer.groups * channels * filters
    total = blocks * filter_loads(layer, batch, k) * (k.p * k.t * k.q * k.r * kernel_h * kernel_w / WIDE)
    for e, strips in parts(out_h, k.e):
        for n, times in parts(batch, k.n):
            ifmaps, psums = n * k.q * k.r * layer.height(e) * layer.width, n * k.p * k.t * e * out_w
            steady = np.maximum(np.maximum(n * out_w * k.p * k.q * kernel_w, ifmaps / NARROW), psums / WIDE)
            ramp = k.q * k.r * kernel_w * layer.height(e) / NARROW + k.p * k.t * e / WIDE
            total = total + blocks * strips * times * (steady + ramp)
    return total
