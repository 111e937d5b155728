"""Eyeriss, a baseline: row-stationary mapping, cycles, traffic and relative energy of 168 elements of 16 bit.

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
   mappings of table III, CONV3 aside (``golden.eyeriss_published``). Energy counts filling the buffer, and filters, too.
6. Groups of a convolution, so channels of a depthwise one, go one after another. Filters that are one block stay in the array, channels that are
   one block stay in the buffer.
7. Left out, all in Eyeriss' favour: setting up a layer (below 100 us, III-B), pooling, additions of residuals, leakage and clock.
8. ``built``: no more than ``BUILT_WORDS`` of ifmap rows in a pass, unless of a single channel. Nothing published says so, but VGG-16's measured
   buffer traffic means 1, 1, 2, 4, 8 channels a pass for rows of 226, 114, 58, 30, 16 words, and this one rule gives them. Without it the model is
   an Eyeriss at its best: equal on AlexNet, twice as fast as the chip on VGG-16.
"""

import math
from collections.abc import Mapping as Dictionary
from dataclasses import replace
from functools import lru_cache

import numpy as np

from golden.eyeriss_mapping import BANK_WORDS, BANKS, COLUMNS, IFMAP_WORDS, PSUM_WORDS, ROWS, EyerissError, Layer, Mapping, ceil, fits, sets
from golden.eyeriss_traffic import COSTS, counts


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
