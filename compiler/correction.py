"""Correction of gain and bias: what selection and weight rounding drop on average is put back, at no cost in hardware.

Per output channel the float pre-activation is fitted as ``gain * accumulator + offset`` on the calibration images; the gain goes into the
multiplier, the offset into the bias. Layers are corrected in order, each on what the corrected ones before it yield.
"""

import dataclasses

import numpy as np

from compiler.arithmetic import Arithmetic, Terms
from compiler.calibration import Calibration
from compiler.network import Conv
from compiler.quantized import QuantizedLayer, QuantizedNetwork, finish, sums
from sdp.config import Config
from sdp.program import Kind

GAIN = (0.8, 1.5)
"""A fit outside of this range is taken for noise and clipped."""


def correct_layer(layer: QuantizedLayer, accumulators: np.ndarray, wanted: np.ndarray, config: Config) -> QuantizedLayer:
    """``layer`` with gain and bias fitted.

    Parameters
    ----------
    accumulators : int (rows, channels), of the integer layer on calibration images
    wanted : float (rows, channels), the same in real values: the float layer's result less the integer residual and before ReLU
    """
    acc = accumulators.astype(np.float64)
    wanted = wanted / (layer.in_scale * layer.weight_scale)
    center, target = acc.mean(axis=0), wanted.mean(axis=0)
    spread = np.square(acc - center).sum(axis=0)
    together = ((acc - center) * (wanted - target)).sum(axis=0)
    gain = np.clip(np.divide(together, spread, out=np.ones(len(center)), where=spread > 0), *GAIN)
    multiplier = np.clip(np.rint(layer.multiplier * gain), 1, (1 << config.scale_bits) - 1)
    gain = multiplier / layer.multiplier
    bias = np.clip(np.rint(target / gain - center), -(1 << 31), (1 << 31) - 1)
    return dataclasses.replace(layer, bias=bias.astype(np.int64), multiplier=multiplier.astype(np.int64),
                               weight_scale=layer.weight_scale * gain)


def step(layer: QuantizedLayer, tensors: dict[str, np.ndarray], calibration: Calibration, config: Config, *, correct: bool = True,
         weights: str = "nearest", arithmetic: Arithmetic | None = None) -> tuple[QuantizedLayer, np.ndarray]:
    """Fits one layer and runs it: (layer, output codes).

    Parameters
    ----------
    tensors : codes of the integer network so far
    correct : gain and bias by :func:`correct_layer`
    weights : ``nearest``, as they are; by :mod:`compiler.rounding`, ``feedback``: rounded with feedback, ``fitted``: solved anew before; those
        that came quantised stay, unless they are to have one digit
    arithmetic : SDP's, if none
    """
    arithmetic, conv, codes = arithmetic or Terms(config), layer.kind is Kind.CONV, tensors[layer.input]
    operands = arithmetic.operands(layer, codes) if conv else codes
    summed = arithmetic.sums if conv else sums
    node = next(node for node in calibration.network.nodes if node.name == layer.name)
    exact = not conv or arithmetic.mode(layer) == arithmetic.exact
    # A network that came as integers stays what it is where nothing is left out of it.
    own = isinstance(node, Conv) and node.weight_scale is not None
    if not correct and weights == "nearest" or layer.weights is None or own and exact:
        return layer, finish(layer, summed(layer, operands), tensors)
    rows, wanted = calibration.rows(node), calibration.wanted(node)
    if layer.residual is not None:
        wanted = wanted - tensors[layer.residual][rows] * calibration.scales[layer.residual]
    if weights != "nearest" and conv and (layer.w4 or not own):
        layer = arithmetic.fit(layer, operands, rows, wanted, node, calibration.fit if weights == "fitted" else None)
    accumulators = summed(layer, operands)
    if correct:
        layer = correct_layer(layer, accumulators[rows], wanted, config)
    return layer, finish(layer, accumulators, tensors)


def correct(network: QuantizedNetwork, calibration: Calibration, config: Config, *, correct: bool = True, weights: str = "nearest",
            arithmetic: Arithmetic | None = None) -> QuantizedNetwork:
    """The network with every layer fitted on what the fitted ones before it yield."""
    arithmetic = arithmetic or Terms(config)
    calibration = arithmetic.scaled(calibration, {layer.name: arithmetic.mode(layer) for layer in network.layers if layer.kind is Kind.CONV})
    tensors = {network.input: network.pack(network.encode(calibration.tensors[network.input][: calibration.fit]))}
    for layer in network.layers:
        layer, tensors[layer.name] = step(layer, tensors, calibration, config, correct=correct, weights=weights, arithmetic=arithmetic)
        network = network.replace(layer)
    return network
