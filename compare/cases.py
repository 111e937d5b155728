"""The networks that are compared, with their data: the shared ones, which lie beside the repository, and the demonstration's."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.method import CompareError
from compiler.network import Network
from examples.digits import data as digits
from examples.digits.demo import MODEL
from sim import data, flow
from sim.build_cache import content_hash
from sim.networks import CASES, SHARED, asked

LOSS = 1.0
"""Points of accuracy under float that the chosen network of every method may lose."""
LEAST = 0.25
"""Points that a search may lose in any case, where a test set is too small to tell :data:`LOSS` from none."""

FINETUNED = "-finetuned"
"""What follows a network's name where it was trained."""


def bound(images: int) -> float:
    """What a search may lose beyond exact 8 bit so that a test of so many images shows at most :data:`LOSS`."""
    return max(asked(LOSS, images), LEAST)


@dataclass(frozen=True, eq=False)
class Case:
    """``calibration``, with labels, is all that methods see; ``test`` is for the figures that are reported. ``digest``: of all that is not ``test``."""

    name: str
    model: Path
    network: Network
    calibration: data.Data
    test: data.Data
    digest: str


def names(shared: Path = SHARED) -> list[str]:
    """Of the networks that are there."""
    there = [case.network for case in CASES if not case.finetuned and (shared / "networks" / case.network / "model.onnx").is_file()]
    return ["digits", *dict.fromkeys(there)]


def load(name: str, shared: Path = SHARED) -> Case:
    """One of :func:`names`."""
    if name == "digits":
        split = digits.load()
        model, calibration, test = MODEL, *(data.Data(split[part].images, split[part].labels) for part in ("calibration", "test"))
        network = flow.read(model)
    else:
        case = next((case for case in CASES if case.network == name and not case.finetuned), None)
        if case is None:
            raise CompareError(f"there is no network {name!r}, only {', '.join(names(shared))}")
        model, values, preprocess = shared / "networks" / name / "model.onnx", shared / "data" / case.data, data.preprocessing(case.preprocess)
        network = flow.read(model)
        shape, classes = network.input_shape, math.prod(network.shapes()[network.nodes[-1].name])
        calibration = data.load(values / "calib.npz", shape, preprocess, classes=classes, what="calibration data", labels_optional=True)
        test = data.load(values / "test.npz", shape, preprocess, classes=classes, what="test data")
    if common := data.overlap(test, calibration):
        raise CompareError(f"network {name!r}: {common} test images are calibration images, too, but test images must choose nothing")
    labels = b"" if calibration.labels is None else calibration.labels.astype(np.int64).tobytes()
    digest = content_hash(Path(model).read_bytes(), np.ascontiguousarray(calibration.images).tobytes(), labels)
    return Case(name, Path(model), network, calibration, test, digest)
