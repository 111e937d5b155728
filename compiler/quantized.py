"""The integer network: what the hardware computes, layer by layer, and its executor in NumPy.

The executor knows layers and tensors where the golden machine knows words and addresses; both take their arithmetic from ``golden``.
"""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from compiler.network import Shape
from golden import channel_unit, mac_array, output_stage, term_select
from golden.parallel import over_images
from sdp.program import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedLayer:
    """One layer in integers; ``output = clamp(round(((acc + bias) * multiplier + residual * residual_multiplier) / 2**shift))``.

    Attributes
    ----------
    input, residual : names of the tensors that it reads; ``residual`` may be none
    in_shape, out_shape : (height, width, channels)
    pad : (top, left); bottom and right follow from ``out_shape``
    weights : int16 (kernel_h, kernel_w, in channels, out channels), depthwise (kernel_h, kernel_w, channels), none for pooling
    w4 : one digit per weight instead of two
    budget : terms kept per group; without meaning where nothing is summed over channels
    bias, multiplier : int64 (out channels,)
    ties_even : rounding of ties to even instead of away from zero
    in_signed, residual_signed : codes are -127 ... 127 instead of 0 ... 255
    clamp : lowest and highest output code; the output is signed if the lowest is negative
    in_scale, out_scale : real value of one step of the codes
    weight_scale : float (out channels,)
    """

    name: str
    kind: Kind
    input: str
    residual: str | None = None
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    weights: np.ndarray | None = None
    w4: bool = False
    budget: int = 1
    bias: np.ndarray
    multiplier: np.ndarray
    shift: int
    ties_even: bool = False
    residual_multiplier: int = 0
    in_signed: bool
    residual_signed: bool = False
    clamp: tuple[int, int]
    in_scale: float
    out_scale: float
    weight_scale: np.ndarray | None = None

    @property
    def out_signed(self) -> bool:
        return self.clamp[0] < 0

    @property
    def macs(self) -> int:
        """Multiplications of one image; 0 for pooling."""
        return self.out_shape[0] * self.out_shape[1] * self.weights.size if self.weights is not None else 0


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How the host lays out a shallow image: each pixel becomes the window of ``kernel`` around it, tap-major, channel-minor.

    The first convolution is then one of 1x1 over ``kernel_h * kernel_w * channels`` channels, which fill the lanes.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    out: tuple[int, int]

    def apply(self, codes: np.ndarray) -> np.ndarray:
        """(n, h, w, c) to (n, out_h, out_w, kernel_h * kernel_w * c)."""
        view = mac_array.windows(codes, self.kernel, self.stride, self.pad, self.out).transpose(3, 4, 5, 0, 1, 2)
        return np.moveaxis(np.ascontiguousarray(view).reshape(-1, len(codes), *self.out), 0, -1)


