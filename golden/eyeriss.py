"""Eyeriss, a baseline: row-stationary mapping, cycles, traffic and relative energy of 168 elements of 16 bit, and how far the model is from the chip.

Sources. [J] Chen, Krishna, Emer, Sze, "Eyeriss: An Energy-Efficient Reconfigurable Accelerator for Deep Convolutional Neural Networks", JSSC
52(1), 2017: IV-A mapping and passes, IV-B run lengths, V-A buffer, V-B networks, V-C element; tables III, V, VI. [I] Chen, Emer, Sze, "Eyeriss: A
Spatial Architecture for Energy-Efficient Dataflow for Convolutional Neural Networks", ISCA 2016: what an access costs, how accesses are counted.

Our assumptions, the same for all layers:

1. A mapping has the least product of energy and cycles among those that fit, data taken as dense. [J] says that energy and resources decide.
2. A pass takes the longest of its computation, its ifmaps in, its psums in or out, over the widths of the networks (V-B): 1, 4 and 4 words a cycle.
   "It takes time to load data from the GLB into the PE array to ramp up each processing pass" (VI-A): its filters (4 words a cycle), its first
   windows (1), its last column of psums (4) come on top.
3. "The chip does not perform processing while it is loading ifmap from DRAM or dumping ofmaps to DRAM" (VI-A): 64 bit at the link's 60 MHz.
   Filters come in beside.
4. Zeros lie at random, and an ofmap holds as many as the next layer's ifmap, though pooling may come between. Filters are not compressed (IV-B).
5. Of the buffer the published tables count psums both ways and ifmaps, with their padding, to the array: so table V is met within 0.3 % by the
   mappings of table III, CONV3 aside (see :data:`TABLE_III`). Energy counts filling the buffer, and filters, too.
6. Groups of a convolution, so channels of a depthwise one, go one after another. Filters that are one block stay in the array, channels that are
   one block stay in the buffer.
7. Left out, all in Eyeriss' favour: setting up a layer (below 100 us, III-B), pooling, additions of residuals, leakage and clock.
8. ``built``: no more than :data:`BUILT_WORDS` of ifmap rows in a pass, unless of a single channel. Nothing published says so, but VGG-16's measured
   buffer traffic means 1, 1, 2, 4, 8 channels a pass for rows of 226, 114, 58, 30, 16 words, and this one rule gives them. Without it the model is
   an Eyeriss at its best: equal on AlexNet, twice as fast as the chip on VGG-16.
"""

import math
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, replace
from functools import lru_cache

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
CLOCK, LINK_CLOCK, LINK_WORDS = 200e6, 60e6, 4
"""Hz, Hz, words per cycle of the link (III-A; clocks of tables V and VI)"""
COSTS = {"mac": 1, "rf": 1, "array": 2, "buffer": 6, "dram": 200}
"""Of an access to a word, in MACs ([I], table IV)."""
RUN = 32
"""Values in a pair of run (5 bit: up to 31 zeros) and level (16 bit) at most; three pairs make 64 bit (IV-B)."""


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


