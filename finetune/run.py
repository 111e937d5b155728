"""``sdp finetune``: a float network, trained for the budgets and weight modes that it will run with; the result is an ONNX file."""

import dataclasses
import hashlib
import json
import platform
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from compiler import correction, flow, onnx_export, onnx_import, schedule
from compiler.ablation import cost
from compiler.calibration import calibrate
from compiler.loss import Bound
from compiler.network import Conv, Network, NetworkError
from compiler.quantize import quantize
from compiler.quantized import QuantizedNetwork, run
from compiler.sensitivity import convolutions
from golden.parallel import one_blas_thread
from sdp import UserError, __version__
from sdp.config import Config
from sim import accuracy, data
from sim.flow import FlowError, read, trained
from sim.run import progress_bar

PROOF = 64
"""Held images on which the file is compared with the network that was trained."""


class FinetuneError(UserError):
    """What stands in the way of training; one sentence."""


def start(network: Network, calibration: data.Data, config: Config, args, bar: Progress) -> QuantizedNetwork:
    """The network before training: modes as ``args`` has them or searched, everything fitted to the calibration images."""
    images, labels = calibration.images, calibration.labels
    if args.budget is None and args.modes is None:
        return flow.optimize(network, images, labels, config, lambda layer: schedule.cycles(config, layer), Bound(points=args.max_loss), progress=bar).network
    if args.modes is not None:
        modes = onnx_import.modes(args.modes.read_text(), network.nodes, f"modes {args.modes.name!r}")
    else:
        names = [node.name for node in network.nodes if isinstance(node, Conv) and not node.depthwise]
        if not names:
            raise FinetuneError(f"network {network.name!r}: there is no convolution that sums over channels, so no budget to train for")
        modes = {name: (args.budget, True) for name in names} | {name: (args.edge_budget, True) for name in (names[0], names[-1])}
    for name, (budget, _) in modes.items():
        if budget > 2 * config.group:
            raise FinetuneError(f"layer {name!r}: a budget of {budget}, but {config.name!r} has 1 ... {2 * config.group}")
    arranged = flow.arrange(network, flow.Samples.of(network, images, labels), config, progress=bar)
    calibrated = calibrate(arranged.network, images, arranged.ranges)
    return correction.correct(quantize(calibrated, config, modes), calibrated, config, correct=True, weights="fitted")


def split(train: data.Data, hold: int, seed: int) -> tuple[data.Data, data.Data]:
    """(images to train on, images to measure on)."""
    if not 16 <= hold <= len(train) - 16:
        raise FinetuneError(f"--hold {hold}, but must be 16 ... {len(train) - 16} of the {len(train)} training images")
    order = np.random.default_rng(seed).permutation(len(train))
    return tuple(data.Data(train.images[at], train.labels[at]) for at in (np.sort(order[hold:]), np.sort(order[:hold])))


def prove(network: QuantizedNetwork, path: Path, images: np.ndarray, config: Config) -> None:
    """Reads the file as any user would, and compares all codes."""
    again = trained(calibrate(read(path), images[:2]), config)
    seen, wanted = (run(made, made.encode(images), config.group) for made in (again, network))
    wrong = {name: int((seen[name] != wanted[name]).sum()) for name in wanted}
    if any(wrong.values()):
        name = next(name for name in wrong if wrong[name])
        raise FinetuneError(f"{path.name}: read again, {wrong[name]} codes of layer {name!r} are not those of the network that was trained")


def pytorch():
    """The module. Raises FinetuneError with the command that installs it."""
    try:
        import torch
    except ImportError:
        raise FinetuneError("this needs PyTorch, which is not installed: .venv/bin/python -m pip install -c constraints.txt -e '.[finetune]'") from None
    return torch


def main(args) -> int:
    """Trains, writes the ONNX file and ``finetune.json``."""
    torch = pytorch()
    from finetune.learn import learn
    from finetune.model import Model
    from finetune.train import Settings

    if not 0 <= args.average < 1:
        raise FinetuneError(f"--average {args.average:g}, but must be at least 0 and below 1")
    console, config, source = Console(), args.config, Path(args.model)
    name = source.stem if source.stem != "model" else source.resolve().parent.name
    out = Path(args.out) if args.out else Path("build") / "finetuned" / name
    network, preprocess = read(source), data.preprocessing(args.preprocess)
    classes = int(np.prod(network.shapes()[network.nodes[-1].name]))
    training = data.load(args.train, network.input_shape, preprocess, classes=classes, what="training data")
    calibration = data.load(args.calibration, network.input_shape, preprocess, classes=classes, what="calibration data", labels_optional=True)
    training, rest = split(training, args.hold, args.seed)
    height, width, channels = network.input_shape
    background = preprocess.apply(np.zeros((1, 1, 1, channels)))[0, 0, 0]
    images = args.augment == "crop-flip" or args.augment == "auto" and height == width and channels == 3
    settings = Settings(epochs=args.epochs, rate=args.rate, average=args.average, batch=min(args.batch, len(training)), seed=args.seed, threads=args.threads,
                        augment=images, background=tuple(float(value) for value in background))
    used = {"config": config.name, "group": config.group, "hold": args.hold, "preprocess": args.preprocess, **dataclasses.asdict(settings),
            "inputs": {key: _digest(path) for key, path in (("model", source), ("train", args.train), ("calibration", args.calibration))},
            "modes": args.budget and [args.budget, args.edge_budget] or args.modes and args.modes.read_text() or args.max_loss}
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"{name}: {len(training)} images to train on, {len(rest)} held, seed {args.seed}")
    try:
        # One thread, so that sums are rounded alike whatever the number of cores.
        with progress_bar(console) as bar, one_blas_thread():
            begun = onnx_export.standard(start(network, calibration, config, args, bar), config)
    except NetworkError as error:
        raise FlowError(str(error)) from None
    model = Model(begun, config)
    console.print(f"{cost(begun, config):.3f} nibble cycles per MAC")
    runner, fixed = accuracy.onnx_runner(source, args.threads)

    def teacher(images):
        return accuracy.batches(runner, images, fixed or len(images))

    curve = learn(model, network, teacher, training, rest, settings, out / "checkpoint.pt", json.dumps(used, sort_keys=True), console)
    made, path = model.quantized(), out / f"{name}.onnx"
    onnx_export.save(made, path)
    prove(made, path, rest.images[:PROOF], config)
    versions = {"sdp": __version__, "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    (out / "finetune.json").write_text(json.dumps({
        "network": name, "nibble_cycles_per_mac": round(cost(made, config), 4), "settings": used, "curve": curve, "versions": versions,
        "modes": {layer.name: [layer.budget, layer.w4] for layer in made.layers if layer.name in convolutions(made)}}, indent=1) + "\n")
    for file in (path, out / "finetune.json"):
        console.print(f"made {file}")
    return 0


def _digest(path: Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
