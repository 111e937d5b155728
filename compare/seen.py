"""What rivals see of codes, with gradients (PyTorch): the counterpart of their arithmetics for fine-tuning."""

import numpy as np
import torch

from compare import drq, static
from compiler.weights import TWO_DIGITS, Alphabet
from finetune.arithmetic import Terms, sums
from golden.weights import split_w8

DIGITS = Alphabet(np.arange(-128, 120), np.array([119.0]), (1.0,))
"""What two signed digits have."""


class _Narrowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, codes, drop, limit):
        ctx.save_for_backward(codes.abs() <= (limit << drop) + (1 << drop >> 1))
        return torch.from_numpy(static.narrowed(codes.detach().numpy().astype(np.int16), drop, limit)).to(codes.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


class _Masked(torch.autograd.Function):
    """(codes where sensitive, high nibbles elsewhere); gradients to each as to the identity."""

    @staticmethod
    def forward(ctx, codes, threshold, region):
        whole = codes.detach().permute(0, 2, 3, 1).numpy().astype(np.int16)
        mask = drq.mask(whole, threshold, region)
        found = [torch.from_numpy(part).to(codes.dtype).permute(0, 3, 1, 2) for part in (whole * mask, drq.high_nibble(whole) * ~mask)]
        ctx.save_for_backward(torch.from_numpy(mask).permute(0, 3, 1, 2))
        return tuple(found)

    @staticmethod
    def backward(ctx, sensitive, rest):
        return torch.where(ctx.saved_tensors[0], sensitive, rest), None, None


class _High(torch.autograd.Function):
    """16 times the high digit of a weight; gradient of the identity."""

    @staticmethod
    def forward(ctx, weights):
        return torch.from_numpy(16 * split_w8(weights.detach().numpy().astype(np.int16))[0]).to(weights.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Static(Terms):
    """Four or eight bits of activations and weights."""

    def letters(self, layer):
        return static.Static.letters(layer.mode) or TWO_DIGITS

    def shared(self, layer):
        return layer.input, layer.mode[0], layer.drop

    def operands(self, layer, codes):
        return codes if layer.mode[0] == 8 else _Narrowed.apply(codes, layer.drop, static.limit_of(layer.in_signed))


class Drq(Terms):
    """Whole codes in sensitive regions, high nibbles elsewhere; thresholds stay what they are."""

    def letters(self, layer):
        return DIGITS

    def shared(self, layer):
        return layer.input, layer.threshold

    def operands(self, layer, codes):
        return (codes, None) if layer.threshold == 0 else _Masked.apply(codes, layer.threshold, layer.region)

    def sums(self, layer, operands, weights):
        sensitive, rest = operands
        found = sums(layer, sensitive, weights)
        return found if rest is None else found + sums(layer, rest, _High.apply(weights))
