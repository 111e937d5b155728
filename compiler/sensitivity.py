"""What each layer's modes cost in accuracy: one layer at a time is changed, the rest of the network stays at a working point.

The divergence of small errors in several layers is close to the sum of each one's, so these figures, a few per layer, stand for all
combinations; :mod:`compiler.budget` checks those that it proposes.
"""

from dataclasses import replace

import numpy as np

from compiler import correction
from compiler.calibration import Calibration
from compiler.loss import Loss, loss
from compiler.quantize import quantize, quantize_layer
from compiler.quantized import QuantizedNetwork, accumulate, finish
from sdp.config import Config
from sdp.program import Kind

Mode = tuple[int, bool]
"""(budget, w4)"""


class Point:
    """A fitted network with the codes of all its tensors on the calibration images.

    ``modes``: of all layers that sum over channels; ``correct``, ``weights``: as in :func:`compiler.correction.step`.
    """

    def __init__(self, calibration: Calibration, config: Config, modes: dict[str, Mode], *, correct: bool, weights: str):
        self.config, self.modes, self.all = config, modes, calibration
        self.options = {"correct": correct, "weights": weights}
        self.calibration = calibration.at(modes, config.group)
        self.nodes = {node.name: node for node in calibration.network.nodes}
        network = quantize(calibration, config, modes)
        self.tensors = {network.input: self._input(network)}
        for layer in network.layers:
            layer, self.tensors[layer.name] = correction.step(layer, self.tensors, self.calibration, config, **self.options)
            network = network.replace(layer)
        self.network = network
        self.loss = self._loss(self.tensors, network.layers[-1].out_scale)

    def _input(self, network: QuantizedNetwork) -> np.ndarray:
        return network.pack(network.encode(self.all.tensors[network.input]))

    def _loss(self, tensors: dict[str, np.ndarray], scale: float) -> Loss:
        last = self.network.layers[-1].name
        # On images that nothing was fitted to, if there are any.
        at = slice(self.all.fit if self.all.fit < len(tensors[last]) else 0, None)
        return loss(self.all.tensors[last][at], tensors[last][at] * scale, self.all.temperature)

    def changed(self, name: str, mode: Mode) -> Loss:
        """The loss with one layer in another mode: that layer and those whose scales change with it are fitted anew, others are not."""
        network, modes = self.network, self.modes | {name: mode}
        calibration = self.all.at(modes, self.config.group)
        before, after = self.calibration.scales, calibration.scales
        tensors, dirty = dict(self.tensors), set()
        if before[network.input] != after[network.input]:
            tensors[network.input] = self._input(replace(network, input_scale=after[network.input]))
            dirty.add(network.input)
        for layer in network.layers:
            read = [tensor for tensor in (layer.input, layer.residual) if tensor is not None]
            if layer.name == name or any(before[tensor] != after[tensor] for tensor in (layer.name, *read)):
                layer = quantize_layer(calibration, self.nodes[layer.name], self.config, *modes.get(layer.name, (1, False)))
                _, tensors[layer.name] = correction.step(layer, tensors, calibration, self.config, **self.options)
            elif dirty.intersection(read):
                tensors[layer.name] = finish(layer, accumulate(layer, tensors[layer.input], self.config.group), tensors)
            else:
                continue
            dirty.add(layer.name)
        return self._loss(tensors, layer.out_scale)


def convolutions(network: QuantizedNetwork) -> list[str]:
    return [layer.name for layer in network.layers if layer.kind is Kind.CONV]


def interpolated(measured: dict[Mode, float], budgets: range, floor: float) -> dict[Mode, float]:
    """Losses of all budgets from those of some, geometrically; they never fall with the budget."""
    found = {}
    for w4 in sorted({w4 for _, w4 in measured}):
        known = sorted(k for k, w in measured if w == w4)
        values = np.maximum.accumulate([max(measured[k, w4], floor) for k in reversed(known)])[::-1]
        logs = np.interp(np.array(budgets), known, np.log(values))
        found |= {(k, w4): float(np.exp(log)) for k, log in zip(budgets, logs)}
    return found
