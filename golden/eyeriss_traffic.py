"""Eyeriss: accesses to every level of storage, run-length coding, and what all that costs. Sources and assumptions: ``golden.eyeriss``."""

from dataclasses import dataclass

import numpy as np

from golden.eyeriss_mapping import Layer, Mapping, ceil, filter_loads, passes, processing, sweeps

CLOCK, LINK_CLOCK, LINK_WORDS = 200e6, 60e6, 4
"""Hz, Hz, words per cycle of the link (III-A; clocks of tables V and VI)"""
COSTS = {"mac": 1, "rf": 1, "array": 2, "buffer": 6, "dram": 200}
"""Of an access to a word, in MACs ([I], table IV)."""
RUN = 32
"""Values in a pair of run (5 bit: up to 31 zeros) and level (16 bit) at most; three pairs make 64 bit (IV-B)."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of a batch; accesses in words, those of fmaps in DRAM as they are compressed. ``processing``: cycles with DRAM hidden; ``cycles``: all.

    ``gated``: MACs on zeros, without multiplication and read of a filter (V-C); ``array``: words that reach an element from the buffer, or psums from
    the element below; ``buffer``: as the published tables count it; ``fills``: the rest, ifmaps from DRAM, filters in and out.
    """

    macs: int
    gated: float
    active: int
    passes: int
    processing: float
    cycles: float
    dram_ifmaps: float
    dram_filters: int
    dram_ofmaps: float
    buffer: int
    fills: int
    array: int
    rf: float

    @property
    def dram(self) -> float:
        return self.dram_ifmaps + self.dram_filters + self.dram_ofmaps

    @property
    def energy(self) -> dict[str, float]:
        """By level, in MACs."""
        accesses = {"mac": self.macs - self.gated, "rf": self.rf, "array": self.array, "buffer": self.buffer + self.fills, "dram": self.dram}
        return {level: accesses[level] * cost for level, cost in COSTS.items()}


def run_length(zeros: float) -> float:
    """Bits of run-length coded values, ``zeros`` of them zero at random places, relative to 16 each."""
    values = RUN if zeros == 1 else (1 - zeros**RUN) / (1 - zeros)
    return 64 / 3 / 16 / values


def _rows(layer: Layer, e: int) -> tuple[int, int]:
    """Ifmap rows that all strips of ``e`` ofmap rows read: (with padding, without)."""
    padded = inside = 0
    for start in range(0, layer.out_shape[0], e):
        height = layer.height(min(e, layer.out_shape[0] - start))
        top = start * layer.stride[0] - layer.pad[0]
        padded += height
        inside += max(min(top + height, layer.in_shape[0]) - max(top, 0), 0)
    return padded, inside


def counts(layer: Layer, batch: int, k: Mapping) -> Counts:
    """What ``layer`` costs with the mapping ``k``."""
    kernel_h, out_h = layer.kernel[0], layer.out_shape[0]
    channel_passes, filter_passes = passes(layer, k)
    blocks, loads, cycles = layer.groups * channel_passes * filter_passes, filter_loads(layer, batch, k), processing(layer, batch, k)
    one = channel_passes * filter_passes == 1
    ifmap_loads = np.where(channel_passes == 1, 1, ceil(layer.filters, k.m))

    padded, inside = _rows(layer, k.e)
    planes, outputs, macs = batch * layer.groups * layer.channels, batch * layer.outputs, batch * layer.macs
    filled = planes * inside * min(layer.width - layer.pad[1], layer.in_shape[1]) * ifmap_loads
    dram_ifmaps, dram_ofmaps = filled * (1 if layer.first else run_length(layer.zeros)), outputs * run_length(layer.out_zeros)
    filters, link = layer.weights * loads, CLOCK / LINK_CLOCK / LINK_WORDS
    filters_to_array = layer.weights * np.where(one, k.e, out_h * ceil(batch, k.n))
    ifmaps_to_array = planes * out_h * kernel_h * layer.width * filter_passes * k.t
    return Counts(
        macs=macs, gated=macs * layer.zeros, active=kernel_h * k.e * k.r * k.t, passes=blocks * sweeps(layer, batch, k), processing=cycles,
        cycles=np.maximum(cycles, filters * link) + (dram_ifmaps + dram_ofmaps) * link,
        dram_ifmaps=dram_ifmaps, dram_filters=filters, dram_ofmaps=dram_ofmaps,
        buffer=planes * padded * layer.width * filter_passes + 2 * channel_passes * outputs, fills=filled + 2 * filters,
        array=filters_to_array + ifmaps_to_array + outputs * channel_passes * (kernel_h * k.r - 1), rf=(4 - layer.zeros) * macs)
