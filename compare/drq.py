"""DRQ: regions of a channel whose mean is large are computed in 8 x 8 bits, all others in 4 x 4; see Song et al., ISCA 2020.

A region of y * x pixels is sensitive if the sum of its magnitudes is at least ``threshold * y * x``; pixels that it lacks at the border count as zero
[A]. Sensitive codes are multiplied with whole weights, of the others the high nibble with the high digit of the weight:
``golden.drq_array.accumulate``. A weight is ``16 * high + low``, signed digits -8 ... 7, so its high digit is its rounded top nibble (generous).
The first and the last layer are sensitive everywhere [A].

DRQ gets what SDP gets: equalised channels, rules for ranges (also one that knows what the mask leaves), high digits solved and rounded for what the
layer reads and low digits for what is left where it is sensitive, gain and bias, thresholds per layer by sensitivity (the paper has one
per network) and a mask for each layer that reads a tensor. The threshold of a mode counts in steps of the scale before
the ranges are fitted to the mask; a layer's ``threshold`` is in steps of its own.

Cost: 1 nibble product per multiplication, 4 where it is sensitive: ideal, no stalls.
"""

from dataclasses import dataclass, replace

import numpy as np

from compare.layer import ModeLayer, used_share, with_mode
from compiler import rounding
from compiler.arithmetic import Arithmetic, interpolated, reading, rows_of
from compiler.calibration import Calibration, activation_scale, keeps
from compiler.network import Conv
from compiler.quantize import quantize_layer
from compiler.quantized import QuantizedLayer, QuantizedNetwork, sums
from compiler.weights import FITTED, INT4, Alphabet
from golden import drq_array
from golden.parallel import over_images
from sdp.program import Kind

HIGH = Alphabet(16 * INT4.values, 16 * INT4.peaks, FITTED)
"""Weights that are high digits alone."""
WHOLE = Alphabet(np.arange(-128, 120), np.array([119.0]), (1.0, 0.93))
"""All that two digits can stand for."""
REGIONS = ((2, 4), (1, 1), (2, 2), (4, 4), (8, 8), (4, 8), (4, 16))
"""Pixels (rows, columns): three of the paper's, and squares."""
THRESHOLDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
PROBES = (2, 6, 16, 48, 256)
UNIFORM = ((4, 8), (12, 16), (24, 32), (48, 64), (96, 256))
SENSITIVE = 0.1
"""Share of multiplications in 8 bit at which regions and ranges are compared."""
RATIOS = np.geomspace(0.35, 2, 24)
"""Scales that are tried, relative to the one of whole codes."""
MEASURED = 256
"""Images that the cost of a measured network is counted on."""
IMAGES = 48
"""That shares are counted on before a network is measured."""
SCALED = 12
"""Images that scales are fitted to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrqLayer(ModeLayer):
    """``mode``: threshold in the search's units; ``threshold``: in codes, 0: sensitive everywhere; ``region``: (rows, columns)."""

    threshold: int
    region: tuple[int, int]


