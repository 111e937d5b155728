"""From the float network to integers: scales of activations from calibration images, weights in one digit or two, one rounding step.

Scale of a product: ``in_scale * weight_scale[channel]``. The requantization multiplier of a channel is an integer, and its scale is
chosen on the grid of those integers, so that requantization adds no error of gain, however small the multiplier.
"""

import numpy as np

from compiler.calibration import Calibration, activation_scale, calibrate
from compiler.network import Conv, Network, NetworkError, Node, Pool
from compiler.quantized import Packing, QuantizedLayer, QuantizedNetwork
from compiler.weights import Alphabet, alphabet, nearest, weight_scales
from golden.weights import BYTES, allowed
from sdp.config import Config
from sdp.program import SHIFT_MAX, Kind

__all__ = ["Calibration", "activation_scale", "calibrate", "fit_shift", "nearest", "packing_of", "quantize", "quantize_layer", "weight_scales"]

MULTIPLIER_ERROR = 1 / 256
"""How far from its ratio the multiplier of weights that came as integers may be, at most."""


def fit_shift(ratios: np.ndarray, scale_bits: int) -> int:
    """The largest shift at which all ratios, times ``2**shift``, are multipliers of ``scale_bits`` bits when rounded either way."""
    peak = float(np.max(ratios))
    if not 0 < peak < (1 << scale_bits - 1) - 1:
        raise NetworkError(f"a requantization ratio of {peak} fits no multiplier of {scale_bits} bits")
    return int(np.clip(np.floor(np.log2(((1 << scale_bits) - 1) / peak - 1e-9)), 1, SHIFT_MAX))


def packing_of(network: Network, group: int) -> Packing | None:
    """Packing of the input, if it has fewer channels than a group and one convolution with a window is all that reads it."""
    readers = [node for node in network.nodes if network.input in (node.input, node.residual)]
    node = readers[0]
    if len(readers) > 1 or not isinstance(node, Conv) or node.depthwise or node.kernel == (1, 1) or network.input_shape[2] >= group:
        return None
    return Packing(kernel=node.kernel, stride=node.stride, pad=node.pad[:2], out=network.shapes()[node.name][:2])


def clamp_of(calibration: Calibration, node: Node) -> tuple[int, int]:
    """Lowest and highest output code: those of the tensor, and what ReLU and an upper bound leave of them."""
    low, high = calibration.limits(node.name)
    if node.clip is not None:
        high = min(high, round(node.clip / calibration.scales[node.name]))
    return 0 if node.relu else low, high


