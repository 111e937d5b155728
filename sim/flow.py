"""From an ONNX file to a compiled network, as ``sdp run`` does it: the one place that knows how the compiler is called."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from compiler import flow as optimizer
from compiler import onnx_import, quantize, schedule
from compiler.loss import Bound
from compiler.network import Network, NetworkError
from compiler.quantized import QuantizedNetwork, accumulate, finish, run
from golden.machine import Machine
from golden.parallel import one_blas_thread
from golden.weights import allowed
from sdp import UserError
from sdp.config import Config
from sdp.encoding import encode

BATCH = 64
"""Images at once in the float executor: bounds its memory."""


class FlowError(UserError):
    """A network or calibration data that cannot be used."""


@dataclass(frozen=True, eq=False)
class Point:
    """One network that the search measured: ``loss`` in percentage points of accuracy expected to be lost on calibration data."""

    cycles: int
    loss: float
    divergence: float


@dataclass(frozen=True, eq=False)
class Chosen:
    """``sdp``: the network with the modes that the search found; ``exact``: all terms, weights of two digits; ``curve``: the trade-off;
    ``reference``: the float network with channels scaled and ordered as those of ``sdp`` are; ``trials``: what was tried for that."""

    sdp: QuantizedNetwork
    exact: QuantizedNetwork
    reference: Network
    curve: list[Point]
    trials: list[optimizer.Trial]


def read(model: str | Path) -> Network:
    """The float network in an ONNX file."""
    if not Path(model).is_file():
        raise FlowError(f"model {Path(model).name!r}: there is no file {model}")
    try:
        return onnx_import.read(model)
    except NetworkError as error:
        raise FlowError(str(error)) from None


def choose(network: Network, images: np.ndarray, labels: np.ndarray | None, config: Config, max_loss: float, progress: Progress | None = None) -> Chosen:
    """Quantise, and choose budgets and weight modes; ``max_loss`` beyond exact 8 bit, in percentage points of accuracy;
    0 is exact 8 bit.

    A network that was trained for its modes keeps them, its weights and its scales: nothing is searched.
    """
    try:
        calibration = quantize.calibrate(network, images)
        exact = quantize.quantize(calibration, config)
        if network.modes:
            return Chosen(trained(calibration, config), exact, network, [], [])
        if not max_loss:
            return Chosen(exact, exact, network, [], [])
        # One thread, so that sums are rounded alike, and the same modes are found, whatever the number of cores.
        with one_blas_thread():
            found = optimizer.optimize(network, images, labels, config, lambda layer: schedule.cycles(config, layer), Bound(points=max_loss),
                                       progress=progress)
    except NetworkError as error:
        raise FlowError(str(error)) from None
    curve = [Point(point.cycles, point.loss.points, point.loss.divergence) for point in found.tradeoff.points]
    return Chosen(found.network, exact, found.arranged.network, curve, found.arranged.trials)


def trained(calibration: quantize.Calibration, config: Config) -> QuantizedNetwork:
    """The integers of a network that was trained for its modes."""
    modes, most = calibration.network.modes, 2 * config.group
    if large := {name: budget for name, (budget, _) in modes.items() if budget > most}:
        name, budget = next(iter(large.items()))
        raise NetworkError(f"network {calibration.network.name!r}: {name!r} was trained for a budget of {budget}, {config.name!r} has 1 ... {most}: "
                           "use a configuration with the group that it was trained for")
    for node in calibration.network.nodes:
        codes, w4 = (node.weight_codes, modes[node.name][1]) if node.name in modes else (None, False)
        values = allowed(config, w4)
        if codes is not None and (strange := codes[~np.isin(codes, values)]).size:
            raise NetworkError(f"network {calibration.network.name!r}: {node.name!r} was trained with a weight of {strange[0]}, {'w4' if w4 else 'w8'} weights of "
                               f"{config.name!r} reach from {values[0]} to {values[-1]}: use a configuration with the array that it was trained for")
    return quantize.quantize(calibration, config, modes)


def compile(network: QuantizedNetwork, config: Config) -> schedule.Compiled:
    try:
        return schedule.compile(network, config)
    except NetworkError as error:
        raise FlowError(str(error)) from None


def logits(network: QuantizedNetwork, images: np.ndarray, config: Config) -> np.ndarray:
    """Output codes (n, outputs) of the integer model, for images (n, h, w, c)."""
    last = network.layers[-1].name
    return run(network, network.encode(images), config.group, {last})[last].reshape(len(images), -1)


def programs(compiled: schedule.Compiled, codes: np.ndarray, trace: bool = False) -> list[bytes]:
    """Setup and the programs of one frame; codes (h, w, c)."""
    config = compiled.config
    frame = compiled.run_golden(Machine(config), codes[None], trace)
    tensors = {name: tensor[0] for name, tensor in frame.tensors.items()}
    return [encode(config, compiled.setup()), *compiled.programs(tensors, trace)]


def layer_names(compiled: schedule.Compiled) -> list[str]:
    """Names of the layers that the layer commands of a frame belong to."""
    return [part.layer.name for part in compiled.parts]


def noise(network: Network, quantized: QuantizedNetwork, images: np.ndarray, config: Config) -> dict[str, tuple[float, float]]:
    """Signal-to-noise ratios in dB of every layer against the float network: (of its output, of what it adds itself).

    The second is that of the integer layer on the float network's tensors, rounded to codes: how good the layer would be
    if all before it were perfect. The lowest ones are where accuracy is lost.
    """
    powers = {layer.name: np.zeros(3) for layer in quantized.layers}
    for begin in range(0, len(images), BATCH):
        batch = images[begin : begin + BATCH]
        wanted = network.run(batch)
        whole = run(quantized, quantized.encode(batch), config.group)
        rounded = {quantized.input: quantized.pack(quantized.encode(batch))}
        for layer in quantized.layers:
            low, high = layer.clamp
            rounded[layer.name] = np.clip(np.rint(wanted[layer.name] / layer.out_scale), low, high).astype(np.int16)
        for layer in quantized.layers:
            alone = finish(layer, accumulate(layer, rounded[layer.input], config.group), rounded)
            target = wanted[layer.name].astype(np.float64)
            powers[layer.name] += [np.square(values).sum() for values in
                                   (target, target - whole[layer.name] * layer.out_scale, target - alone * layer.out_scale)]
    return {name: (_decibel(signal, accumulated), _decibel(signal, own)) for name, (signal, accumulated, own) in powers.items()}


def _decibel(signal: float, error: float) -> float:
    """Kept within 0 ... 120, so that it is a number for silent and for exact layers, too."""
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(error, 1e-30)), -120, 120))
