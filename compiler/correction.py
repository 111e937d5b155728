"""Correction of gain and bias: what selection and weight rounding drop on average is put back, at no cost in hardware.

Per output channel the float pre-activation is fitted as ``gain * accumulator + offset`` on the calibration images; the gain goes into the
multiplier, the offset into the bias. Layers are corrected in order, each on what the corrected ones before it yield.
"""

import dataclasses

import numpy as np

from compiler.network import before_relu
from compiler.quantize import Calibration
from compiler.quantized import QuantizedLayer, QuantizedNetwork, accumulate, finish
from sdp.config import Config
from sdp.program import Kind

GAIN = (0.8, 1.5)
"""A fit outside of this range is taken for noise and clipped."""


def correct_layer(layer: QuantizedLayer, accumulators: np.ndarray, wanted: np.ndarray, config: Config) -> QuantizedLayer:
    """``layer`` with gain and bias fitted.

    Parameters
    ----------
    accumulators : int (n, h, w, channels), of the integer layer on calibration images
    wanted : float (n, h, w, channels), the same in real values: the float layer's result less the integer residual and before ReLU
    """
    acc = accumulators.reshape(-1, accumulators.shape[-1]).astype(np.float64)
    wanted = wanted.reshape(acc.shape) / (layer.in_scale * layer.weight_scale)
    center, target = acc.mean(axis=0), wanted.mean(axis=0)
    spread = np.square(acc - center).sum(axis=0)
    together = ((acc - center) * (wanted - target)).sum(axis=0)
    gain = np.clip(np.divide(together, spread, out=np.ones(len(center)), where=spread > 0), *GAIN)
    multiplier = np.clip(np.rint(layer.multiplier * gain), 1, (1 << config.scale_bits) - 1)
    gain = multiplier / layer.multiplier
    bias = np.clip(np.rint(target / gain - center), -(1 << 31), (1 << 31) - 1)
    return dataclasses.replace(layer, bias=bias.astype(np.int64), multiplier=multiplier.astype(np.int64),
                               weight_scale=layer.weight_scale * gain)


def step(layer: QuantizedLayer, tensors: dict[str, np.ndarray], calibration: Calibration, scales: dict[str, float], config: Config,
         correct: bool = True) -> tuple[QuantizedLayer, np.ndarray]:
    """Corrects one layer and runs it: (layer, output codes).

    ``tensors``: codes of the integer network so far; ``scales``: real value of one step of each.
    """
    accumulators = accumulate(layer, tensors[layer.input], config.group)
    if correct and layer.kind is Kind.CONV:
        node = next(node for node in calibration.network.nodes if node.name == layer.name)
        wanted = before_relu(node, calibration.tensors)
        if layer.residual is not None:
            wanted = wanted - tensors[layer.residual] * scales[layer.residual]
        layer = correct_layer(layer, accumulators, wanted, config)
    return layer, finish(layer, accumulators, tensors)


def correct(network: QuantizedNetwork, calibration: Calibration, config: Config) -> QuantizedNetwork:
    """The network with every convolution corrected."""
    scales = {network.input: network.input_scale} | {layer.name: layer.out_scale for layer in network.layers}
    tensors = {network.input: network.pack(network.encode(calibration.tensors[network.input]))}
    for layer in network.layers:
        layer, tensors[layer.name] = step(layer, tensors, calibration, scales, config)
        network = network.replace(layer)
    return network
