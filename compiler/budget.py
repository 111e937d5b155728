"""Budgets and weight modes of all layers: the fewest cycles at a bounded loss on calibration images.

Greedy: of all single steps (a smaller budget or one digit per weight, in one layer) take the one that saves the most cycles per loss,
until every further step would pass the bound. The loss is the Kullback-Leibler divergence of the network's class probabilities from
the float network's, a finer measure than accuracy; labels are not needed and the test set is never looked at.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from compiler import correction
from compiler.quantize import Calibration, quantize, quantize_layer
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from sdp.config import Config
from sdp.program import Kind

Mode = tuple[int, bool]
"""(budget, w4)"""
FLOOR = 1e-6
"""Smallest increase of the loss that is told from none."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """``divergence``: mean over images, in nats; ``disagreement``: share of images whose top class is not the float network's."""

    divergence: float = 0.02
    disagreement: float = 0.005


@dataclass(frozen=True)
class Loss:
    divergence: float
    disagreement: float

    def within(self, bound: Bound) -> bool:
        return self.divergence <= bound.divergence and self.disagreement <= bound.disagreement


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


class _State:
    """The network so far, with the codes of every tensor on the calibration images; a change recomputes what comes after it."""

    def __init__(self, calibration: Calibration, config: Config, correct: bool):
        self.calibration, self.config, self.correct = calibration, config, correct
        plain = quantize(calibration, config)
        self.plain, self.modes = plain, {layer.name: (layer.budget, layer.w4) for layer in plain.layers if layer.kind is Kind.CONV}
        self.scales = {plain.input: plain.input_scale} | {layer.name: layer.out_scale for layer in plain.layers}
        self.tensors = {plain.input: plain.pack(plain.encode(calibration.tensors[plain.input]))}
        self.wanted = log_softmax(calibration.tensors[plain.layers[-1].name].reshape(len(calibration.tensors[plain.input]), -1))
        self.loss, self.layers, self.tensors = self.attempt({})

    def attempt(self, changes: dict[str, Mode]) -> tuple[Loss, list[QuantizedLayer], dict[str, np.ndarray]]:
        """Loss, layers and tensors with these modes changed; the state stays as it is."""
        tensors, layers, dirty = dict(self.tensors), [], not changes
        for at, plain in enumerate(self.plain.layers):
            dirty = dirty or plain.name in changes
            if not dirty:
                layers.append(self.layers[at])
                continue
            node = self.calibration.network.nodes[at]
            mode = changes.get(plain.name, self.modes.get(plain.name))
            layer = quantize_layer(self.calibration, node, self.config, *mode) if mode else plain
            layer, tensors[plain.name] = correction.step(layer, tensors, self.calibration, self.scales, self.config, self.correct)
            layers.append(layer)
        logits = tensors[layer.name] * layer.out_scale
        seen = log_softmax(logits.reshape(len(logits), -1))
        divergence = float((np.exp(self.wanted) * (self.wanted - seen)).sum(axis=1).mean())
        return Loss(divergence, float((seen.argmax(axis=1) != self.wanted.argmax(axis=1)).mean())), layers, tensors

    def take(self, changes: dict[str, Mode], result) -> None:
        self.modes |= changes
        self.loss, self.layers, self.tensors = result


def choose(calibration: Calibration, config: Config, cycles: Callable[[QuantizedLayer], int], bound: Bound = Bound(), *,
           allow_w4: bool = True, correct: bool = True, progress: Progress | None = None) -> QuantizedNetwork:
    """The network with the modes that were found, corrected by :mod:`compiler.correction` if ``correct``.

    Parameters
    ----------
    cycles : cycles of a layer at its budget and weight mode
    progress : shows the search, if given
    """
    state = _State(calibration, config, correct)
    by_name = {node.name: node for node in calibration.network.nodes}
    costs: dict[tuple[str, Mode], int] = {}

    def cost(name: str, mode: Mode) -> int:
        if (name, mode) not in costs:
            costs[name, mode] = cycles(quantize_layer(calibration, by_name[name], config, *mode))
        return costs[name, mode]

    def steps(name: str) -> list[Mode]:
        """The next smaller budget that saves cycles, and one digit per weight."""
        budget, w4 = state.modes[name]
        now = cost(name, (budget, w4))
        found = [(k, w4) for k in range(budget - 1, 0, -1) if cost(name, (k, w4)) < now][:1]
        return found + [(budget, True)] * (allow_w4 and not w4 and cost(name, (budget, True)) < now)

    # Lazily: a step's gain is measured again when it comes to the top, and taken if it then still is the best.
    taken, queue = 0, []

    def push(name: str, mode: Mode) -> None:
        result = state.attempt({name: mode})
        if result[0].within(bound):
            saved = cost(name, state.modes[name]) - cost(name, mode)
            gain = saved / max(result[0].divergence - state.loss.divergence, FLOOR)
            heapq.heappush(queue, (-gain, name, mode, taken, result))

    everything = sum(cost(name, mode) for name, mode in state.modes.items())
    task = progress.add_task("budgets", total=None) if progress else None
    for name in state.modes:
        for mode in steps(name):
            push(name, mode)
    while queue:
        _, name, mode, measured, result = heapq.heappop(queue)
        if mode not in steps(name):
            continue
        if measured != taken:
            push(name, mode)
            continue
        state.take({name: mode}, result)
        taken += 1
        for mode in steps(name):
            push(name, mode)
        if progress:
            faster = everything / sum(cost(name, mode) for name, mode in state.modes.items())
            progress.update(task, advance=1, description=f"{faster:.2f} times fewer cycles, divergence {state.loss.divergence:.4f}")
    network = state.plain
    for layer in state.layers:
        network = network.replace(layer)
    return network
