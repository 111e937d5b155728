"""From the float network to integers: scales of activations from calibration images, weights in one digit or two, one rounding step.

Scale of a product: ``in_scale * weight_scale[channel]``. The requantization multiplier of a channel is an integer, and its scale is
chosen on the grid of those integers, so that requantization adds no error of gain, however small the multiplier.
"""

from dataclasses import dataclass

import numpy as np

from compiler.network import Conv, Network, NetworkError, Pool
from compiler.quantized import Packing, QuantizedLayer, QuantizedNetwork
from golden.weights import W4_VALUES
from sdp.config import Config
from sdp.program import SHIFT_MAX, Kind

SAMPLES = 100_000
"""Values of a tensor that its scale is fitted to."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The float network on calibration images: every tensor (n, h, w, c), the scale of its codes and whether they are signed."""

    network: Network
    tensors: dict[str, np.ndarray]
    scales: dict[str, float]
    signed: dict[str, bool]


def calibrate(network: Network, images: np.ndarray) -> Calibration:
    """Codes are unsigned after a ReLU and for an input that is never negative, signed otherwise; a maximum keeps its input's scale."""
    tensors = network.run(images)
    signed = {network.input: bool(tensors[network.input].min() < 0)}
    scales = {network.input: activation_scale(tensors[network.input], signed[network.input])}
    for node in network.nodes:
        signed[node.name] = not node.relu if isinstance(node, Conv) else signed[node.input]
        keeps = isinstance(node, Pool) and node.kind == "max"
        scales[node.name] = scales[node.input] if keeps else activation_scale(tensors[node.name], signed[node.name])
    return Calibration(network, tensors, scales, signed)


