"""Convolutions of float networks with random weights."""

import numpy as np

from compiler.network import Conv


def conv(rng, name, source, inputs, outputs, kernel=3, *, depthwise=False, bias=1.0, spread=0.0, **more):
    """``bias``: standard deviation; ``spread``: of the logarithm of the input channels' weights."""
    shape = (outputs, 1 if depthwise else inputs, kernel, kernel)
    scale = np.exp(spread * rng.normal(size=(1, shape[1], 1, 1))) if spread else 1.0
    return Conv(name=name, input=source, weight=(rng.normal(size=shape) * scale).astype(np.float32), depthwise=depthwise,
                bias=rng.normal(size=outputs).astype(np.float32) * bias, pad=(kernel // 2,) * 4, **more)
