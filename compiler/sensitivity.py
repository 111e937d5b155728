"""What each layer's modes cost in accuracy: one layer at a time is changed, the rest of the network stays at a working point.

The divergence of small errors in several layers is close to the sum of each one's, so these figures, a few per layer, stand for all
combinations; :mod:`compiler.budget` checks those that it proposes.
"""

from dataclasses import replace

import numpy as np

from compiler import correction
from compiler.arithmetic import Arithmetic, Mode, Terms, convolutions, interpolated
from compiler.calibration import Calibration
from compiler.loss import Loss, loss
from compiler.quantized import QuantizedLayer, QuantizedNetwork, finish, sums
from sdp.config import Config
from sdp.program import Kind

__all__ = ["Mode", "Point", "convolutions", "interpolated"]


class Point:
    """A fitted network with the codes of all its tensors on the calibration images.

    ``modes``: of all layers that sum over channels; ``correct``, ``weights``, ``arithmetic``: as in :func:`compiler.correction.step`.
    """

    def __init__(self, calibration: Calibration, config: Config, modes: dict[str, Mode], *, correct: bool, weights: str,
                 arithmetic: Arithmetic | None = None):
        self.config, self.modes, self.all = config, modes, calibration
        self.arithmetic = arithmetic or Terms(config)
        self.options = {"correct": correct, "weights": weights, "arithmetic": self.arithmetic}
        self.calibration = self.arithmetic.scaled(calibration, modes)
        self.nodes = {node.name: node for node in calibration.network.nodes}
        network = self.arithmetic.network(calibration, modes)
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

    def _sums(self, layer: QuantizedLayer, codes: np.ndarray) -> np.ndarray:
        return self.arithmetic.sums(layer, self.arithmetic.operands(layer, codes)) if layer.kind is Kind.CONV else sums(layer, codes)

    def changed(self, name: str, mode: Mode) -> Loss:
        """The loss with one layer in another mode: that layer and those whose scales change with it are fitted anew, others are not."""
        network, modes = self.network, self.modes | {name: mode}
        calibration = self.arithmetic.scaled(self.all, modes)
        before, after = self.calibration.scales, calibration.scales
        tensors, dirty = dict(self.tensors), set()
        if before[network.input] != after[network.input]:
            tensors[network.input] = self._input(replace(network, input_scale=after[network.input]))
            dirty.add(network.input)
        for layer in network.layers:
            read = [tensor for tensor in (layer.input, layer.residual) if tensor is not None]
            if layer.name == name or any(before[tensor] != after[tensor] for tensor in (layer.name, *read)):
                layer = self.arithmetic.layer(calibration, self.nodes[layer.name], modes.get(layer.name, self.arithmetic.exact))
                _, tensors[layer.name] = correction.step(layer, tensors, calibration, self.config, **self.options)
            elif dirty.intersection(read):
                tensors[layer.name] = finish(layer, self._sums(layer, tensors[layer.input]), tensors)
            else:
                continue
            dirty.add(layer.name)
        return self._loss(tensors, layer.out_scale)

