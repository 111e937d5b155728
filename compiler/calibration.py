"""The float network on calibration images: every tensor, and the scale of its codes by one of four rules."""

from dataclasses import dataclass, field, replace

import numpy as np

from compiler.network import Conv, Network, Node, Pool, before_relu
from golden import term_select

SAMPLES = 100_000
"""Values of a tensor that its scale is fitted to."""
SAMPLES_MASKED = 24_000
"""The same where every scale takes a selection."""
ROWS = 24_576
"""Output pixels of a layer that its weights and corrections are fitted to."""
PIXELS = 64
"""Of them, in one image at most."""
PERCENTILE = 99.99
RANGES = ("peak", "percentile", "error", "masked")
"""Rules for the scale: the largest value, a percentile, the least squared error, the least squared error after the selection."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Every tensor (n, h, w, c), the scale of its codes and whether they are signed.

    ``fit``: the first images, which layers are fitted to; those behind them are only to measure losses on. ``ranges``: the rule that
    the scales follow; by ``masked`` they depend on the budgets, see :meth:`at`. ``temperature``: of the network's probabilities, see
    :mod:`compiler.loss`. ``narrow``: tensors whose codes have four bits.
    """

    network: Network
    tensors: dict[str, np.ndarray]
    scales: dict[str, float]
    signed: dict[str, bool]
    fit: int
    ranges: str = "masked"
    temperature: float = 1.0
    narrow: frozenset[str] = frozenset()
    _scales: dict[tuple, float] = field(default_factory=dict, repr=False)
    _wanted: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def at(self, modes: dict[str, tuple[int, bool]], group: int) -> "Calibration":
        """With the scales that suit these (budget, w4) of layers, by name; layers that it does not name read whole codes."""
        if self.ranges != "masked":
            return self
        budgets, whole = {}, {node.residual for node in self.network.nodes}
        for node in reversed(self.network.nodes):
            if keeps(self.network, node):
                budget = budgets.get(node.name, 2 * group)
            else:
                budget = modes.get(node.name, (2 * group, False))[0] if isinstance(node, Conv) and not node.depthwise else 2 * group
            if not isinstance(node, Conv) or node.depthwise:
                whole.add(node.input)
            budgets[node.input] = min(budget, budgets.get(node.input, 2 * group))
        scales = dict(self.scales)
        for name in scales:
            if name not in self.network.codes and budgets.get(name, 2 * group) < 2 * group:
                key = name, budgets[name], name in whole, group
                if key not in self._scales:
                    self._scales[key] = masked_scale(self.tensors[name][: self.fit], self.signed[name], *key[1:])
                scales[name] = self._scales[key]
        for node in self.network.nodes:
            if keeps(self.network, node):
                scales[node.name] = scales[node.input]
        return replace(self, scales=scales)

    def limits(self, name: str) -> tuple[int, int]:
        """Lowest and highest code of a tensor."""
        if name in self.network.codes:
            return self.network.codes[name].low, self.network.codes[name].high
        if name in self.narrow:
            return (-7, 7) if self.signed[name] else (0, 15)
        return (-127, 127) if self.signed[name] else (0, 255)

    def rows(self, node: Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Output pixels (image, y, x) that a layer is fitted to: always the same ones."""
        _, height, width, _ = self.tensors[node.name].shape
        total = self.fit * height * width
        count = min(total, ROWS, self.fit * PIXELS)
        at = np.arange(total) if total == count else np.sort(np.random.default_rng(total).choice(total, count, replace=False))
        return at // (height * width), at // width % height, at % width

    def wanted(self, node: Node) -> np.ndarray:
        """What the float node yields at :meth:`rows` before its ReLU, (rows, channels)."""
        if node.name not in self._wanted:
            sources = {name: self.tensors[name][: self.fit] for name in (node.input, node.residual) if name is not None}
            self._wanted[node.name] = before_relu(node, sources)[self.rows(node)]
        return self._wanted[node.name]


def signs(network: Network, tensors: dict[str, np.ndarray]) -> dict[str, bool]:
    """Which tensors have signed codes: those without a ReLU, and an input that is somewhere negative."""
    signed = {network.input: bool(tensors[network.input].min() < 0)}
    for node in network.nodes:
        sources = signed[node.input] or (node.residual is not None and signed[node.residual])
        signed[node.name] = not node.relu and (isinstance(node, Conv) or sources)
    return signed | {name: codes.signed for name, codes in network.codes.items()}


def keeps(network: Network, node: Node) -> bool:
    """A maximum has codes of its input's scale."""
    return isinstance(node, Pool) and node.kind == "max" and node.residual is None and node.name not in network.codes


def calibrate(network: Network, images: np.ndarray, ranges: str = "masked", fit: int | None = None, temperature: float = 1.0) -> Calibration:
    """The network on ``images`` (n, h, w, c).

    Parameters
    ----------
    ranges : one of :data:`RANGES`; tensors that came quantised keep their scale
    fit : as in :class:`Calibration`, all images if none
    """
    if ranges not in RANGES:
        raise ValueError(f"ranges = {ranges!r}, but must be one of {', '.join(RANGES)}")
    tensors = network.run(images)
    fit = len(images) if fit is None else fit
    signed = signs(network, tensors)

    def scale(name: str) -> float:
        return network.codes[name].scale if name in network.codes else activation_scale(tensors[name][:fit], signed[name], ranges)

    scales = {network.input: scale(network.input)}
    for node in network.nodes:
        scales[node.name] = scales[node.input] if keeps(network, node) else scale(node.name)
    return Calibration(network, tensors, scales, signed, fit, ranges, temperature)


def activation_scale(values: np.ndarray, signed: bool, ranges: str = "error", limit: int | None = None) -> float:
    """The scale of a tensor that is read as a whole; 1 for a tensor of zeros. ``limit``: largest code, if not that of eight bits."""
    values = values.ravel()[:: -(-values.size // SAMPLES)].astype(np.float64)
    values, limit = np.abs(values), limit or (127 if signed else 255)
    peak = float(values.max(initial=0))
    if peak == 0:
        return 1.0
    if ranges == "peak":
        return peak / limit
    if ranges == "percentile":
        return max(float(np.percentile(values, PERCENTILE)), peak / 1000) / limit
    # Below `limit`: whole numbers of steps to the peak, which meet values that are integers already; above it: the range is clipped.
    steps = np.concatenate([np.arange(limit, limit * 3 // 4, -1), limit / np.linspace(0.98, 0.4, 40)])
    errors = [np.square(values - np.minimum(np.rint(values * n / peak), limit) * (peak / n)).mean() for n in steps]
    return peak / float(steps[np.argmin(errors)])


def masked_scale(values: np.ndarray, signed: bool, budget: int, whole: bool, group: int) -> float:
    """The scale with the least squared error of what the selection leaves, plus that of whole codes if these are read, too."""
    channels, limit = values.shape[-1], 127 if signed else 255
    values = values.reshape(-1, channels)
    values = np.abs(values[:: -(-values.size // SAMPLES_MASKED)].astype(np.float32))
    values = np.pad(values, ((0, 0), (0, -channels % group)))
    peak = float(values.max(initial=0))
    if peak == 0:
        return 1.0
    # A range that is not used up leaves more codes in one nibble.
    steps = limit / np.geomspace(0.35, 9, 48)

    def error(n: float) -> float:
        codes = np.minimum(np.rint(values * np.float32(n / peak)), limit)
        masked = term_select.select(codes.astype(np.int16), budget, group)[0]
        step = np.float32(peak / n)
        return float(np.square(values - masked * step).mean()) + whole * float(np.square(values - codes * step).mean())

    return peak / float(steps[np.argmin([error(n) for n in steps])])
