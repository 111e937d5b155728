"""What an array makes of codes and weights, as PyTorch computes it: the counterpart of :mod:`compiler.arithmetic`, with gradients."""

import torch
from torch.nn import functional

from compiler.quantized import QuantizedLayer
from compiler.weights import Alphabet, alphabet
from finetune import ste
from sdp.config import Config
from sdp.program import Kind


class Terms:
    """SDP: the terms that a budget keeps, weights of one digit or two. Rivals override what they see and the values of their weights."""

    def __init__(self, config: Config):
        self.config = config

    def letters(self, layer: QuantizedLayer) -> Alphabet:
        """What weights of the layer may be."""
        return alphabet(self.config, layer.w4, layer.kind is Kind.DEPTHWISE)

    def shared(self, layer: QuantizedLayer):
        """Readers of one tensor for which this is equal see the same of it."""
        return layer.input, layer.budget

    def operands(self, layer: QuantizedLayer, codes: torch.Tensor):
        """What the array sees of the codes (n, channels, h, w) that a layer reads."""
        return ste.select(codes, layer.budget, self.config.group)

    def sums(self, layer: QuantizedLayer, operands, weights: torch.Tensor) -> torch.Tensor:
        """Accumulators of a layer that sums over channels, (n, outputs, h, w)."""
        return sums(layer, operands, weights)


def sums(layer: QuantizedLayer, codes: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Accumulators of any layer; the padding at the bottom and on the right follows from its output."""
    (height, width, channels), out = layer.in_shape, layer.out_shape
    behind = [max(0, (o - 1) * s + k - size - p) for o, s, k, size, p in zip(out, layer.stride, layer.kernel, (height, width), layer.pad)]
    pad = layer.pad[1], behind[1], layer.pad[0], behind[0]
    if any(pad):
        codes = functional.pad(codes, pad, value=-torch.inf if layer.kind is Kind.MAX else 0)
    if layer.kind is Kind.MAX:
        made = functional.max_pool2d(codes, layer.kernel, layer.stride)
        made = torch.where(torch.isinf(made), 0, made)
    elif layer.kind is Kind.SUM:
        made = functional.avg_pool2d(codes, layer.kernel, layer.stride, divisor_override=1)
    else:
        groups = channels if layer.kind is Kind.DEPTHWISE else 1
        made = functional.conv2d(codes, weights.contiguous(memory_format=torch.channels_last), stride=layer.stride, groups=groups)
    return made[:, :, : out[0], : out[1]]
