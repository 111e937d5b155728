"""Energy of the rivals that are not in the shell, OLAccel and Eyeriss: the same published constants as for :mod:`compare.energy`, bits moved by a model.

OLAccel, our assumptions [A], generous where nothing is known:

1. Products that are not skipped take an element each, of 4 x 4 bits in normal groups (the MAC for a chunk's only outlier weight included, the second cycle of
   chunks with several as well), of 16 x 4 in outlier groups. Lanes without an output channel take none.
2. Memories are those of SDP's machine, in size and in energy per bit. What a group holds between two cycles are operand registers, which cost nothing here,
   as for all methods.
3. A tensor lies there as nibbles with a sparse list of outliers (16 bits [S] and an address), or as ordinary codes of 8 bits if these take less. A group reads
   a place once per tap and block of 16 output channels, channels filled up to chunks of 16; outliers lie at random places.
4. Weight chunks have 80 bits [S], those for the MSBs of several outliers as well. The normal groups of a cluster share the read of a chunk, whatever zeros
   they skip (the shell's machines share it among 8 pixels); outlier groups read a chunk for every outlier activation. A first layer reads all twice.
5. What is more than SDP's weight memory holds comes from DRAM for every image, and no bit else; the first input and the last output pass, commands do not.
6. Depthwise layers and pooling: the shell's channel unit, 8-bit elements, 8 bits a weight.

Eyeriss: accesses by :mod:`golden.eyeriss_traffic` with zeros as the float network has them, batch 4, in MACs of its own relative scale: register file 1,
neighbour 2, buffer 6 [S]; such a MAC is the published element of 16 bits [A]. DRAM costs per bit what it costs all others (200 MACs a word [S] would be a
fifth less). Its register files and its wires from element to element count, those of no other machine do: so they are told apart.
"""

from collections.abc import Mapping

import numpy as np

from compare.layer import uses
from compiler.network import Network
from golden import eyeriss, olaccel, olaccel_cycles
from golden.eyeriss_traffic import COSTS, counts
from golden.mac_array import convolve
from sdp.config import Config
from sdp.program import Kind
from synth.energy import PARTS, Bounded, Constants, memories

GROUPS = olaccel_cycles.Array().groups
OUTLIER_BITS = 16
BATCH = 4
"""Images of a batch on Eyeriss, as published for AlexNet."""
WORD = 16
"""Bits of a word of Eyeriss."""


def summed(parts: Mapping[str, Bounded], loads: Bounded, source: str) -> dict:
    """pJ by part as :func:`compare.energy.inference` gives a basis, in uJ; ``loads``: what of it is there because weights come again for every image."""
    whole = sum(parts.values(), Bounded())
    return {"array_source": source, "total": {name: value / 1e6 for name, value in vars(whole).items()}, "resident": (whole.value - loads.value) / 1e6,
            **{part: parts.get(part, Bounded()).value / 1e6 for part in PARTS}}