def mask(codes: np.ndarray, threshold: int, region: tuple[int, int]) -> np.ndarray:
    """Which codes (n, h, w, c) are sensitive, bool."""
    (n, h, w, c), (rows, columns) = codes.shape, region
    if threshold == 0:
        return np.ones(codes.shape, dtype=bool)
    padded = np.pad(np.abs(codes).astype(np.int32), ((0, 0), (0, -h % rows), (0, -w % columns), (0, 0)))
    total = padded.reshape(n, padded.shape[1] // rows, rows, padded.shape[2] // columns, columns, c).sum(axis=(2, 4))
    return (total >= threshold * rows * columns).repeat(rows, axis=1).repeat(columns, axis=2)[:, :h, :w]


def high_nibble(codes: np.ndarray) -> np.ndarray:
    """``16 * (|code| >> 4)`` with the sign of the code."""
    top = np.abs(codes) & 0xF0
    return np.where(codes < 0, -top, top).astype(codes.dtype)


class Drq(Arithmetic):
    """Modes: thresholds."""

    exact = 0

    def __init__(self, config, region: tuple[int, int] = REGIONS[0]):
        super().__init__(config)
        self.region = region

    def __str__(self):
        return f"{self.region[0]}x{self.region[1]}"

    def variants(self):
        return [Drq(self.config, region) for region in REGIONS if region != self.region]

    def scaled(self, calibration, modes):
        if calibration.ranges != "masked":
            return calibration
        lowest, whole = {}, {node.residual for node in calibration.network.nodes}
        for node in reversed(calibration.network.nodes):
            threshold = modes.get(node.name, 0) if isinstance(node, Conv) and not node.depthwise else 0
            if keeps(calibration.network, node):
                threshold = 0 if node.name in whole else lowest.get(node.name, 0)
            whole |= {node.input} if not threshold else set()
            if threshold:
                lowest[node.input] = min(threshold, lowest.get(node.input, threshold))
        scales = dict(calibration.scales)
        for name, threshold in lowest.items():
            self._reference(calibration, name)
            key = name, "drq", self.region, threshold, name in whole
            if key not in calibration._scales:
                values = calibration.tensors[name][: min(calibration.fit, SCALED)]
                calibration._scales[key] = self._scale(values, calibration.signed[name], scales[name], threshold, name in whole)
            scales[name] = calibration._scales[key]
        for node in calibration.network.nodes:
            if keeps(calibration.network, node):
                scales[node.name] = scales[node.input]
        return replace(calibration, scales=scales)

    def _scale(self, values: np.ndarray, signed: bool, reference: float, threshold: int, whole: bool) -> float:
        """The scale with the least squared error of what the mask leaves, plus that of whole codes if these are read, too."""
        limit = 127 if signed else 255
        values = values.astype(np.float32)

        def error(scale: float) -> float:
            codes = np.clip(np.rint(values / np.float32(scale)), -limit if signed else 0, limit).astype(np.int16)
            seen = np.where(mask(codes, in_codes(threshold, reference, scale), self.region), codes, high_nibble(codes))
            error = np.square(values - seen * np.float32(scale)).mean()
            return float(error) + whole * float(np.square(values - codes * np.float32(scale)).mean())

        return min((reference * ratio for ratio in RATIOS), key=error)

    def layer(self, calibration, node, mode):
        layer = quantize_layer(calibration, node, self.config, 2 * self.config.group, False, HIGH if mode else WHOLE)
        if layer.kind is not Kind.CONV:
            return layer
        threshold = in_codes(mode, self._reference(calibration, node.input), calibration.scales[node.input])
        return with_mode(DrqLayer, layer, mode=mode, threshold=threshold, region=self.region)

    @staticmethod
    def _reference(calibration: Calibration, name: str) -> float:
        """The scale of whole codes, whatever the modes."""
        if calibration.ranges != "masked":
            return calibration.scales[name]
        key = name, "whole"
        if key not in calibration._scales:
            calibration._scales[key] = activation_scale(calibration.tensors[name][: calibration.fit], calibration.signed[name])
        return calibration._scales[key]

    def mode(self, layer):
        return layer.mode

    def operands(self, layer, codes):
        """(codes, which of them are sensitive; none: all)."""
        return codes, mask(codes, layer.threshold, layer.region) if layer.threshold else None

    def sums(self, layer, operands, dtype=np.int64):
        codes, sensitive = operands
        if sensitive is None:
            return sums(layer, codes, dtype)
        place = layer.stride, layer.pad, layer.out_shape[:2]
        return np.concatenate(over_images(lambda at: drq_array.accumulate(codes[at], sensitive[at], layer.weights, *place), len(codes)))

    def fit(self, layer, operands, rows, wanted, node, images):
        codes, sensitive = operands
        weight = reading(node)
        if sensitive is None:
            return rounding.fit(layer, rows_of(layer, codes, rows), wanted, weight, self.config, images, WHOLE)
        inputs = rows_of(layer, codes * sensitive, rows)
        both = rows_of(layer, np.where(sensitive, codes, high_nibble(codes)), rows)
        layer = rounding.fit(layer, both, wanted, weight, self.config, images, HIGH)
        high = layer.weights.reshape(weight.shape).astype(np.float32)
        # What the high digits leave, by the low digits where codes are whole; elsewhere they do not count.
        left = (wanted / (layer.in_scale * layer.weight_scale)).astype(np.float32) - both.astype(np.float32) @ high
        low = np.clip(weight / layer.weight_scale - high, -8, 7)
        inputs = inputs.astype(np.float32)
        hessian = rounding.hessian_of(inputs)
        if images is not None:
            ridge = rounding.RIDGE + rounding.SCARCE * len(weight) / min(len(inputs), rounding.PIXELS * images)
            low = rounding.solve(inputs, left, low, hessian, ridge)
        low = rounding.feedback(low, hessian, np.ones(low.shape[1]), INT4)
        return replace(layer, weights=np.maximum(layer.weights + low.reshape(layer.weights.shape), WHOLE.values[0]))

    def nominal(self, calibration, names):
        """The threshold of all layers at which a tenth of the work is sensitive."""
        inner = [layer for layer in self._plain(calibration) if layer.name in names[1:-1]]
        low, high, total = 1, 256, sum(layer.macs for layer in inner)
        while low < high:
            middle = (low + high) // 2
            costs = self._threshold_costs(calibration, inner, (middle,))
            low, high = (middle + 1, high) if sum(costs.values()) > (1 + 3 * SENSITIVE) * total else (low, middle)
        return dict.fromkeys(names, low) | dict.fromkeys((names[0], names[-1]), self.exact)

    def _plain(self, calibration: Calibration) -> tuple[QuantizedLayer, ...]:
        """Layers before anything is masked."""
        return self.network(calibration, {}).layers

    def _threshold_costs(self, calibration, layers, thresholds) -> dict:
        found, images = {}, slice(0, min(calibration.fit, IMAGES))
        for layer in layers:
            low, high = calibration.limits(layer.input)
            codes = np.clip(np.rint(calibration.tensors[layer.input][images] / layer.in_scale), low, high).astype(np.int16)
            for threshold in thresholds:
                found[layer.name, threshold] = layer.macs * (1 + 3 * used_share(layer, mask(codes, threshold, self.region)))
        return found

    def costs(self, calibration, names):
        plain = [layer for layer in self._plain(calibration) if layer.name in names]
        inner = self._threshold_costs(calibration, [layer for layer in plain if layer.name in names[1:-1]], THRESHOLDS[1:])
        return inner | {(layer.name, self.exact): 4 * layer.macs for layer in plain}

    def counted(self, cost, layers, tensors):
        return sum(self.ideal(layer, tensors[layer.input][:MEASURED]) for layer in layers if layer.kind is Kind.CONV)

    def ideal(self, layer, codes):
        share = used_share(layer, mask(codes, layer.threshold, layer.region)) if layer.threshold else 1.0
        return layer.macs * (1 + 3 * share)

    def probes(self):
        return list(PROBES)

    def completed(self, measured, floor):
        rank = {threshold: len(THRESHOLDS) - at for at, threshold in enumerate(THRESHOLDS)}
        found = interpolated({(rank[t], False): loss for t, loss in measured.items()}, range(1, len(THRESHOLDS)), floor)
        return {threshold: found[rank[threshold], False] for threshold in THRESHOLDS[1:]}

    def neighbours(self, mode):
        at = THRESHOLDS.index(mode)
        return [THRESHOLDS[i] for i in (at - 3, at - 1, at + 1, at + 3) if 0 <= i < len(THRESHOLDS)]

    def preference(self, mode):
        return mode

    def uniform(self, names):
        ends = dict.fromkeys((names[0], names[-1]), self.exact)
        for group in UNIFORM:
            yield [dict.fromkeys(names, threshold) | ends for threshold in group]


def in_codes(threshold: int, reference: float, scale: float) -> int:
    """A threshold in steps of ``reference`` in those of ``scale``; 0 stays what it is, nothing else becomes it."""
    return max(1, round(threshold * reference / scale)) if threshold else 0


def masks(network: QuantizedNetwork, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which input codes of each convolution are sensitive, bool (n, h, w, c), for all tensors as :meth:`Arithmetic.run` yields them."""
    return {layer.name: mask(tensors[layer.input], layer.threshold, layer.region) for layer in network.layers if layer.kind is Kind.CONV}
