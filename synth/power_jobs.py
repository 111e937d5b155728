"""What runs while power is measured: a network with images, and of it the layers and modes that keep an array busy."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler import quantize, schedule
from compiler.network import Network
from sdp.config import Config
from sdp.encoding import decode
from sdp.program import Command, Layer
from sim import data, flow
from synth.gate_level import activity
from synth.gate_level.meter import PowerError

LAYERS = 3
"""Of the network, from the first suitable one to the last."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with images: what runs while power is measured."""

    name: str
    network: Network
    calibration: np.ndarray
    images: np.ndarray


def workload(args: argparse.Namespace) -> Workload:
    """The network that was asked for, otherwise the digits of the demonstration."""
    if args.model is None:
        from examples.digits import data as digits
        from examples.digits.demo import MODEL

        split = digits.load()
        return Workload("digits", flow.read(MODEL), split["calibration"].images, split["test"].images)
    if not (args.test and args.calibration):
        raise PowerError("--model needs --test and --calibration, npz files as for 'sdp run'")
    network, preprocess = flow.read(args.model), data.preprocessing(args.preprocess)
    images = [data.load(path, network.input_shape, preprocess, limit=limit, what=what, labels_optional=True).images
              for path, limit, what in ((args.calibration, None, "calibration data"), (args.test, LAYERS, "test data"))]
    stem = args.model.stem if args.model.stem != "model" else args.model.resolve().parent.name
    return Workload(stem, network, *images)


@dataclass(frozen=True, eq=False)
class Job:
    """A layer, by its tag, in the programs of an image, setup among them. ``key``: what it is reported by, if that is not the budget; ``masks``: of DRQ, which of
    the layer's codes (1, h, w, channels) are sensitive, none: all."""

    layer: str
    programs: list[list[Command]]
    key: int | None = None
    masks: np.ndarray | None = None

    @property
    def text(self) -> str:
        layer = next(c for program in self.programs for c in program if isinstance(c, Layer) and c.tag == self.layer)
        return f"{self.layer}, {f'budget {layer.budget}' if self.key is None else self.key}, w{4 if layer.w4 else 8}"


Jobs = Callable[[Config, Workload, list[str]], Iterator[Job]]


def chosen(config: Config, network: Network) -> list[str]:
    """``LAYERS`` of those that keep the array busy, from the first to the last."""
    layers = activity.suitable(network, config)
    return [layers[round(n)] for n in np.linspace(0, len(layers) - 1, min(LAYERS, len(layers)))]


def budgets(config: Config) -> list[int]:
    """Powers of two and all terms."""
    most = 2 * config.group
    return sorted({1 << n for n in range(most.bit_length()) if 1 << n <= most} | {most})


def programs(compiled: schedule.Compiled, image: np.ndarray) -> list[list[Command]]:
    """Setup and the programs of one image (h, w, c); commands of layers have the layers' names as tags."""
    found = [decode(compiled.config, program) for program in flow.programs(compiled, compiled.network.encode(image))]
    names = iter(flow.layer_names(compiled))
    return [[replace(command, tag=next(names)) if isinstance(command, Layer) else command for command in program] for program in found]


def terms(config: Config, work: Workload, layers: list[str]) -> Iterator[Job]:
    """Each layer on an image of its own, at every budget, in both weight modes; all other layers exact, so that its input is the same at every budget."""
    calibration = quantize.calibrate(work.network, work.calibration)
    for n, layer in enumerate(layers):
        for mode in ((budget, w4) for budget in budgets(config) for w4 in (True, False)):
            yield Job(layer, programs(schedule.compile(quantize.quantize(calibration, config, {layer: mode}), config), work.images[n]))