@dataclass(frozen=True, kw_only=True)
class QuantizedNetwork:
    """``input_shape`` is the host's; ``packing``, if any, comes between it and the tensor ``input`` in memory.

    ``input_limits``: lowest and highest code of the input.
    """

    name: str
    input: str
    input_shape: Shape
    input_scale: float
    input_signed: bool
    packing: Packing | None
    layers: tuple[QuantizedLayer, ...]
    input_limits: tuple[int, int] | None = None

    @property
    def memory_shape(self) -> Shape:
        """Shape of the input in activation memory."""
        if self.packing is None:
            return self.input_shape
        return *self.packing.out, self.packing.kernel[0] * self.packing.kernel[1] * self.input_shape[2]

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Images (n, h, w, c) in real values to codes, int16."""
        low, high = self.input_limits or ((-127, 127) if self.input_signed else (0, 255))
        return np.clip(np.rint(np.asarray(images) / self.input_scale), low, high).astype(np.int16)

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """Codes (n, h, w, c) as they lie in activation memory."""
        return self.packing.apply(codes) if self.packing else codes

    def decode(self, codes: np.ndarray, name: str | None = None) -> np.ndarray:
        """Codes of a layer's output (the last one's by default) to real values."""
        layer = self.layers[-1] if name is None else next(layer for layer in self.layers if layer.name == name)
        return codes * layer.out_scale

    def replace(self, layer: QuantizedLayer) -> "QuantizedNetwork":
        """The network with the layer of this name exchanged."""
        return dataclasses.replace(self, layers=tuple(layer if old.name == layer.name else old for old in self.layers))


def _joined(function: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    parts = over_images(function, count)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def select(codes: np.ndarray, budget: int, group: int) -> np.ndarray:
    """Masked codes, channels padded with zeros to whole groups for the selection and cut again."""
    channels = codes.shape[-1]
    if channels % group:
        padded = np.zeros_like(codes, shape=(*codes.shape[:-1], channels + -channels % group))
        padded[..., :channels] = codes
        codes = padded
    return _joined(lambda at: term_select.select(codes[at], budget, group)[0][..., :channels], len(codes))


def sums(layer: QuantizedLayer, codes: np.ndarray, dtype=np.int64) -> np.ndarray:
    """The exact accumulators of a layer for codes (n, h, w, c) that are masked already, (n, out_h, out_w, out channels).

    ``dtype``: none leaves convolutions in floating point, where they are computed, integers all the same.
    """
    out = layer.out_shape[:2]
    if layer.kind is Kind.CONV:
        return _joined(lambda at: mac_array.convolve(codes[at], layer.weights, layer.stride, layer.pad, out, dtype), len(codes))
    if layer.kind is Kind.DEPTHWISE:
        return _joined(lambda at: channel_unit.depthwise(codes[at], layer.weights, layer.stride, layer.pad, out), len(codes))
    return _joined(lambda at: channel_unit.pool(codes[at], layer.kind is Kind.MAX, layer.kernel, layer.stride, layer.pad, out), len(codes))


def accumulate(layer: QuantizedLayer, codes: np.ndarray, group: int) -> np.ndarray:
    """:func:`sums` of a layer's input codes (n, h, w, c)."""
    return sums(layer, select(codes, layer.budget, group) if layer.kind is Kind.CONV else codes)


def finish(layer: QuantizedLayer, accumulators: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Output codes, int16, from accumulators and, if the layer has one, the residual among ``tensors``."""
    residual = tensors[layer.residual] if layer.residual is not None else np.zeros((len(accumulators), 0))
    return _joined(lambda at: output_stage.requantize(
        accumulators[at], layer.bias, layer.multiplier, layer.shift, *layer.clamp, residual[at] if residual.size else 0,
        layer.residual_multiplier, layer.ties_even), len(accumulators))


def run(network: QuantizedNetwork, codes: np.ndarray, group: int, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Output codes of every layer, int16 (n, h, w, c), for input codes (n, h, w, c) as :meth:`QuantizedNetwork.encode` makes them.

    ``only``: names of the layers whose codes are wanted; what no later layer reads is dropped then, so that little memory is needed.
    """
    parts = over_images(lambda at: _run(network, codes[at], group, only), len(codes))
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run(network, codes, group, only):
    """:func:`run` for few images."""
    wanted = {layer.name for layer in network.layers} if only is None else set(only)
    last = {name: at for at, layer in enumerate(network.layers) for name in (layer.input, layer.residual) if name is not None}
    tensors, masked = {network.input: network.pack(codes)}, {}
    for at, layer in enumerate(network.layers):
        source, key = tensors[layer.input], (layer.input, layer.budget)
        if layer.kind is Kind.CONV:
            # Readers with one budget share what the selection leaves.
            if key not in masked:
                masked[key] = select(source, layer.budget, group)
            source = masked[key]
        tensors[layer.name] = finish(layer, sums(layer, source, None), tensors)
        for name in {layer.input, layer.residual} - {None}:
            if last[name] == at:
                masked = {key: value for key, value in masked.items() if key[0] != name}
                if name not in wanted:
                    del tensors[name]
    return {layer.name: tensors[layer.name] for layer in network.layers if layer.name in wanted}


BATCH = 64
"""Images at once in :func:`logits`."""


def logits(network: QuantizedNetwork, images: np.ndarray, group: int, progress: Callable[[int], None] | None = None) -> np.ndarray:
    """The last layer's real values (n, outputs) for images (n, h, w, c), in batches, so that memory stays bounded."""
    found, last = [], network.layers[-1].name
    for begin in range(0, len(images), BATCH):
        codes = run(network, network.encode(images[begin : begin + BATCH]), group, {last})[last]
        found.append(network.decode(codes).reshape(len(codes), -1))
        if progress:
            progress(len(codes))
    return np.concatenate(found)
