"""DRQ (Song et al., ISCA 2020): what its array computes, and in how many cycles, exactly.

[S] Sensitive regions of the input compute 8 x 8 bits, the others 4 x 4 bits with the top nibbles of codes and weights. An element has one 4-bit
multiplier: four cycles or one. Weights stay, partial sums move down, neighbours wait for a slow element.
[A] Weights are two signed digits, ``16 * high + low`` with -8 ... 7 each, so that the top nibble is a rounded one. Codes are broadcast along a
row. A row of elements is a stage of an elastic pipeline; all rows that can move do so at once, however many wait in line.

With ``leave(p, r)``, the last cycle of pixel ``p`` in row ``r`` of elements, and ``work`` its cycles there, 1 or 4::

    leave(p, r) = max(leave(p, r - 1) + work(p, r), leave(p - 1, r + 1))
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from golden import cycles
from golden.mac_array import convolve, windows
from golden.term_select import split
from sdp.config import Config
from sdp.program import Layer

SLOW = 4
"""cycles of an 8 x 8 bit product in a 4-bit multiplier"""
READ_STAGES = 2
"""from the issue of a read to its words at the unit: address register, memory"""
QUEUE_STAGES = 1
"""from there to the cycle at whose end a pixel may enter row 0, if its weights are there"""
QUEUE = READ_STAGES + QUEUE_STAGES + 1
"""words that the unit's queue holds: as many as are read from one that leaves it to the one that is read in its place, so that no cycle is lost"""