def ceil(a, b):
    return -(-a // b)


def sets(kernel_h: int, e: int) -> int:
    """Sets of ``kernel_h * e`` elements that fit the array; one that is too wide is cut in segments, one below the other (IV-A)."""
    rows = ROWS // kernel_h
    return rows * (COLUMNS // e) if e <= COLUMNS else rows // ceil(e, COLUMNS)


def fits(layer: Layer, k: Mapping, built: bool = False):
    """Whether all capacities hold. Here and in :func:`counts` fields of ``k`` other than ``n`` and ``e`` may be arrays; so is then the answer."""
    kernel_h, kernel_w = layer.kernel
    channels = k.q * k.r
    ifmaps, psums = k.n * channels * layer.height(k.e) * layer.width, k.n * k.m * k.e * layer.out_shape[1]
    return ((k.r * k.t <= sets(kernel_h, k.e)) & (k.p <= PSUM_WORDS) & (k.q * kernel_w <= IFMAP_WORDS) & (k.p * k.q * kernel_w <= FILTER_WORDS)
            & (k.p * k.t * channels * kernel_w * kernel_h <= FILTER_BUFFER_WORDS) & (ceil(ifmaps, BANK_WORDS) + ceil(psums, BANK_WORDS) <= BANKS)
            & ((channels == 1) | (channels * layer.width <= BUILT_WORDS) | (not built)))


def _parts(whole: int, part: int) -> list[tuple[int, int]]:
    """(size, how many) of the parts that ``whole`` is cut into."""
    return [(size, times) for size, times in ((part, whole // part), (whole % part, 1)) if size and times]


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
    """What ``layer`` costs with the mapping ``k``; order of the passes as in [J] fig. 7: strips, images, groups of ``m`` filters, channels, filters."""
    (kernel_h, kernel_w), (out_h, out_w) = layer.kernel, layer.out_shape
    channel_passes = ceil(layer.channels, k.q * k.r)
    filter_passes = layer.filters // k.m * ceil(k.m, k.p * k.t) + ceil(layer.filters % k.m, k.p * k.t)
    blocks, sweeps = layer.groups * channel_passes * filter_passes, ceil(out_h, k.e) * ceil(batch, k.n)
    one = channel_passes * filter_passes == 1
    filter_loads, ifmap_loads = np.where(one, 1, sweeps), np.where(channel_passes == 1, 1, ceil(layer.filters, k.m))

    processing = blocks * filter_loads * (k.p * k.t * k.q * k.r * kernel_h * kernel_w / WIDE)
    for e, strips in _parts(out_h, k.e):
        for n, times in _parts(batch, k.n):
            ifmaps, psums = n * k.q * k.r * layer.height(e) * layer.width, n * k.p * k.t * e * out_w
            steady = np.maximum(np.maximum(n * out_w * k.p * k.q * kernel_w, ifmaps / NARROW), psums / WIDE)
            ramp = k.q * k.r * kernel_w * layer.height(e) / NARROW + k.p * k.t * e / WIDE
            processing = processing + blocks * strips * times * (steady + ramp)

    padded, inside = _rows(layer, k.e)
    planes, outputs, macs = batch * layer.groups * layer.channels, batch * layer.outputs, batch * layer.macs
    filled = planes * inside * min(layer.width - layer.pad[1], layer.in_shape[1]) * ifmap_loads
    dram_ifmaps, dram_ofmaps = filled * (1 if layer.first else run_length(layer.zeros)), outputs * run_length(layer.out_zeros)
    filters, link = layer.weights * filter_loads, CLOCK / LINK_CLOCK / LINK_WORDS
    filters_to_array = layer.weights * np.where(one, k.e, out_h * ceil(batch, k.n))
    ifmaps_to_array = planes * out_h * kernel_h * layer.width * filter_passes * k.t
    return Counts(
        macs=macs, gated=macs * layer.zeros, active=kernel_h * k.e * k.r * k.t, passes=blocks * sweeps, processing=processing,
        cycles=np.maximum(processing, filters * link) + (dram_ifmaps + dram_ofmaps) * link,
        dram_ifmaps=dram_ifmaps, dram_filters=filters, dram_ofmaps=dram_ofmaps,
        buffer=planes * padded * layer.width * filter_passes + 2 * channel_passes * outputs, fills=filled + 2 * filters,
        array=filters_to_array + ifmaps_to_array + outputs * channel_passes * (kernel_h * k.r - 1), rf=(4 - layer.zeros) * macs)


@lru_cache(maxsize=None)
def search(layer: Layer, batch: int, built: bool = False) -> Mapping:
    """Of all mappings that fit the one of least energy times cycles.

    For ``e`` only the lowest with its number of strips, for ``m`` only the highest that the buffer holds are tried: others cost no less.
    """
    (kernel_h, kernel_w), (out_h, out_w) = layer.kernel, layer.out_shape
    dense = replace(layer, zeros=0.0, out_zeros=0.0, first=True)
    best = (math.inf, None)
    for e in sorted({ceil(out_h, strips) for strips in range(1, out_h + 1)}):
        most = sets(kernel_h, e)
        limits = (min(PSUM_WORDS, layer.filters), min(IFMAP_WORDS // kernel_w, layer.channels), min(most, layer.channels), min(most, layer.filters))
        p, q, r, t = (axis.ravel() for axis in np.meshgrid(*(np.arange(1, limit + 1) for limit in limits)))
        for n in range(1, batch + 1):
            room = (BANKS - ceil(n * q * r * layer.height(e) * layer.width, BANK_WORDS)) * BANK_WORDS // (n * e * out_w)
            m = np.where(room >= layer.filters, layer.filters, room // (p * t) * p * t)
            tried = np.stack((m, p, q, r, t))[:, m > 0]
            tried = tried[:, fits(layer, Mapping(n=n, e=e, **dict(zip("mpqrt", tried))), built)]
            if not tried.size:
                continue
            found = counts(dense, batch, Mapping(n=n, e=e, **dict(zip("mpqrt", tried))))
            products = sum(found.energy.values()) * found.cycles
            at = int(products.argmin())
            if products[at] < best[0]:
                best = (products[at], Mapping(n=n, e=e, **{name: int(value) for name, value in zip("mpqrt", tried[:, at])}))
    if best[1] is None:
        raise EyerissError(f"layer {layer.name!r}: no mapping of a kernel of {layer.kernel} and {layer.out_shape} outputs fits")
    return best[1]


def of_network(network, zeros: Dictionary[str, float] | None = None) -> list[Layer]:
    """The convolutions of a ``compiler.network.Network``; ``zeros``: share of zeros of its tensors, by name; none: dense, the worst for Eyeriss."""
    shapes, zeros, found = network.shapes(), zeros or {}, []
    for node in network.nodes:
        if not hasattr(node, "weight"):
            continue
        filters, channels, *kernel = node.weight.shape
        found.append(Layer(
            name=node.name, channels=channels, filters=1 if node.depthwise else filters, groups=filters if node.depthwise else 1,
            in_shape=shapes[node.input][:2], out_shape=shapes[node.name][:2], kernel=tuple(kernel), stride=tuple(node.stride), pad=tuple(node.pad[:2]),
            zeros=zeros.get(node.input, 0.0), out_zeros=zeros.get(node.name, 0.0), first=node.input == network.input))
    return found


def summary(layers: list[Layer], batch: int, built: bool = False) -> dict[str, float]:
    """Per image: MACs, cycles (``processing`` with DRAM hidden), bytes, energy in MACs on and off the chip; ``utilization``: MACs per element, cycle."""
    found = [counts(layer, batch, search(layer, batch, built)) for layer in layers]
    sums = {name: float(sum(getattr(entry, name) for entry in found)) / batch for name in ("macs", "processing", "cycles", "buffer", "fills", "dram")}
    energy = {level: float(sum(entry.energy[level] for entry in found)) / batch for level in COSTS}
    return {"macs": sums["macs"], "processing": sums["processing"], "cycles": sums["cycles"], "buffer_bytes": 2 * (sums["buffer"] + sums["fills"]),
            "dram_bytes": 2 * sums["dram"], **{f"energy_{level}": value for level, value in energy.items()},
            "energy_chip": sum(energy.values()) - energy["dram"], "energy": sum(energy.values()),
            "utilization": sums["macs"] / sums["processing"] / (ROWS * COLUMNS)}


@dataclass(frozen=True)
class Measured:
    """A layer in tables V and VI of [J]: mW; ms, all and with DRAM hidden; elements; zeros in ifmaps in percent; MB of 10**6 bytes, which is what the
    accesses per MAC and per pixel in VI-A and VI-B come from."""

    power: float
    cycles: float
    processing: float
    active: int
    zeros: float
    buffer: float
    dram: float


def _published(batch: int, rows: list[tuple]) -> tuple[int, list[tuple[Layer, Measured]]]:
    """``rows``: (name, channels, filters, input, output, kernel, stride, pad, groups), then the fields of :class:`Measured`."""
    layers = []
    for at, (shape, measured) in enumerate(rows):
        name, channels, filters, size, out, kernel, stride, pad, groups = shape
        after = rows[min(at + 1, len(rows) - 1)][1][4]
        layers.append((Layer(
            name=name, channels=channels, filters=filters, in_shape=(size, size), out_shape=(out, out), kernel=(kernel, kernel), stride=(stride, stride),
            pad=(pad, pad), groups=groups, zeros=measured[4] / 100, out_zeros=after / 100, first=at == 0), Measured(*measured)))
    return batch, layers


PUBLISHED = {
    "AlexNet": _published(4, [
        (("CONV1", 3, 96, 227, 55, 11, 4, 0, 1), (332, 20.9, 16.5, 154, 0.01, 18.5, 5.0)),
        (("CONV2", 48, 128, 27, 27, 5, 1, 2, 2), (288, 41.9, 39.2, 135, 38.7, 77.6, 4.0)),
        (("CONV3", 256, 384, 13, 13, 3, 1, 1, 1), (266, 23.6, 21.8, 156, 72.5, 50.2, 3.0)),
        (("CONV4", 192, 192, 13, 13, 3, 1, 1, 2), (235, 18.4, 16.0, 156, 79.3, 37.4, 2.1)),
        (("CONV5", 192, 128, 13, 13, 3, 1, 1, 2), (236, 10.5, 10.0, 156, 77.6, 24.9, 1.3))]),
    "VGG-16": _published(3, [
        (("CONV1-1", 3, 64, 224, 224, 3, 1, 1, 1), (247, 76.2, 38.0, 156, 1.6, 112.6, 15.4)),
        (("CONV1-2", 64, 64, 224, 224, 3, 1, 1, 1), (218, 910.3, 810.6, 156, 47.7, 2402.8, 54.0)),
        (("CONV2-1", 64, 128, 112, 112, 3, 1, 1, 1), (242, 470.3, 405.3, 156, 24.8, 1201.4, 33.4)),
        (("CONV2-2", 128, 128, 112, 112, 3, 1, 1, 1), (231, 894.3, 810.8, 156, 38.7, 2402.8, 48.5)),
        (("CONV3-1", 128, 256, 56, 56, 3, 1, 1, 1), (254, 241.1, 204.0, 156, 39.7, 607.4, 20.2)),
        (("CONV3-2", 256, 256, 56, 56, 3, 1, 1, 1), (235, 460.9, 408.1, 156, 58.1, 1214.8, 32.2)),
        (("CONV3-3", 256, 256, 56, 56, 3, 1, 1, 1), (233, 457.7, 408.1, 156, 58.7, 1214.8, 30.8)),
        (("CONV4-1", 256, 512, 28, 28, 3, 1, 1, 1), (278, 135.8, 105.1, 168, 64.3, 321.8, 17.8)),
        (("CONV4-2", 512, 512, 28, 28, 3, 1, 1, 1), (261, 254.8, 210.0, 168, 74.7, 643.7, 28.6)),
        (("CONV4-3", 512, 512, 28, 28, 3, 1, 1, 1), (240, 246.3, 210.0, 168, 85.4, 643.7, 22.8)),
        (("CONV5-1", 512, 512, 14, 14, 3, 1, 1, 1), (258, 54.3, 48.3, 168, 79.4, 90.0, 6.3)),
        (("CONV5-2", 512, 512, 14, 14, 3, 1, 1, 1), (236, 53.7, 48.5, 168, 87.4, 90.0, 5.7)),
        (("CONV5-3", 512, 512, 14, 14, 3, 1, 1, 1), (230, 53.7, 48.5, 168, 88.5, 90.0, 5.6))]),
}
"""(batch, layers). Read through an OCR of the tables (github.com/cucapra/fodlam, raw/) and from memory; single digits, where these differ, by the sums
in the tables' last lines, which :data:`TOTALS` holds and the tests check."""
TOTALS = {"AlexNet": Measured(278, 115.3, 103.5, 148, 57.53, 208.5, 15.4), "VGG-16": Measured(236, 4309.5, 3755.2, 158, 58.6, 11035.8, 321.1)}
TABLE_III = {name: Mapping(**dict(zip("mnepqrt", values))) for name, values in {
    "CONV1": (96, 1, 7, 16, 1, 1, 2), "CONV2": (64, 1, 27, 16, 2, 1, 1), "CONV3": (64, 4, 13, 16, 4, 1, 4), "CONV4": (64, 4, 13, 16, 3, 2, 2),
    "CONV5": (64, 4, 13, 16, 3, 2, 2)}.items()}
"""AlexNet's mappings as published. Table V contradicts that of CONV3: 50.2 MB are 43 passes over channels, six a pass (3 and 2), not 64."""
QUANTITIES = {"processing": "processing, ms", "cycles": "with DRAM, ms", "buffer": "buffer, MB", "dram": "DRAM, MB", "active": "elements"}


@dataclass(frozen=True)
class Check:
    """A layer, or all, of a network beside the chip: (ours, published) by :data:`QUANTITIES`; elements only of layers."""

    name: str
    mapping: Mapping | None
    values: dict[str, tuple[float, float]]

    def error(self, quantity: str) -> float:
        ours, published = self.values[quantity]
        return ours / published - 1


def validate(network: str, built: bool = True, mappings: Dictionary[str, Mapping] | None = None) -> list[Check]:
    """``network``, one of :data:`PUBLISHED`, by the model and by the chip, a row per layer, then the totals; ``mappings``: instead of the search."""
    batch, layers = PUBLISHED[network]
    ms, megabyte, rows = 1e3 / CLOCK, 2e-6, []
    for layer, chip in layers:
        mapping = mappings[layer.name] if mappings else search(layer, batch, built)
        found = counts(layer, batch, mapping)
        ours = {"processing": found.processing * ms, "cycles": found.cycles * ms, "buffer": found.buffer * megabyte, "dram": found.dram * megabyte,
                "active": found.active}
        rows.append(Check(layer.name, mapping, {name: (float(value), getattr(chip, name)) for name, value in ours.items()}))
    sums = {name: (sum(row.values[name][0] for row in rows), getattr(TOTALS[network], name)) for name in QUANTITIES if name != "active"}
    return [*rows, Check("total", None, sums)]


def picojoules(network: str, built: bool = True) -> float:
    """What a MAC of the relative scale is on the chip: its measured energy (mW times ms), which has no DRAM in it, by the model's."""
    batch, layers = PUBLISHED[network]
    chip = TOTALS[network].power * TOTALS[network].cycles * 1e6
    return chip / (batch * summary([layer for layer, _ in layers], batch, built)["energy_chip"])


def table(network: str, built: bool = True, mappings: Dictionary[str, Mapping] | None = None) -> str:
    """:func:`validate` as text: ours / published, error."""
    lines = [f"{'':8} {'m, n, e, p, q, r, t':26}" + "".join(f"{title:>27}" for title in QUANTITIES.values())]
    for row in validate(network, built, mappings):
        cells = "".join(f"{ours:>9,.1f} /{chip:>9,.1f} {ours / chip - 1:+6.1%}" for ours, chip in row.values.values())
        lines.append(f"{row.name:8} {', '.join(map(str, vars(row.mapping).values())) if row.mapping else '':26}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    for title, network, *options in (("published mappings", "AlexNet", True, TABLE_III), ("searched, as built", "AlexNet", True),
                                     ("searched, as built", "VGG-16", True), ("searched, at its best", "AlexNet", False),
                                     ("searched, at its best", "VGG-16", False)):
        print(f"{network}, {title}; ours / published, error\n{table(network, *options)}\n")
    print(f"a MAC of the relative scale on the chip: {', '.join(f'{name} {picojoules(name):.2f} pJ' for name in PUBLISHED)}")
