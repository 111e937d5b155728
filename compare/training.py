"""The same fine-tuning for SDP and its rivals: ``python -m compare.training``. Same images, epochs, rates, seed and number of trainings for each.

Every method starts where its search's passes leave a network of one mode in all layers but the first and the last (channels equalised and ordered,
ranges chosen, weights fitted), and is trained with its own arithmetic in the forward pass (:mod:`finetune`). Nothing is chosen afterwards: all
that was trained is reported.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from compare import cases
from compare.accuracy import BATCH, IDEAL_IMAGES, OUT, classes
from compare.method import METHODS, CompareError, ideal
from compiler import flow
from compiler.arithmetic import convolutions
from compiler.onnx_export import standard
from compiler.quantize import quantize
from golden.parallel import one_blas_thread
from sdp import UserError
from sdp.config import Config
from sdp.config import load as load_config
from sim import data
from sim.accuracy import batches, onnx_runner, percent
from sim.build_cache import content_hash
from sim.networks import CASES, SHARED
from sim.run import progress_bar

MODES = {
    "sdp": {"4 terms": ((4, True), (16, True)), "3 terms": ((3, True), (16, True))},
    "static": {"4 x 4 bit, ends 8 x 4": ((4, 4), (8, 4)), "4 x 4 bit, ends 8 x 8": ((4, 4), (8, 8))},
    "drq": {"threshold 24": (24, 0), "threshold 64": (64, 0)},
}
"""By method and name: modes of all layers that sum over channels but the first and the last, and of these two."""
HOLD = 1000
"""Training images that are only measured on."""


def start(case: cases.Case, method: str, config: Config, modes: tuple, bar):
    """(arithmetic, network) before training, fitted to the calibration images."""
    arithmetic, calibration = METHODS[method].make(config), case.calibration
    arranged = flow.arrange(case.network, flow.Samples.of(case.network, calibration.images, calibration.labels), config, progress=bar, arithmetic=arithmetic)
    names = convolutions(quantize(flow.calibrate(arranged.network, calibration.images[:2]), config))
    inner, ends = modes
    chosen = dict.fromkeys(names, inner) | dict.fromkeys((names[0], names[-1]), ends)
    return arranged.arithmetic, flow.refitted(arranged, chosen, calibration.images, config)


def top1(case: cases.Case, arithmetic, network) -> float:
    """Percent of all test images."""
    found = classes(batches(lambda images: arithmetic.logits(network, images), case.test.images, BATCH))
    return percent(int((found == case.test.labels).sum()), len(case.test))


def train(case: cases.Case, method: str, name: str, config: Config, epochs: int, rate: float, folder: Path, console: Console) -> dict:
    """What ``FOLDER/training.json`` holds of one training; it goes on from where it was cut."""
    from compare import seen
    from finetune.arithmetic import Terms
    from finetune.learn import learn
    from finetune.model import Model
    from finetune.run import split
    from finetune.train import Settings

    shared = next(shared for shared in CASES if shared.network == case.name)
    preprocess = data.preprocessing(shared.preprocess)
    training = data.load(SHARED / "data" / shared.data / "train.npz", case.network.input_shape, preprocess, classes=10, what="training data")
    training, rest = split(training, HOLD, 0)
    background = preprocess.apply(np.zeros((1, 1, 1, case.network.input_shape[2])))[0, 0, 0]
    settings = Settings(epochs=epochs, rate=rate, background=tuple(float(value) for value in background))
    with progress_bar(console) as bar, one_blas_thread():
        arithmetic, begun = start(case, method, config, MODES[method][name], bar)
        begun = standard(begun, config)
    before = top1(case, arithmetic, begun)
    console.print(f"{case.name}, {method}, {name}: {before:.2f} % before training")
    kind = {"sdp": Terms, "static": seen.Static, "drq": seen.Drq}[method]
    model = Model(begun, config, kind(config))
    runner, fixed = onnx_runner(case.model, 1)
    key = content_hash(case.digest, method, f"{MODES[method][name]} {settings}")
    curve = learn(model, case.network, lambda images: batches(runner, images, fixed or len(images)), training, rest, settings, folder / f"{key}.pt", key, console)
    made = model.quantized()
    return {"network": case.name, "method": method, "modes": name, "epochs": epochs, "rate": rate, "images": len(case.test), "top1_before": before,
            "top1": top1(case, arithmetic, made), "ideal": round(ideal(arithmetic, made, case.test.images[:IDEAL_IMAGES]), 5), "curve": curve}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.training", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="small", help="of SDP's machine (default: %(default)s)")
    parser.add_argument("--network", default="resnet20_cifar10", help="default: %(default)s")
    parser.add_argument("--method", action="append", help=f"one of {', '.join(MODES)}; may be given again (default: all)")
    parser.add_argument("--epochs", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate at its peak (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        if unknown := [name for name in args.method or [] if name not in MODES]:
            raise CompareError(f"--method: there is no training for {unknown[0]!r}, only for {', '.join(MODES)}")
        case, folder = cases.load(args.network), args.out / args.network
        if case.name == "digits":
            raise CompareError("--network: the digits have no images to train on beside those of calibration")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "training.json"
        found = json.loads(path.read_text()) if path.is_file() else []
        for method in args.method or MODES:
            for name in MODES[method]:
                same = {"method": method, "modes": name, "epochs": args.epochs, "rate": args.rate}
                if any(same.items() <= entry.items() for entry in found):
                    continue
                entry = train(case, method, name, load_config(args.config), args.epochs, args.rate, folder, console)
                console.print(f"{case.name}, {method}, {name}: {entry['top1']:.2f} % at {entry['ideal']:.3f} nibble products per multiplication")
                found.append(entry)
                path.write_text(json.dumps(found, indent=1) + "\n")
    except UserError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: stopped; epochs that are finished are kept, the same command goes on from there", file=sys.stderr)
        return 130
    console.print(f"made {path}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
