"""OLAccel: nearly everything in four bits, a few outliers in more, and zeros that take no time; see :mod:`golden.olaccel`.

An outlier has the step of the codes around it and more bits above, so sums are those of whole codes and whole weights. Here outlier activations have
eight bits: with a few per cent of outliers that is a range of 16 times theirs, so a variant of 16 bits computes the same. A mode says which
share of a tensor's codes and of a channel's weights are outliers: per layer, where the paper has 3 % [S] everywhere (generous). The first
layer reads ordinary codes of eight bits [S: higher precision]. It gets what SDP gets: channels equalised, weights solved and rounded for what the layer
reads, gain and bias; ranges follow from the shares.

Cost: :func:`golden.olaccel_cycles.ideal` times the normal groups' multipliers: non-zero activations times one or two cycles of their weight
chunks, all groups always busy, or the outlier groups' time if that is longer. Those groups' 17 multipliers of 16 x 4 bits per cluster are not counted.
"""

import functools
from dataclasses import replace

import numpy as np

from compare.layer import ModeLayer, with_mode
from compiler import rounding
from compiler.arithmetic import Arithmetic, reading, rows_of
from compiler.calibration import keeps
from compiler.network import Conv
from compiler.quantize import quantize_layer
from compiler.weights import Alphabet
from golden import olaccel, olaccel_cycles
from sdp.program import Kind

ACTIVATIONS = (10, 20, 30, 50, 80)
"""Outliers among the codes of a tensor, per mille."""
WEIGHTS = (10, 30, 60)
"""Outliers among the weights of an output channel, per mille."""
NOMINAL = 30
"""Both of the paper's [S]."""
ARRAY = olaccel_cycles.Array()
IMAGES = 8
"""That a cost is counted on."""


@functools.cache
def letters(outliers: int) -> Alphabet:
    """Weights of which so many per mille are beyond four bits; all of eight bits if none are to be."""
    values = np.arange(olaccel.WEIGHT_LIMITS[0], olaccel.WEIGHT_LIMITS[1] + 1)
    if not outliers:
        return Alphabet(values, np.array([float(values[-1])]), (1.0, 0.93))
    return Alphabet(values, np.array([7.5]), (1.0,), lambda weight: olaccel.weight_steps(weight.T, outliers / 1000))


class Olaccel(Arithmetic):
    """Modes: outliers per mille among (activations, weights); 0 activations: ordinary codes of 8 bits, in two passes; 0 weights: all of 8 bits."""

    exact = (0, 0)

    def scaled(self, calibration, modes):
        network, most = calibration.network, {}
        for node in reversed(network.nodes):
            outliers = modes.get(node.name, self.exact)[0] if isinstance(node, Conv) and not node.depthwise else 0
            if keeps(network, node):
                outliers = most.get(node.name, 0)
            # Readers that want different shares get the larger one: the finer step.
            most[node.input] = max(outliers, most.get(node.input, 0))
        scales = dict(calibration.scales)
        for name, outliers in most.items():
            if outliers:
                key = name, "outliers", outliers
                if key not in calibration._scales:
                    values, signed = calibration.tensors[name][: calibration.fit], calibration.signed[name]
                    # Codes end at 255 whatever the share; a longer tail takes a larger step.
                    least = float(np.abs(values).max(initial=0)) / (calibration.limits(name)[1] + 0.5)
                    calibration._scales[key] = max(olaccel.activation_step(values, outliers / 1000, signed), least / 2)
                scales[name] = calibration._scales[key]
        for node in network.nodes:
            if keeps(network, node):
                scales[node.name] = scales[node.input]
        return replace(calibration, scales=scales)

    def layer(self, calibration, node, mode):
        layer = quantize_layer(calibration, node, self.config, 2 * self.config.group, False, letters(mode[1]))
        return with_mode(ModeLayer, layer, mode=mode) if layer.kind is Kind.CONV else layer

    def mode(self, layer):
        return layer.mode

    def operands(self, layer, codes):
        return codes

    def fit(self, layer, operands, rows, wanted, node, images):
        return rounding.fit(layer, rows_of(layer, operands, rows), wanted, reading(node), self.config, images, letters(layer.mode[1]))

    def _first(self, names, outliers: int) -> dict:
        return {names[0]: (0, outliers)}

    def nominal(self, calibration, names):
        return dict.fromkeys(names, (NOMINAL, NOMINAL)) | self._first(names, NOMINAL)

    def costs(self, calibration, names):
        nodes, found = {node.name: node for node in calibration.network.nodes}, {}
        for name in names:
            allowed = [(0, w) for w in (0, *WEIGHTS)] if name == names[0] else [self.exact, *((a, w) for a in ACTIVATIONS for w in WEIGHTS)]
            for mode in allowed:
                at = self.scaled(calibration, {name: mode})
                layer, plain = self.layer(at, nodes[name], mode), self._packed(at, nodes[name])
                found[name, mode] = self.ideal(layer, plain)
        return found

    def _packed(self, calibration, node) -> np.ndarray:
        """Codes that a layer reads, of the float network's tensor."""
        network = self.network(calibration, {}) if node.input == calibration.network.input else None
        values = calibration.tensors[node.input][:IMAGES]
        if network:
            return network.pack(network.encode(values))
        low, high = calibration.limits(node.input)
        return np.clip(np.rint(values / calibration.scales[node.input]), low, high).astype(np.int16)

    def counted(self, cost, layers, tensors):
        return sum(self.ideal(layer, tensors[layer.input][:IMAGES]) for layer in layers if layer.kind is Kind.CONV)

    def ideal(self, layer, codes):
        if layer.mode == self.exact:
            return 4 * layer.macs
        place = layer.stride, layer.pad, layer.out_shape[:2]
        if layer.mode[0]:
            work = olaccel_cycles.work(codes, layer.weights, *place, layer.in_signed)
        else:
            work = olaccel_cycles.precise_work(codes, layer.weights, *place)
        normal, outlier = work.normal.sum(axis=1), work.outlier.sum(axis=1)
        return float(np.maximum(normal, outlier * ARRAY.groups).mean()) * olaccel.LANES

    def probes(self):
        return [(a, NOMINAL) for a in (0, *ACTIVATIONS)] + [(30, w) for w in WEIGHTS if w != NOMINAL]

    def completed(self, measured, floor):
        """What the shares of activations and of weights lose adds up."""
        known = {mode: max(loss, floor) for mode, loss in measured.items()}
        if not any(a for a, _ in known):
            return measured
        extra = {w: known[NOMINAL, w] - known[NOMINAL, NOMINAL] for w in WEIGHTS}
        return {(a, w): max(known[a, NOMINAL] + extra[w], floor) for a in ACTIVATIONS for w in WEIGHTS}

    def neighbours(self, mode):
        a, w = mode
        steps = [(other, w) for other in ACTIVATIONS] if a else []
        return [step for step in [*steps, *((a, other) for other in WEIGHTS)] if step != mode]

    def uniform(self, names):
        for a in reversed(ACTIVATIONS):
            yield [dict.fromkeys(names, (a, w)) | self._first(names, w) for w in (60, 30)]