def quantize_layer(calibration: Calibration, node: Node, config: Config, budget: int, w4: bool,
                   letters: Alphabet | None = None) -> QuantizedLayer:
    """One layer in integers; see :func:`quantize`. ``letters``: what weights may be, if not what ``w4`` and the array say."""
    network, scales, signed = calibration.network, calibration.scales, calibration.signed
    shapes = network.shapes()
    in_scale, out_scale = scales[node.input], scales[node.name]
    # Between tensors that came quantised, ratios are what onnxruntime computes, in single precision and this order, and ties go to even.
    single = network.codes.keys() >= {node.input, node.name}
    number = np.float32 if single else np.float64
    into, out = number(in_scale), number(out_scale)
    residual_ratio = float(number(scales[node.residual]) / out) if node.residual is not None else 0.0
    common = dict(name=node.name, input=node.input, in_shape=shapes[node.input], out_shape=shapes[node.name], stride=node.stride,
                  pad=node.pad[:2], in_signed=signed[node.input], in_scale=in_scale, out_scale=out_scale, clamp=clamp_of(calibration, node),
                  residual=node.residual, residual_signed=node.residual is not None and signed[node.residual], ties_even=node.name in network.codes)
    channels = shapes[node.name][2]
    if isinstance(node, Pool):
        ratio = float(into / (out * number(1 if node.kind == "max" else node.kernel[0] * node.kernel[1])))
        shift = fit_shift(np.array([ratio, residual_ratio]), config.scale_bits)
        return QuantizedLayer(kind=Kind.MAX if node.kind == "max" else Kind.SUM, kernel=node.kernel, shift=shift,
                              multiplier=np.full(channels, round(ratio * (1 << shift)), dtype=np.int64), bias=np.zeros(channels, dtype=np.int64),
                              residual_multiplier=round(residual_ratio * (1 << shift)), **common)
    w4 = w4 and not node.depthwise
    given = None if node.depthwise else letters
    two, letters = not (w4 or given), given or alphabet(config, w4, node.depthwise)
    # That nothing is rounded to -128 is no reason not to have it.
    there = given.values if given else BYTES if node.depthwise else allowed(config, w4)
    flat = node.weight.astype(np.float64).reshape(channels, -1)
    # Weights that came as integers stay where the mode has all of them: those of a network that was trained for one digit, too. Others are rounded like
    # float weights: those of eight bits as well, where two digits end at 119.
    own = node.weight_scale is not None and bool(np.isin(node.weight_codes, there).all())
    # A channel of weights that are tiny beside its bias takes a larger scale, so that the bias fits 32 bits.
    wanted = node.weight_scale if own else np.maximum(weight_scales(flat, letters), np.abs(node.bias) / in_scale / (1 << 30))
    ratios = (wanted * into / out).astype(np.float64)
    shift = fit_shift(np.append(ratios, residual_ratio) if ratios.any() or residual_ratio else np.ones(1), config.scale_bits)
    exact = ratios * (1 << shift) * (1 - 1e-12)
    # Weights that came as integers stay what they are, and only the multiplier is rounded, if it is one: not so in a channel that is all but
    # dead beside the others. Other weights meet the multiplier's grid.
    kept = own & (np.abs(np.rint(exact) - exact) <= exact * MULTIPLIER_ERROR)
    multiplier = np.maximum(np.where(kept | (not two), np.rint(exact), np.ceil(exact)), 1).astype(np.int64)
    weight_scale = np.where(kept, wanted, multiplier * out_scale / in_scale / (1 << shift))
    codes = nearest(flat / weight_scale[:, None], letters).reshape(node.weight.shape)
    if own:
        codes[kept] = node.weight_codes[kept]
    weights = codes[:, 0].transpose(1, 2, 0) if node.depthwise else codes.transpose(2, 3, 1, 0)
    if node.input == network.input and (packing := packing_of(network, config.group)):
        weights = weights.reshape(1, 1, -1, channels)
        common |= dict(in_shape=(*packing.out, weights.shape[2]), stride=(1, 1), pad=(0, 0))
    return QuantizedLayer(
        kind=Kind.DEPTHWISE if node.depthwise else Kind.CONV, kernel=weights.shape[:2], weights=np.ascontiguousarray(weights), w4=w4,
        budget=1 if node.depthwise else budget, bias=np.rint(node.bias / (in_scale * weight_scale)).astype(np.int64), multiplier=multiplier,
        shift=shift, residual_multiplier=round(residual_ratio * (1 << shift)), weight_scale=weight_scale, **common)


def quantize(calibration: Calibration, config: Config, modes: dict[str, tuple[int, bool]] | None = None) -> QuantizedNetwork:
    """The network in integers.

    Parameters
    ----------
    modes : (budget, w4) of layers by name; exact 8 bit, ``(2 * group, False)``, where it says nothing
    """
    network, exact = calibration.network, (2 * config.group, False)
    calibration = calibration.at(modes or {}, config.group)
    layers = tuple(quantize_layer(calibration, node, config, *(modes or {}).get(node.name, exact)) for node in network.nodes)
    return QuantizedNetwork(name=network.name, input=network.input, input_shape=network.input_shape, layers=layers,
                            input_scale=calibration.scales[network.input], input_signed=calibration.signed[network.input], input_limits=calibration.limits(network.input),
                            packing=packing_of(network, config.group))
