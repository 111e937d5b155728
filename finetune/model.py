"""The integer network as a PyTorch module: it computes the machine's codes, and everything that the compiler chooses can learn.

Tensors between layers are codes, whole numbers (n, channels, h, w). Every parameter is a distance from the network that it started from, in
units in which one learning rate suits all of them, so that zeros are the starting point:

* ``weight``: of the weights before rounding, in units of a layer's root mean square;
* ``bias``: in :data:`BIAS` steps of the output's codes;
* ``step``: logarithm of a channel's weight scale;
* ``scale``: logarithm of a tensor's scale. The network's input keeps its own, and a maximum has that of its input.

Scales lie on the grid of the multipliers at all times: what is trained is what runs.
"""

import dataclasses

import numpy as np
import torch

from compiler.quantize import fit_shift
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from finetune import ste
from finetune.arithmetic import Terms, sums
from sdp.config import Config
from sdp.program import Kind

BIAS = 16.0


class Layer(torch.nn.Module):
    """One layer; ``start``: where it begins."""

    def __init__(self, start: QuantizedLayer):
        super().__init__()
        self.start = start
        if start.weights is None:
            return
        codes = start.weights[:, :, None] if start.kind is Kind.DEPTHWISE else start.weights
        codes = torch.from_numpy(codes.transpose(3, 2, 0, 1).astype(np.float32).copy())
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("unit", codes.square().mean().sqrt().clamp(min=1), persistent=False)
        self.weight = torch.nn.Parameter(torch.zeros_like(codes))
        self.bias = torch.nn.Parameter(torch.zeros(len(codes)))
        self.step = torch.nn.Parameter(torch.zeros(len(codes)))


@dataclasses.dataclass(frozen=True, eq=False)
class Integers:
    """What a layer runs with, whole numbers in double precision; as in :class:`QuantizedLayer`."""

    bias: torch.Tensor
    multiplier: torch.Tensor
    residual_multiplier: torch.Tensor
    shift: int
    weights: torch.Tensor | None = None


