"""What an array makes of a layer: the modes that it has, what it sees of a code, what a mode costs, how weights are fitted to it.

The search of :mod:`compiler.budget` and the passes around it know layers, tensors and losses; everything about SDP that they need is here.
Another arithmetic is another subclass of :class:`Arithmetic`, and gets the same passes, the same images and the same trials.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import numpy as np

from compiler import ordering, rounding
from compiler.calibration import Calibration, calibrate
from compiler.network import Conv, Network, Node
from compiler.quantize import quantize, quantize_layer
from compiler.quantized import BATCH, QuantizedLayer, QuantizedNetwork, finish, logits, select, sums
from golden.mac_array import windows
from golden.parallel import over_images
from sdp.config import Config
from sdp.program import Kind

Mode = Hashable
"""Of a layer that sums over channels; SDP's is (budget, w4)."""


class Arithmetic:
    """``exact``: the mode that loses nothing beyond eight bits. ``operands`` of a layer are whatever :meth:`operands` made of its input codes."""

    exact: Mode

    def __init__(self, config: Config):
        self.config = config

    def scaled(self, calibration: Calibration, modes: dict[str, Mode]) -> Calibration:
        """With the scales that suit these modes of layers."""
        raise NotImplementedError

    def layer(self, calibration: Calibration, node: Node, mode: Mode) -> QuantizedLayer:
        raise NotImplementedError

    def network(self, calibration: Calibration, modes: dict[str, Mode]) -> QuantizedNetwork:
        """In integers, nothing fitted yet; a layer that is not named is exact."""
        calibration = self.scaled(calibration, modes)
        layers = tuple(self.layer(calibration, node, modes.get(node.name, self.exact)) for node in calibration.network.nodes)
        plain = quantize(calibration, self.config)
        return replace(plain, layers=layers)

    def mode(self, layer: QuantizedLayer) -> Mode:
        raise NotImplementedError

    def operands(self, layer: QuantizedLayer, codes: np.ndarray):
        """What the array sees of the codes (n, h, w, c) that a layer reads."""
        raise NotImplementedError

    def sums(self, layer: QuantizedLayer, operands, dtype=np.int64) -> np.ndarray:
        """Accumulators, as :func:`compiler.quantized.sums`."""
        return sums(layer, operands, dtype)

    def fit(self, layer: QuantizedLayer, operands, rows: tuple, wanted: np.ndarray, node: Conv, images: int | None) -> QuantizedLayer:
        """Weights by :func:`compiler.rounding.fit`; ``rows``: output pixels (image, y, x) that ``wanted`` (rows, outputs) is at."""
        return rounding.fit(layer, rows_of(layer, operands, rows), wanted, reading(node), self.config, images)

    def logits(self, network: QuantizedNetwork, images: np.ndarray) -> np.ndarray:
        """The last layer's real values (n, outputs), in batches, so that memory stays bounded."""
        found, last = [], network.layers[-1].name
        for begin in range(0, len(images), BATCH):
            codes = self.run(network, images[begin : begin + BATCH])[last]
            found.append(network.decode(codes).reshape(len(codes), -1))
        return np.concatenate(found)

    def run(self, network: QuantizedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
        """Codes (n, h, w, c) of every tensor, the input as it is packed among them."""
        parts = over_images(lambda at: self._run(network, images[at]), len(images))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, network, images):
        tensors = {network.input: network.pack(network.encode(images))}
        for layer in network.layers:
            codes = tensors[layer.input]
            conv = layer.kind is Kind.CONV
            found = self.sums(layer, self.operands(layer, codes), None) if conv else sums(layer, codes)
            tensors[layer.name] = finish(layer, found, tensors)
        return tensors

    # What the search needs to know.

    def ordered(self, network: Network, images: np.ndarray) -> Network:
        """The same function with channels in an order that suits the array."""
        return network

    def nominal(self, calibration: Calibration, names: list[str]) -> dict[str, Mode]:
        """Modes at which scalings of channels, ranges and variants are compared."""
        raise NotImplementedError

    def variants(self) -> list["Arithmetic"]:
        """Others of the same kind, that are tried at nominal modes as ranges are."""
        return []

    def costs(self, calibration: Calibration, names: list[str]) -> dict[tuple[str, Mode], float]:
        """Cost of every mode that each of the layers ``names`` may have, ``exact`` among them."""
        raise NotImplementedError

    def elsewhere(self, layers: list[QuantizedLayer]) -> float:
        """Cost of the layers that have no modes."""
        return 0

    def counted(self, cost: float, layers: tuple[QuantizedLayer, ...], tensors: dict[str, np.ndarray]) -> float:
        """Cost of a network whose tensors on calibration images are known; ``cost``: summed from :meth:`costs`."""
        return cost

    def probes(self) -> list[Mode]:
        """Modes whose loss is measured in every layer of the exact network."""
        raise NotImplementedError

    def completed(self, measured: dict[Mode, float], floor: float) -> dict[Mode, float]:
        """Losses of all modes that can be told from those of the probes."""
        return measured

    def neighbours(self, mode: Mode) -> list[Mode]:
        """Modes that are measured in a layer that is not exact."""
        raise NotImplementedError

    def preference(self, mode: Mode) -> float:
        """Between modes that are as good, the least."""
        return 0

    def uniform(self, names: list[str]) -> Iterator[list[dict[str, Mode]]]:
        """Networks with one mode in all layers that are tried first, group by group, until none of a group keeps the bound."""
        raise NotImplementedError


