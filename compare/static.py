"""Static INT4 and INT8: four or eight bits for the activations and for the weights of each layer, chosen once.

The honest rival, with all that the compiler does for SDP: equalised channels, rules for ranges, weights solved and rounded for what the layer really
reads, gain and bias corrected, bits per layer by sensitivity. A tensor that is read in four bits alone is stored in four: 0 ... 15, signed
-7 ... 7. One that an addition or another layer reads whole is stored in eight, and a layer that wants four rounds them on their way in, to
the four bits that suit (generous: that shifter and rounder costs nothing here). Weights of four bits are -8 ... 7, those of eight -127 ... 127.

Cost: ``bits / 4 * weight bits / 4`` nibble products per multiplication; there are no stalls.
"""

from dataclasses import dataclass, replace

import numpy as np

from compare.layer import ModeLayer, with_mode
from compiler import rounding
from compiler.arithmetic import Arithmetic, reading, rows_of
from compiler.calibration import SAMPLES_MASKED, activation_scale, keeps
from compiler.network import Conv
from compiler.quantize import quantize_layer
from compiler.weights import INT4, Alphabet
from sdp.program import Kind

BITS = (8, 4)
RATIOS = np.geomspace(0.06, 1.1, 64)
"""Ranges that are tried for four bits, relative to the largest value."""
WIDER = (0.7, 0.85, 1.2)
"""Ranges of four bits that are tried, relative to what the rule says."""
DROPS = (0, 1, 2, 3, 4)
"""Low bits of an eight-bit code that may be rounded away."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StaticLayer(ModeLayer):
    """``mode``: (bits of activations, bits of weights); ``drop``: bits that are rounded away before a code of four is read."""

    drop: int = 0


def narrowed(codes: np.ndarray, drop: int, limit: int) -> np.ndarray:
    """Codes rounded to multiples of ``2**drop``, halves away from zero, their magnitudes at most ``limit << drop``."""
    magnitude = np.abs(codes)
    rounded = np.minimum(magnitude + (1 << drop >> 1) >> drop, limit) << drop
    return np.where(codes < 0, -rounded, rounded).astype(codes.dtype)


def limit_of(signed: bool) -> int:
    return 7 if signed else 15


class Static(Arithmetic):
    """Modes: (bits of activations, bits of weights)."""

    exact = (8, 8)

    def __init__(self, config, wider: float = 1.0):
        super().__init__(config)
        self.wider = wider

    def __str__(self):
        return f"ranges x {self.wider:g}"

    def variants(self):
        return [Static(self.config, wider) for wider in WIDER]

    def scaled(self, calibration, modes):
        network, four = calibration.network, set()
        whole = {node.residual for node in network.nodes if node.residual is not None}
        for node in reversed(network.nodes):
            if keeps(network, node):
                for names in (four, whole):
                    names |= {node.input} if node.name in names else set()
            elif isinstance(node, Conv) and not node.depthwise and modes.get(node.name, self.exact)[0] == 4:
                four.add(node.input)
            else:
                whole.add(node.input)
        narrow = four - whole
        scales = dict(calibration.scales)
        for name in four:
            scales[name] = self._scale(calibration, name, name in narrow)
        for node in network.nodes:
            if keeps(network, node):
                scales[node.name] = scales[node.input]
                narrow -= set() if node.input in narrow else {node.name}
        return replace(calibration, scales=scales, narrow=frozenset(narrow))

    def _scale(self, calibration, name: str, narrow: bool) -> float:
        """By the rule of the calibration, times :attr:`wider`; ``masked``: the least squared error of what is read."""
        if calibration.ranges != "masked" and not narrow:
            return calibration.scales[name]
        key, signed = (name, "static", narrow, calibration.ranges), calibration.signed[name]
        if key not in calibration._scales:
            values = calibration.tensors[name][: calibration.fit]
            if calibration.ranges != "masked":
                found = activation_scale(values, signed, calibration.ranges, limit_of(signed))
            else:
                found = least_error(values, signed, narrow)
            calibration._scales[key] = found
        return calibration._scales[key] * self.wider

    def layer(self, calibration, node, mode):
        layer = quantize_layer(calibration, node, self.config, 2 * self.config.group, False, self.letters(mode))
        if layer.kind is not Kind.CONV:
            return layer
        drop = 0 if mode[0] == 8 or node.input in calibration.narrow else self._drop(calibration, node.input)
        return with_mode(StaticLayer, layer, mode=mode, drop=drop)

    def _drop(self, calibration, name: str) -> int:
        """The bits to drop with the least squared error."""
        values, signed, scale = samples(calibration.tensors[name][: calibration.fit]), calibration.signed[name], calibration.scales[name]
        codes = np.minimum(np.rint(values / scale), 127 if signed else 255).astype(np.int16)
        return min(DROPS, key=lambda drop: float(np.square(values - narrowed(codes, drop, limit_of(signed)) * scale).mean()))

    @staticmethod
    def letters(mode) -> Alphabet | None:
        return INT4 if mode[1] == 4 else None

    def mode(self, layer):
        return layer.mode

    def operands(self, layer, codes):
        return codes if layer.mode[0] == 8 else narrowed(codes, layer.drop, limit_of(layer.in_signed))

    def fit(self, layer, operands, rows, wanted, node, images):
        return rounding.fit(layer, rows_of(layer, operands, rows), wanted, reading(node), self.config, images, self.letters(layer.mode))

    def nominal(self, calibration, names):
        return dict.fromkeys(names, (4, 4)) | dict.fromkeys((names[0], names[-1]), self.exact)

    def costs(self, calibration, names):
        plain = self.network(calibration, {})
        return {(layer.name, mode): layer.macs * mode[0] * mode[1] // 16 for layer in plain.layers if layer.name in names
                for mode in [self.exact, *self.probes()]}

    def ideal(self, layer, codes):
        return layer.macs * layer.mode[0] * layer.mode[1] // 16

    def probes(self):
        return [(a, w) for a in BITS for w in BITS if (a, w) != self.exact]

    def neighbours(self, mode):
        return [other for other in [self.exact, *self.probes()] if other != mode]

    def uniform(self, names):
        """The first and the last layer exact, or with weights of four bits, or like all others."""
        ends = [dict.fromkeys((names[0], names[-1]), mode) for mode in [self.exact, (8, 4), (4, 4)]]
        yield [dict.fromkeys(names, mode) | kept for mode in [(8, 4), (4, 8)] for kept in ends[:2]]
        yield [dict.fromkeys(names, (4, 4)) | kept for kept in ends]


def samples(values: np.ndarray) -> np.ndarray:
    """Magnitudes of some of a tensor's values, float32."""
    values = values.ravel()
    return np.abs(values[:: -(-values.size // SAMPLES_MASKED)].astype(np.float32))


def least_error(values: np.ndarray, signed: bool, narrow: bool) -> float:
    """The scale with the least squared error of four bits, plus that of whole codes where those are read, too."""
    values = samples(values)
    peak, limit, top = float(values.max(initial=0)), limit_of(signed), 127 if signed else 255
    if peak == 0:
        return 1.0

    def error(scale: float, drop: int) -> float:
        codes = np.minimum(np.rint(values / np.float32(scale)), limit if narrow else top).astype(np.int16)
        lost = np.square(values - narrowed(codes, drop, limit) * np.float32(scale)).mean()
        return float(lost) + (0 if narrow else float(np.square(values - codes * np.float32(scale)).mean()))

    tried = [(peak * ratio / (limit << drop), drop) for ratio in RATIOS for drop in ((0,) if narrow else DROPS[2:])]
    return min(tried, key=lambda item: error(*item))[0]
