"""The integer network: what the hardware computes, layer by layer, and its executor in NumPy.

The executor knows layers and tensors where the golden machine knows words and addresses; both take their arithmetic from ``golden``.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.network import Shape
from golden import channel_unit, mac_array, output_stage, term_select
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
        view = mac_array.windows(codes, self.kernel, self.stride, self.pad, self.out)
        return np.ascontiguousarray(view).reshape(len(codes), *self.out, -1)


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


def select(codes: np.ndarray, budget: int, group: int) -> np.ndarray:
    """Masked codes, channels padded with zeros to whole groups for the selection and cut again."""
    channels = codes.shape[-1]
    padded = np.pad(codes, ((0, 0),) * 3 + ((0, -channels % group),))
    return term_select.select(padded, budget, group)[0][..., :channels]


def sums(layer: QuantizedLayer, codes: np.ndarray) -> np.ndarray:
    """The exact accumulators of a layer for codes (n, h, w, c) that are masked already, int64 (n, out_h, out_w, out channels)."""
    out = layer.out_shape[:2]
    if layer.kind is Kind.CONV:
        return mac_array.convolve(codes, layer.weights, layer.stride, layer.pad, out)
    if layer.kind is Kind.DEPTHWISE:
        return channel_unit.depthwise(codes, layer.weights, layer.stride, layer.pad, out)
    return channel_unit.pool(codes, layer.kind is Kind.MAX, layer.kernel, layer.stride, layer.pad, out)


def accumulate(layer: QuantizedLayer, codes: np.ndarray, group: int) -> np.ndarray:
    """:func:`sums` of a layer's input codes (n, h, w, c)."""
    return sums(layer, select(codes, layer.budget, group) if layer.kind is Kind.CONV else codes)


def finish(layer: QuantizedLayer, accumulators: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Output codes, int16, from accumulators and, if the layer has one, the residual among ``tensors``."""
    residual = tensors[layer.residual] if layer.residual is not None else 0
    return output_stage.requantize(accumulators, layer.bias, layer.multiplier, layer.shift, *layer.clamp,
                                   residual, layer.residual_multiplier, layer.ties_even)


def run(network: QuantizedNetwork, codes: np.ndarray, group: int) -> dict[str, np.ndarray]:
    """Output codes of every layer, int16 (n, h, w, c), for input codes (n, h, w, c) as :meth:`QuantizedNetwork.encode` makes them."""
    tensors, masked = {network.input: network.pack(codes)}, {}
    for layer in network.layers:
        source, key = tensors[layer.input], (layer.input, layer.budget)
        if layer.kind is Kind.CONV:
            # Readers with one budget share what the selection leaves.
            if key not in masked:
                masked[key] = select(source, layer.budget, group)
            source = masked[key]
        tensors[layer.name] = finish(layer, sums(layer, source), tensors)
    return {layer.name: tensors[layer.name] for layer in network.layers}


BATCH = 16
"""Images at once in :func:`logits`."""


def logits(network: QuantizedNetwork, images: np.ndarray, group: int, progress: Callable[[int], None] | None = None) -> np.ndarray:
    """The last layer's real values (n, outputs) for images (n, h, w, c), in batches, so that memory stays bounded."""
    found = []
    for begin in range(0, len(images), BATCH):
        codes = run(network, network.encode(images[begin : begin + BATCH]), group)[network.layers[-1].name]
        found.append(network.decode(codes).reshape(len(codes), -1))
        if progress:
            progress(len(codes))
    return np.concatenate(found)
