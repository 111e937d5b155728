"""The same fine-tuning for SDP and its rivals: ``python -m compare.training``. Same images, epochs, rates, seed and number of trainings for each.

Every method starts from the :data:`POINTS` cheapest networks of its own curve (:mod:`compare.accuracy`), modes, ranges and fitted weights as the search
left them, and is trained with its own arithmetic in the forward pass (:mod:`finetune`). All that was trained is reported, nothing is chosen.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console

from compare import cases, command, store
from compare.accuracy import BATCH, IDEAL_IMAGES, OUT, classes
from compare.method import METHODS, CompareError, Fitted, Point, ideal
from compiler.onnx_export import standard
from finetune.run import pytorch, split
from golden.parallel import one_blas_thread
from sim import data
from sim.accuracy import batches, onnx_runner, percent, wilson
from sim.build_cache import content_hash
from sim.networks import CASES, SHARED

POINTS = 2
"""Of each method's curve, the cheapest, to which training may give back what they lost."""
AVERAGE = 0.995
"""Of the parameters, see :class:`finetune.train.Settings`."""
HOLD = 1000
"""Training images that are only measured on."""
TRAINABLE = ("sdp", "static", "drq")


def right(case: cases.Case, logits: np.ndarray) -> int:
    """Test images of which these are the logits and that are named rightly."""
    return int((classes(logits) == case.test.labels).sum())


def hits(case: cases.Case, arithmetic, network) -> int:
    """Test images that a network in integers names rightly."""
    return right(case, batches(lambda images: arithmetic.logits(network, images), case.test.images, BATCH))


def trainable(network: str) -> bool:
    """Networks that have images beside those of calibration."""
    return network in {shared.network for shared in CASES if shared.data == "cifar10"}


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """What all trainings of a network share; ``training``, ``rest``: images to train on and to measure on; ``top1_float``: percent of the test images."""

    case: cases.Case
    training: data.Data
    rest: data.Data
    settings: object
    top1_float: float

    @classmethod
    def of(cls, case: cases.Case, epochs: int, rate: float) -> "Course":
        from finetune.train import Settings

        shared = next(shared for shared in CASES if shared.network == case.name)
        preprocess = data.preprocessing(shared.preprocess)
        images = data.load(SHARED / "data" / shared.data / "train.npz", case.network.input_shape, preprocess, classes=10, what="training data")
        height, width, channels = case.network.input_shape
        background = preprocess.apply(np.zeros((1, 1, 1, channels)))[0, 0, 0]
        settings = Settings(epochs=epochs, rate=rate, average=AVERAGE, background=tuple(float(value) for value in background), augment=height == width and channels == 3)
        runner, size = onnx_runner(case.model)
        return cls(case, *split(images, HOLD, 0), settings, percent(right(case, batches(runner, case.test.images, size or BATCH)), len(case.test)))

    def train(self, method: str, source: store.Stored, at: int, folder: Path, console: Console) -> tuple[Point, dict]:
        """Point ``at`` of a method's curve, trained, and what the report says of it. A training that was cut goes on after its last epoch."""
        from compare import seen
        from finetune.arithmetic import Terms
        from finetune.learn import learn
        from finetune.model import Model

        begin, point, arithmetic, config = perf_counter(), source.fitted.points[at], source.fitted.arithmetic, source.fitted.arithmetic.config
        begun, images = standard(point.network, config), self.case.test.images
        model = Model(begun, config, {"sdp": Terms, "static": seen.Static, "drq": seen.Drq}[method](config))
        runner, fixed = onnx_runner(self.case.model, 1)
        key = content_hash(source.key, method, f"{at} {self.settings}")
        with one_blas_thread():
            curve = learn(model, self.case.network, lambda images: batches(runner, images, fixed or len(images)), self.training, self.rest, self.settings,
                          folder / f"{key}.pt", key, console)
        made = model.quantized()
        count = hits(self.case, arithmetic, made)
        low, high = wilson(count, len(images))
        trained = dataclasses.replace(point, network=made)
        return trained, {
            "ideal": round(ideal(arithmetic, made, self.case.calibration.images[:IDEAL_IMAGES]), 5),
            "ideal_on_test": round(ideal(arithmetic, made, images[:IDEAL_IMAGES]), 5),
            "top1_before": percent(hits(self.case, arithmetic, begun), len(images)), "top1": percent(count, len(images)),
            "top1_interval": [round(low, 4), round(high, 4)], "curve": curve, "seconds": round(perf_counter() - begin),
            "modes": {name: list(mode) if isinstance(mode, tuple) else mode for name, mode in point.modes.items()}}


def of_method(course: Course, method: str, source: store.Stored, folder: Path, console: Console) -> Path:
    """Trains what is not in ``FOLDER/METHOD.json`` yet; returns its path."""
    case, fitted, settings = course.case, source.fitted, dataclasses.asdict(course.settings)
    folder.mkdir(parents=True, exist_ok=True)
    key = content_hash(source.key, f"{POINTS} {course.settings}")
    stored = store.read(folder, METHODS[method], key) or store.Stored(key, Fitted(fitted.arithmetic, [], 0, [], {"points": []}))
    done, total = stored.fitted.effort["points"], len(fitted.points)
    for at in range(max(0, total - POINTS) + len(done), total):
        console.print(f"{case.name}, {method}: {fitted.points[at].ideal:.3f} nibble products per multiplication on calibration images", highlight=False)
        point, report = course.train(method, source, at, folder, console)
        console.print(f"{case.name}, {method}: {report['top1_before']:.2f} % before, {report['top1']:.2f} % trained", highlight=False)
        stored.fitted.points.append(point)
        done.append(report)
        store.write(folder, METHODS[method], stored, {
            "key": key, "network": case.name, "method": method, "config": fitted.arithmetic.config.name, "images": len(case.test), "top1_float": course.top1_float,
            "settings": settings, "held": HOLD, "points": done})
    return folder / f"{method}.json"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.training", description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet20_cifar10", help="default: %(default)s")
    parser.add_argument("--method", action="append", help=f"one of {', '.join(TRAINABLE)}; may be given again (default: all)")
    parser.add_argument("--epochs", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at its peak (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    return command.run(lambda console: _run(args, console), "epochs that are finished are kept")


def _run(args: argparse.Namespace, console: Console) -> list[Path]:
    if unknown := [name for name in args.method or [] if name not in TRAINABLE]:
        raise CompareError(f"--method: there is no training for {unknown[0]!r}, only for {', '.join(TRAINABLE)}")
    case = cases.load(args.network)
    if not trainable(case.name):
        raise CompareError(f"--network: {case.name!r} has no images to train on beside those of calibration")
    methods = args.method or TRAINABLE
    sources = [store.load(args.out / case.name, METHODS[method]) for method in methods]
    pytorch()
    course = Course.of(case, args.epochs, args.rate)
    return [of_method(course, method, source, args.out / f"{case.name}{cases.FINETUNED}", console) for method, source in zip(methods, sources)]


if __name__ == "__main__":
    sys.exit(main())