def split_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights as digits (high, low), -8 ... 7 each, int16; two digits reach -136 ... 119, of which 8-bit weights are -128 and more."""
    if weights.size and not (-136 <= weights.min() and weights.max() <= 119):
        raise ValueError(f"weights reach from {weights.min()} to {weights.max()}, DRQ's two digits allow -136 ... 119")
    weights = weights.astype(np.int16)
    high = weights + 8 >> 4
    return high, weights - (high << 4)


def accumulate(image: np.ndarray, masks: np.ndarray, weights: np.ndarray, stride, pad, out) -> np.ndarray:
    """The sums of a layer, int64 (n, out_h, out_w, channels).

    Parameters
    ----------
    image : (n, h, w, c) code values
    masks : bool, of that shape: sensitive
    weights : integers -136 ... 119, (kernel_h, kernel_w, c, channels)
    stride, pad, out : see :func:`golden.mac_array.convolve`
    """
    image = image.astype(np.int16)
    nibbles, digits = np.sign(image) * split(image)[0], split_weights(weights)[0]
    return convolve(np.where(masks, image, 0), weights, stride, pad, out) + 256 * convolve(np.where(masks, 0, nibbles), digits, stride, pad, out)


class Array:
    """The array's state in time, one for each of ``images``: feed it steps, it says when tiles are captured.

    Cycle 0 is the issue of the first read. ``held`` counts cycles of rows that held a pixel, working or waiting.

    Parameters
    ----------
    depth : rows of elements
    images : arrays that run the same layer on other data
    """

    def __init__(self, depth: int, images: int):
        # leave[r + 1] of the pixel before; leave[0]: when it entered. The last entry: when the accumulators take pixels of this tile.
        self.leave = np.zeros((depth + 2, images), dtype=np.int64)
        self.leave[1] = READ_STAGES + QUEUE_STAGES
        self.scratch = np.empty((depth + 1, images), dtype=np.int64)
        self.gone = [np.zeros(images, dtype=np.int64), np.zeros(images, dtype=np.int64)]
        self.held = np.zeros(images, dtype=np.int64)
        self.captured: list[np.ndarray] = []

    def step(self, work: np.ndarray, last: bool, drain: int, arrivals: Iterable[int] | None = None) -> None:
        """The pixels of one step of the reduction.

        Parameters
        ----------
        work : (pixels, depth + 1, images): cycles that rows 0 ... r - 1 work on a pixel, added up; the first is 0
        last : the step ends its tile
        drain : cycles from a tile's capture to the next one's, at least
        arrivals : cycle in which each pixel's word is there; none: a source that reads whenever it may, which never holds up the array
        """
        leave, scratch = self.leave, self.scratch
        # Two steps share a register of weights: the one before the previous one must have left.
        np.maximum(leave[1], self.gone[0], out=leave[1])
        for pixel, arrival in zip(work, arrivals if arrivals is not None else [None] * len(work), strict=True):
            if arrival is not None:
                np.maximum(leave[1], arrival + QUEUE_STAGES, out=leave[1])
            np.subtract(leave[1:], pixel, out=scratch)
            np.maximum.accumulate(scratch, out=scratch)
            np.add(scratch, pixel, out=leave[:-1])
            self.held += leave[-2]
            self.held -= leave[0]
        self.gone = [self.gone[1], leave[-2].copy()]
        if last:
            captured = leave[-2] + 1
            if self.captured:
                np.maximum(captured, self.captured[-1] + drain, out=captured)
            # Two banks: while a tile waits for the drain to take it, the next one's sums cannot be written.
            self.captured.append(captured)
            leave[-1] = captured


@dataclass(frozen=True)
class DrqCycles:
    """What a layer costs, int64 (images,).

    ``total`` is what the hardware counts from the cycle after its start to its last write; ``terms`` are cycles in which a row of elements
    multiplies, ``empty`` those in which it only waits for its neighbours.
    """

    total: np.ndarray
    terms: np.ndarray
    empty: np.ndarray


def layer_cycles(config: Config, layer: Layer, masks: np.ndarray | None) -> DrqCycles:
    """The exact cycles of ``layer``.

    Parameters
    ----------
    masks : bool (n, in_h, in_w, channels): sensitive; none: all are, in which case all images take the same cycles and one stands for them

    A pixel outside of the image, in the padding or past the last one of the last tile, and a channel past ``in_tail`` take one cycle.
    """
    array, terms = None, 0
    drain = cycles.drain(config, layer.kind, layer.w4)
    for work, last in steps(config, layer, masks):
        if array is None:
            array = Array(config.word, work.shape[2])
        array.step(work, last, drain)
        terms = terms + work[:, -1].sum(axis=0)
    total = cycles.START_STAGES + config.rows // config.ports + array.captured[-1] + drain + cycles.OUTPUT_STAGES
    return DrqCycles(total=total, terms=terms, empty=array.held - terms)


def steps(config: Config, layer: Layer, masks: np.ndarray | None) -> Iterator[tuple[np.ndarray, bool]]:
    """The steps of a layer in the controller's order, as :meth:`Array.step` takes them: (work, last)."""
    table = _work(config, layer, masks)
    rows, (height, width) = config.rows, (layer.out_h, layer.out_w)
    pixel = np.arange(-(-height * width // rows) * rows).reshape(-1, rows)
    y, x = np.divmod(pixel, width)
    y, x = y * layer.stride_h - layer.pad_top, x * layer.stride_w - layer.pad_left
    taps = list(np.ndindex(layer.kernel_h, layer.kernel_w))
    for _ in range(-(-layer.out_channels // config.block(layer.w4))):
        for tile in range(len(pixel)):
            for tap, (ky, kx) in enumerate(taps):
                in_y, in_x = y[tile] + ky, x[tile] + kx
                inside = (pixel[tile] < height * width) & (in_y >= 0) & (in_y < layer.in_h) & (in_x >= 0) & (in_x < layer.in_w)
                at = np.where(inside, in_y * layer.in_w + in_x, layer.in_h * layer.in_w)
                for word in range(layer.in_words):
                    yield table[word, at].astype(np.int64), word == layer.in_words - 1 and tap == len(taps) - 1


def _work(config: Config, layer: Layer, masks: np.ndarray | None) -> np.ndarray:
    """Cycles that rows 0 ... r - 1 work on a word, (in_words, in_h * in_w + 1, word + 1, n); the last pixel is one outside of the image."""
    pixels, channels = layer.in_h * layer.in_w, (layer.in_words - 1) * config.word + layer.in_tail
    masks = np.ones((1, pixels, channels), dtype=bool) if masks is None else masks.reshape(len(masks), pixels, -1)[:, :, :channels]
    work = np.zeros((layer.in_words, pixels + 1, config.word + 1, len(masks)), dtype=np.int16)
    work[:, :, 1:] = 1
    for word in range(layer.in_words):
        part = masks[:, :, word * config.word : (word + 1) * config.word]
        work[word, :pixels, 1 : part.shape[2] + 1] += (SLOW - 1) * part.transpose(1, 2, 0).astype(np.int16)
    return work.cumsum(axis=2, dtype=np.int16, out=work)


def ideal_cycles(config: Config, layer: Layer, masks: np.ndarray | None) -> np.ndarray:
    """DRQ as it could be at best, float64 (n,): ``1 + 3 f`` cycles per product, ``f`` the sensitive share, all elements always busy.

    Products with the padding are free [A].
    """
    channels = (layer.in_words - 1) * config.word + layer.in_tail
    if masks is None:
        masks = np.ones((1, layer.in_h, layer.in_w, channels), dtype=bool)
    cost = (1 + (SLOW - 1) * masks[..., :channels].astype(np.int64)).sum(axis=3, keepdims=True)
    taps = windows(cost, (layer.kernel_h, layer.kernel_w), (layer.stride_h, layer.stride_w), (layer.pad_top, layer.pad_left), (layer.out_h, layer.out_w))
    return taps.sum(axis=(1, 2, 3, 4, 5)) * layer.out_channels / config.nibble_multipliers