def padded(channels: int) -> int:
    """Channels of whole chunks."""
    return -(-channels // olaccel.LANES) * olaccel.LANES


def chunk_products(weights: np.ndarray) -> np.ndarray:
    """Weights (..., output channels) to the products that an activation takes with each chunk, (..., chunks)."""
    outliers = np.count_nonzero(olaccel.split_weights(olaccel.lanes(weights))[0], axis=-1)
    channels = np.count_nonzero(olaccel.lanes(np.ones(weights.shape[-1], dtype=np.int16)), axis=-1)
    return np.where(outliers > 1, 2, 1) * channels + (outliers == 1)


def operands(layer, codes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """(Which codes normal groups multiply in each of a layer's passes, which ones outlier groups do), bool, of codes (n, h, w, c)."""
    if not layer.mode[0]:
        return [nibbles != 0 for nibbles in olaccel.split_precise(codes)], np.zeros(codes.shape, dtype=bool)
    normal, outliers = olaccel.split_activations(codes, layer.in_signed)
    return [normal != 0], outliers != 0


def of_olaccel(arithmetic, network, images: np.ndarray, config: Config) -> dict:
    """{"published": as :func:`summed`} of an inference, mean over ``images``; ``config``: SDP's machine."""
    constants, tensors, words = Constants("published"), arithmetic.run(network, images), memories(config)
    signed = {layer.input: layer.in_signed for layer in network.layers} | {layer.name: layer.out_signed for layer in network.layers}
    place = {name: min(8.0, olaccel.activation_bits(codes, OUTLIER_BITS, signed[name]) / codes.size) for name, codes in tensors.items() if name in signed}
    bits, array, stored = dict.fromkeys(("read", "write", "chunks", "scales"), 0.0), Bounded(), 0
    for layer in network.layers:
        taps, kernel, outputs = int(uses(layer).sum()), layer.kernel[0] * layer.kernel[1], int(np.prod(layer.out_shape))
        bits["write"] += outputs * place[layer.name]
        bits["read"] += outputs * place[layer.residual] if layer.residual else 0
        bits["scales"] += outputs * config.scale_word_bits / config.outputs
        if layer.kind is not Kind.CONV:
            channels = padded(layer.out_shape[2])
            bits["read"] += taps * channels * place[layer.input]
            bits["chunks"] += taps * channels * 8 if layer.weights is not None else 0
            stored += kernel * channels * 8 if layer.weights is not None else 0
            array += constants.element(8) * (layer.out_shape[0] * layer.out_shape[1] * kernel * channels)
            continue
        where = layer.stride, layer.pad, layer.out_shape[:2]
        passes, outliers = operands(layer, tensors[layer.input])
        products, size = chunk_products(layer.weights), olaccel.weight_bits(layer.weights)
        array += constants.element(4) * sum(float(convolve(taken, products, *where).sum()) / len(images) for taken in passes)
        array += constants.element("16x4") * (float(convolve(outliers, products, *where).sum()) / len(images))
        listed = convolve(outliers, olaccel.chunk_cycles(layer.weights), *where).sum() / len(images)
        bits["read"] += padded(layer.in_shape[2]) * -(-layer.out_shape[2] // olaccel.LANES) * taps * place[layer.input]
        bits["chunks"] += len(passes) * size * taps / kernel / GROUPS + float(listed) * olaccel.CHUNK_BITS
        stored += size
    first, last = network.layers[0], network.layers[-1]
    entering = first.in_shape[0] * first.in_shape[1] * padded(first.in_shape[2]) * place[first.input]
    leaving = float(np.prod(last.out_shape)) * place[last.name]
    again = max(0.0, stored - config.weight_words * config.weight_bits)
    loads = (constants.dram() + constants.sram(words["weights"], "write")) * again

    def memory(name: str, read: float, written: float = 0.0) -> Bounded:
        return constants.sram(words[name], "read") * read + constants.sram(words[name], "write") * written

    parts = {"array": array, "activations": memory("activations", bits["read"] + leaving, bits["write"] + entering),
             "weights": memory("weights", bits["chunks"], again), "scales": memory("scales", bits["scales"]),
             "dram": constants.dram() * (entering + leaving + again)}
    return {"published": summed(parts, loads, "published 4-bit and 16 x 4-bit elements")}


def of_eyeriss(layers: list[eyeriss.Layer], batch: int = BATCH) -> dict:
    """{"published": as :func:`summed`, and ``registers``: uJ of register files and of wires from element to element} of an image."""
    constants, found = Constants("published"), [counts(layer, batch, eyeriss.search(layer, batch, True)) for layer in layers]
    mac, word = constants.element("eyeriss"), constants.dram() * WORD

    def image(name: str) -> float:
        return float(sum(getattr(entry, name) for entry in found)) / batch

    levels = {level: mac * (float(sum(entry.energy[level] for entry in found)) / batch) for level in COSTS if level != "dram"}
    filters = image("dram_filters")
    # Fills hold filters both ways: into the buffer and from there to the array.
    held = mac * (COSTS["buffer"] * filters)
    parts = {"array": levels["mac"] + levels["rf"] + levels["array"], "weights": held * 2,
             "activations": mac * (COSTS["buffer"] * (image("buffer") + image("fills") - 2 * filters)), "dram": word * image("dram")}
    made = summed(parts, held + word * filters, "published 16-bit element per MAC of Eyeriss' relative scale")
    return {"published": made | {"registers": (levels["rf"] + levels["array"]).value / 1e6}}


def with_zeros(network: Network, images: np.ndarray) -> list[eyeriss.Layer]:
    """The float network for Eyeriss, with the zeros that its tensors have on ``images`` (n, h, w, c)."""
    return eyeriss.of_network(network, {name: float(np.mean(values == 0)) for name, values in network.run(images).items()})