class Model(torch.nn.Module):
    """``start``: as :func:`compiler.onnx_export.standard` leaves it; ``arithmetic``: SDP's, if none."""

    def __init__(self, start: QuantizedNetwork, config: Config, arithmetic: Terms | None = None):
        super().__init__()
        self.start, self.config, self.arithmetic = start, config, arithmetic or Terms(config)
        self.layers = torch.nn.ModuleList(Layer(layer) for layer in start.layers)
        # Tensors that share a scale share its place.
        self.place = {start.input: 0}
        for layer in start.layers:
            self.place[layer.name] = self.place[layer.input] if layer.kind is Kind.MAX else max(self.place.values()) + 1
        begin = {0: start.input_scale} | {self.place[layer.name]: layer.out_scale for layer in start.layers}
        self.register_buffer("begin", torch.tensor([begin[at] for at in range(len(begin))], dtype=torch.float32), persistent=False)
        self.scale = torch.nn.Parameter(torch.zeros(len(begin)))

    def groups(self, slow: float) -> list[tuple[list[torch.nn.Parameter], float]]:
        """Parameters with the share of the learning rate that is theirs: ``slow`` for scales, since one moves everything behind it."""
        slowly = [parameter for name, parameter in self.named_parameters() if name == "scale" or name.endswith(".step")]
        others = [parameter for parameter in self.parameters() if all(parameter is not one for one in slowly)]
        return [(others, 1.0), (slowly, slow)]

    def scales(self) -> torch.Tensor:
        """Of all tensors by their place, float32."""
        learns = torch.ones_like(self.scale)
        learns[0] = 0
        return self.begin.float() * torch.exp(self.scale.float() * learns.float())

    def integers(self, layer: Layer, scales: torch.Tensor) -> Integers:
        """Codes, bias, multipliers and shift of a layer."""
        start, bits = layer.start, self.config.scale_bits
        into, out = scales[self.place[start.input]], scales[self.place[start.name]]
        # Ratios of scales in single precision, as compiler.quantize has them for networks that come quantised.
        residual = (scales[self.place[start.residual]] / out if start.residual is not None else torch.zeros(())).double()
        if start.weights is None:
            ratio = (into / (out * (1 if start.kind is Kind.MAX else start.kernel[0] * start.kernel[1]))).double().expand(start.out_shape[2])
            bias = torch.zeros(start.out_shape[2], dtype=torch.float64)
        else:
            stretch = torch.exp(layer.step.double())
            ratio = torch.from_numpy(start.weight_scale) * stretch * into.double() / out.double()
        shift = fit_shift(torch.cat([ratio, residual[None]]).detach().numpy(), bits)
        # The largest multiplier stays below the limit, so that its scale in float32 leads to the same shift.
        multiplier = ste.rounded(ratio * 2.0**shift).clamp(1, (1 << bits) - 2)
        residual_multiplier = ste.rounded(residual * 2.0**shift)
        if start.weights is None:
            return Integers(bias, multiplier, residual_multiplier, shift)
        begin = torch.from_numpy(start.bias * start.in_scale * start.weight_scale)
        bias = ste.rounded(begin / (into.double() * torch.from_numpy(start.weight_scale) * stretch) + BIAS * layer.bias.double() * 2.0**shift / multiplier)
        latent = (layer.codes + layer.unit * layer.weight) / stretch.to(layer.weight.dtype)[:, None, None, None]
        return Integers(bias, multiplier, residual_multiplier, shift, ste.nearest(latent, self.arithmetic.letters(start)))

    def forward(self, codes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Codes of every tensor, (n, channels, h, w), for input codes as they lie in activation memory."""
        scales, tensors, masked = self.scales(), {self.start.input: codes}, {}
        for layer in self.layers:
            start, source = layer.start, tensors[layer.start.input]
            if start.kind is Kind.CONV:
                key = self.arithmetic.shared(start)
                if key not in masked:
                    masked[key] = self.arithmetic.operands(start, source)
                source = masked[key]
            integers = self.integers(layer, scales)
            summed = self.arithmetic.sums if start.kind is Kind.CONV else sums
            found = summed(start, source, integers.weights)
            bias, factor, ratio = (number.to(codes.dtype) for number in (integers.bias, integers.multiplier / 2.0**integers.shift,
                                                                         integers.residual_multiplier / 2.0**integers.shift))
            residual = tensors[start.residual] if start.residual is not None else None
            tensors[start.name] = ste.requantized(found, bias, factor, residual, ratio, *start.clamp,
                                                  start.ties_even)
        return tensors

    def encode(self, images: np.ndarray) -> torch.Tensor:
        """Images (n, h, w, c) in real values to input codes, float32 (n, channels, h, w)."""
        codes = self.start.pack(self.start.encode(images))
        return torch.from_numpy(np.ascontiguousarray(codes)).float().permute(0, 3, 1, 2)

    def logits(self, images: np.ndarray) -> torch.Tensor:
        """Real values (n, outputs) of the last layer."""
        name = self.start.layers[-1].name
        return self(self.encode(images))[name].flatten(1) * self.scales()[self.place[name]]

    @torch.no_grad()
    def quantized(self) -> QuantizedNetwork:
        """The integer network that the module is."""
        scales, layers = self.scales(), []
        for layer in self.layers:
            start, integers = layer.start, self.integers(layer, scales)
            into, out = (float(scales[self.place[name]]) for name in (start.input, start.name))
            multiplier = integers.multiplier.numpy().astype(np.int64)
            made = dataclasses.replace(start, in_scale=into, out_scale=out, multiplier=multiplier, shift=integers.shift,
                                       residual_multiplier=int(integers.residual_multiplier), bias=integers.bias.numpy().astype(np.int64))
            if start.weights is not None:
                weights = integers.weights.numpy().transpose(2, 3, 1, 0).astype(np.int16)
                weights = weights[:, :, 0] if start.kind is Kind.DEPTHWISE else weights
                made = dataclasses.replace(made, weights=np.ascontiguousarray(weights),
                                           weight_scale=multiplier * out / into / (1 << integers.shift))
            layers.append(made)
        return dataclasses.replace(self.start, layers=tuple(layers))