def reading(node: Conv) -> np.ndarray:
    """Float weights as a layer reads its windows, (reduction, outputs), float64."""
    return node.weight.transpose(2, 3, 1, 0).reshape(-1, len(node.weight)).astype(np.float64)


def rows_of(layer: QuantizedLayer, codes: np.ndarray, rows: tuple) -> np.ndarray:
    """The windows (rows, reduction) that a layer reads at output pixels ``rows``."""
    view = windows(codes, layer.kernel, layer.stride, layer.pad, layer.out_shape[:2])
    return view[rows].reshape(len(rows[0]), -1)


NOMINAL = 4
"""Budget at which scalings are tried, per eight channels of a group, in all layers but the first and the last."""
MEASURED = {True: (2, 3, 4, 6), False: (4, 8, 12)}
"""Budgets whose loss is measured in every layer, with weights of one digit and of two; others are interpolated."""
UNIFORM = (8, 6, 5, 4, 3)
"""Budgets for all layers that are tried first."""


class Terms(Arithmetic):
    """SDP: a budget of terms per group, weights of two digits or one; ``cycles``: of a layer at its budget and weight mode."""

    def __init__(self, config: Config, cycles: Callable[[QuantizedLayer], int] | None = None, allow_w4: bool = True):
        super().__init__(config)
        self.cycles, self.allow_w4, self.most = cycles, allow_w4, 2 * config.group
        self.exact, self.digits = (self.most, False), [False, True][: 1 + allow_w4]

    def scaled(self, calibration, modes):
        return calibration.at(modes, self.config.group)

    def layer(self, calibration, node, mode):
        return quantize_layer(calibration, node, self.config, *mode)

    def network(self, calibration, modes):
        return quantize(calibration, self.config, modes)

    def mode(self, layer):
        return layer.budget, layer.w4

    def operands(self, layer, codes):
        return select(codes, layer.budget, self.config.group)

    def logits(self, network, images):
        return logits(network, images, self.config.group)

    def ordered(self, network, images):
        return ordering.arrange(calibrate(network, images), self._nominal, self.config.group)

    @property
    def _nominal(self) -> int:
        return -(-NOMINAL * self.config.group // 8)

    def nominal(self, calibration, names):
        return {name: (self._nominal, True) for name in names} | {name: self.exact for name in (names[0], names[-1])}

    def costs(self, calibration, names):
        found = {}
        for node in calibration.network.nodes:
            for w4 in self.digits if node.name in names else ():
                layer = self.layer(calibration, node, (self.most, w4))
                for budget in range(1, self.most + 1):
                    found[node.name, (budget, w4)] = self.cycles(replace(layer, budget=budget))
        return found

    def elsewhere(self, layers):
        return sum(self.cycles(layer) for layer in layers)

    def probes(self):
        return [(k, w4) for w4 in self.digits for k in MEASURED[w4] if k < self.most] + [(self.most, True)] * (True in self.digits)

    def completed(self, measured, floor):
        # Below the smallest measured budget nothing is known.
        found = interpolated(measured, range(1, self.most + 1), floor)
        return {mode: value for mode, value in found.items() if mode[0] >= min(MEASURED[mode[1]])}

    def neighbours(self, mode):
        k, w4 = mode
        steps = {(k - 1, w4), (k + 1, w4), (k * 3 // 4, w4), *([(k, not w4)] if len(self.digits) > 1 else [])}
        return [step for step in sorted(steps) if 1 <= step[0] <= self.most]

    def preference(self, mode):
        return -mode[0]

    def uniform(self, names):
        """The first and the last layer keep all terms, of weights with two digits or with one."""
        for budget in (k for k in UNIFORM if k < self.most):
            ends = [{name: (self.most, w4) for name in (names[0], names[-1])} for w4 in self.digits]
            yield [{name: (budget, self.digits[-1]) for name in names} | kept for kept in ends]


def convolutions(network: QuantizedNetwork) -> list[str]:
    return [layer.name for layer in network.layers if layer.kind is Kind.CONV]


def interpolated(measured: dict[tuple[int, bool], float], budgets: range, floor: float) -> dict[tuple[int, bool], float]:
    """Losses of all budgets from those of some, geometrically; they never fall with the budget."""
    found = {}
    for w4 in sorted({w4 for _, w4 in measured}):
        known = sorted(k for k, w in measured if w == w4)
        values = np.maximum.accumulate([max(measured[k, w4], floor) for k in reversed(known)])[::-1]
        logs = np.interp(np.array(budgets), known, np.log(values))
        found |= {(k, w4): float(np.exp(log)) for k, log in zip(budgets, logs)}
    return found