def activation_scale(values: np.ndarray, signed: bool) -> float:
    """The scale with the least squared error among clipped and unclipped ranges; 1 for a tensor of zeros."""
    values = values.ravel()[:: -(-values.size // SAMPLES)].astype(np.float64)
    values, limit = np.abs(values), 127 if signed else 255
    peak = float(values.max(initial=0))
    if peak == 0:
        return 1.0
    # Below `limit`: whole numbers of steps to the peak, which meet values that are integers already; above it: the range is clipped.
    steps = np.concatenate([np.arange(limit, limit * 3 // 4, -1), limit / np.linspace(0.98, 0.4, 40)])
    errors = [np.square(values - np.minimum(np.rint(values * n / peak), limit) * (peak / n)).mean() for n in steps]
    return peak / float(steps[np.argmin(errors)])


def nearest(values: np.ndarray, w4: bool) -> np.ndarray:
    """The nearest weights that the mode has, int16."""
    if not w4:
        return np.clip(np.rint(values), -127, 127).astype(np.int16)
    middles = (W4_VALUES[1:] + W4_VALUES[:-1]) / 2
    return W4_VALUES[np.searchsorted(middles, values)].astype(np.int16)


def weight_scales(weight: np.ndarray, w4: bool) -> np.ndarray:
    """Scale per output channel for weights (out, reduction): the peak at 127 for two digits, the least squared error for one."""
    peak = np.abs(weight).max(axis=1)
    if not w4:
        return peak / 127
    candidates = peak / np.linspace(7, 40, 67)[:, None]
    errors = [np.square(weight - nearest(weight / np.maximum(s, 1e-30)[:, None], True) * s[:, None]).sum(axis=1) for s in candidates]
    return np.take_along_axis(candidates, np.argmin(errors, axis=0)[None], axis=0)[0]


def fit_shift(ratios: np.ndarray, scale_bits: int) -> int:
    """The largest shift at which all ratios, times ``2**shift``, are multipliers of ``scale_bits`` bits when rounded either way."""
    peak = float(np.max(ratios))
    if not 0 < peak < (1 << scale_bits - 1) - 1:
        raise NetworkError(f"a requantization ratio of {peak} fits no multiplier of {scale_bits} bits")
    return int(np.clip(np.floor(np.log2(((1 << scale_bits) - 1) / peak - 1e-9)), 1, SHIFT_MAX))


def packing_of(network: Network, group: int) -> Packing | None:
    """Packing of the input, if it has fewer channels than a group and one convolution with a window is all that reads it."""
    readers = [node for node in network.nodes if network.input in (node.input, getattr(node, "residual", None))]
    node = readers[0]
    if len(readers) > 1 or not isinstance(node, Conv) or node.kernel == (1, 1) or network.input_shape[2] >= group:
        return None
    return Packing(kernel=node.kernel, stride=node.stride, pad=node.pad[:2], out=network.shapes()[node.name][:2])


def quantize_layer(calibration: Calibration, node: Conv | Pool, config: Config, budget: int, w4: bool) -> QuantizedLayer:
    """One layer in integers; see :func:`quantize`."""
    network, scales, signed = calibration.network, calibration.scales, calibration.signed
    shapes = network.shapes()
    in_scale, out_scale = scales[node.input], scales[node.name]
    common = dict(name=node.name, input=node.input, in_shape=shapes[node.input], out_shape=shapes[node.name], stride=node.stride,
                  pad=node.pad[:2], in_signed=signed[node.input], in_scale=in_scale, out_scale=out_scale,
                  clamp=(-127, 127) if signed[node.name] else (0, 255))
    channels = shapes[node.name][2]
    if isinstance(node, Pool):
        ratio = in_scale / out_scale / (1 if node.kind == "max" else node.kernel[0] * node.kernel[1])
        shift = fit_shift(ratio, config.scale_bits)
        multiplier = np.full(channels, round(ratio * (1 << shift)), dtype=np.int64)
        return QuantizedLayer(kind=Kind.MAX if node.kind == "max" else Kind.SUM, kernel=node.kernel, multiplier=multiplier, shift=shift,
                              bias=np.zeros(channels, dtype=np.int64), **common)
    flat = node.weight.astype(np.float64).reshape(channels, -1)
    # A channel of weights that are tiny beside its bias takes a larger scale, so that the bias fits 32 bits.
    wanted = np.maximum(weight_scales(flat, w4), np.abs(node.bias) / in_scale / (1 << 30))
    ratios = wanted * in_scale / out_scale
    residual_ratio = scales[node.residual] / out_scale if node.residual is not None else 0.0
    shift = fit_shift(np.append(ratios, residual_ratio) if ratios.any() or residual_ratio else np.ones(1), config.scale_bits)
    rounded = np.rint if w4 else np.ceil
    multiplier = np.maximum(rounded(ratios * (1 << shift) * (1 - 1e-12)), 1).astype(np.int64)
    weight_scale = multiplier * out_scale / in_scale / (1 << shift)
    weights = nearest(flat / weight_scale[:, None], w4).reshape(node.weight.shape).transpose(2, 3, 1, 0)
    if node.input == network.input and (packing := packing_of(network, config.group)):
        weights = weights.reshape(1, 1, -1, channels)
        common |= dict(in_shape=(*packing.out, weights.shape[2]), stride=(1, 1), pad=(0, 0))
    return QuantizedLayer(
        kind=Kind.CONV, residual=node.residual, kernel=weights.shape[:2], weights=np.ascontiguousarray(weights), w4=w4, budget=budget,
        bias=np.rint(node.bias / (in_scale * weight_scale)).astype(np.int64), multiplier=multiplier, shift=shift,
        residual_multiplier=round(residual_ratio * (1 << shift)), residual_signed=node.residual is not None and signed[node.residual],
        weight_scale=weight_scale, **common)


def quantize(calibration: Calibration, config: Config, modes: dict[str, tuple[int, bool]] | None = None) -> QuantizedNetwork:
    """The network in integers.

    Parameters
    ----------
    modes : (budget, w4) of layers by name; exact 8 bit, ``(2 * group, False)``, where it says nothing
    """
    network, exact = calibration.network, (2 * config.group, False)
    layers = tuple(quantize_layer(calibration, node, config, *(modes or {}).get(node.name, exact)) for node in network.nodes)
    return QuantizedNetwork(name=network.name, input=network.input, input_shape=network.input_shape, layers=layers,
                            input_scale=calibration.scales[network.input], input_signed=calibration.signed[network.input],
                            packing=packing_of(network, config.group))
