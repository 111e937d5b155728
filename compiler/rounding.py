"""Weights fitted to what the layer really reads: masked codes instead of the float tensor.

First the float weights are solved anew, so that masked codes yield the float network's result as well as they can (ridge regression
towards the old weights). Then they are rounded one input after the other, and the error of each is made up for by those not yet
rounded (optimal brain quantization in a fixed order, with the Cholesky factor of the inverse Hessian).
"""

import dataclasses

import numpy as np

from compiler.quantized import QuantizedLayer
from compiler.weights import Alphabet, alphabet, nearest, weight_scales
from sdp.config import Config

RIDGE = 0.02
"""Weight of the old weights against the data, in units of the mean power of an input, if there is plenty of it; more if there is not:
``SCARCE`` times the inputs per independent row."""
SCARCE = 0.5
PIXELS = 16
"""Pixels of one image that count as independent."""
DAMP = 0.002


def hessian_of(inputs: np.ndarray) -> np.ndarray:
    """Mean products of centred inputs (rows, reduction): what an error of the weights costs, once the bias makes up for its mean."""
    inputs = inputs - inputs.mean(axis=0)
    return (inputs.T @ inputs).astype(np.float64) / len(inputs)


def solve(inputs: np.ndarray, wanted: np.ndarray, weight: np.ndarray, hessian: np.ndarray, ridge: float) -> np.ndarray:
    """Weights with which ``inputs @ weights`` is closest to ``wanted``, up to a constant per output.

    Parameters
    ----------
    inputs : float32 (rows, reduction)
    wanted : float32 (rows, outputs)
    weight : float64 (reduction, outputs), what an input without data keeps
    """
    wanted = (wanted - wanted.mean(axis=0)).astype(np.float32)
    target = (inputs.T @ wanted).astype(np.float64) / len(inputs)
    pull = max(float(np.trace(hessian)) / len(hessian), 1e-12) * ridge
    return np.linalg.solve(hessian + pull * np.eye(len(hessian)), target + pull * weight)


def feedback(weight: np.ndarray, hessian: np.ndarray, scale: np.ndarray, letters: Alphabet) -> np.ndarray:
    """Codes of ``weight`` (reduction, outputs) at steps ``scale`` (outputs,), int16, rounded with feedback of the error."""
    power = np.diag(hessian)
    order = np.argsort(-power, kind="stable")
    damped = hessian[np.ix_(order, order)] + max(power.mean(), 1e-12) * DAMP * np.eye(len(power))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, codes = weight[order] / scale, np.empty(weight.shape, dtype=np.int16)
    for i, at in enumerate(order):
        codes[at] = nearest(left[i], letters)
        left[i + 1 :] -= np.outer(factor[i, i + 1 :] / factor[i, i], left[i] - codes[at])
    return codes


def fit(layer: QuantizedLayer, inputs: np.ndarray, wanted: np.ndarray, weight: np.ndarray, config: Config, images: int | None,
        letters: Alphabet | None = None) -> QuantizedLayer:
    """``layer`` with weights, their scales and the multipliers fitted; the bias is left to :mod:`compiler.correction`.

    Parameters
    ----------
    inputs : masked codes in windows (rows, reduction)
    wanted : real values (rows, outputs), before bias, residual and ReLU
    weight : float weights (reduction, outputs)
    images : how many the rows are from; none: the weights are only rounded, not solved anew
    letters : what weights may be, if not what the layer's mode says
    """
    inputs = inputs.astype(np.float32)
    hessian = hessian_of(inputs)
    if images is not None:
        ridge = RIDGE + SCARCE * len(weight) / min(len(inputs), PIXELS * images)
        weight = solve(inputs, wanted / layer.in_scale, weight, hessian, ridge)
    letters = letters or alphabet(config, layer.w4)
    outputs, widths = weight.shape[1], np.array(letters.widths)
    # Scales lie on the grid of the multipliers.
    step = layer.weight_scale / layer.multiplier
    scales = weight_scales(weight.T, letters) * widths[:, None]
    multipliers = np.clip(np.rint(scales / step), 1, (1 << config.scale_bits) - 1).astype(np.int64)
    scales = multipliers * step
    tried = np.tile(weight, len(widths))
    codes = feedback(tried, hessian, scales.ravel(), letters)
    error = codes * scales.ravel() - tried
    error = (error * (hessian @ error)).sum(axis=0).reshape(len(widths), outputs)
    best = np.argmin(error, axis=0), np.arange(outputs)
    codes = codes.reshape(-1, len(widths), outputs)[:, best[0], best[1]]
    return dataclasses.replace(layer, weights=np.ascontiguousarray(codes.reshape(layer.weights.shape)), weight_scale=scales[best],
                               multiplier=multipliers[best])
