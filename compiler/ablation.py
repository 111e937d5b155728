"""What each pass of the compiler is worth: accuracy at one budget for all layers, with the passes added one after the other.

``python -m compiler.ablation MODEL.onnx --calibration CALIB.npz --test TEST.npz`` on files with images ``x`` (n, h, w, c) and labels ``y``.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from compiler import correction, importance, onnx_import, ordering, schedule
from compiler.calibration import calibrate
from compiler.loss import float_logits, loss
from compiler.network import Network
from compiler.quantize import quantize
from compiler.quantized import QuantizedNetwork, logits
from compiler.sensitivity import convolutions
from sdp.config import Config, load


@dataclass(frozen=True, kw_only=True)
class Passes:
    name: str
    ranges: str = "peak"
    correct: bool = False
    weights: str = "nearest"
    importance: float = 0.0
    order: bool = False


STEPS = (
    Passes(name="range: largest value"),
    Passes(name="range: percentile", ranges="percentile"),
    Passes(name="range: least squared error", ranges="error"),
    Passes(name="range: least squared error after selection", ranges="masked"),
    Passes(name="+ correction of gain and bias", ranges="masked", correct=True),
    Passes(name="+ rounding with feedback", ranges="masked", correct=True, weights="feedback"),
    Passes(name="+ weights fitted to masked codes", ranges="masked", correct=True, weights="fitted"),
    Passes(name="+ order of channels", ranges="masked", correct=True, weights="fitted", order=True),
    Passes(name="+ importance, half", ranges="masked", correct=True, weights="fitted", order=True, importance=0.5),
    Passes(name="+ importance, whole", ranges="masked", correct=True, weights="fitted", order=True, importance=1.0),
)


def build(network: Network, images: np.ndarray, config: Config, passes: Passes, budget: int, w4: bool, edge: int | None) -> QuantizedNetwork:
    """The network with one budget in all layers; ``edge``: that of the first and the last one, which keep two digits, or none."""
    if passes.importance:
        network = importance.equalize(network, images, passes.importance)
    if passes.order:
        network = ordering.arrange(calibrate(network, images[:128]), budget, config.group)
    calibration = calibrate(network, images, passes.ranges)
    names = convolutions(quantize(calibration, config))
    modes = {name: (budget, w4) for name in names} | ({names[0]: (edge, False), names[-1]: (edge, False)} if edge else {})
    return correction.correct(quantize(calibration, config, modes), calibration, config, correct=passes.correct, weights=passes.weights)


def top1(values: np.ndarray, labels: np.ndarray) -> float:
    """Percent."""
    return 100 * float((values.argmax(axis=1) == labels).mean())


def cost(network: QuantizedNetwork, config: Config) -> float:
    """Cycles of all nibble multipliers per MAC, exact, the whole network."""
    return sum(schedule.cycles(config, layer) for layer in network.layers) * config.nibble_multipliers / sum(layer.macs for layer in network.layers)


def run(args: argparse.Namespace) -> None:
    network, config = onnx_import.read(args.model), load(args.config)
    scale = np.array(args.scale, dtype=np.float32), np.array(args.mean, dtype=np.float32)

    def images(path: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        with np.load(path) as file:
            values = file["x"][:count].astype(np.float32)
            values = values.transpose(0, 2, 3, 1) if args.channels_first else values
            return ((values - scale[1]) / scale[0]).astype(np.float32), file["y"][:count].astype(int)

    calib, (test, labels) = images(args.calibration)[0], images(args.test, args.images)
    real = float_logits(network, test)
    table = Table("passes", "top-1 %", "divergence", "classes changed %", "nibble cycles per MAC", title=f"{network.name}, {len(test)} images, "
                  f"{args.budget} of {2 * config.group} terms, weights of {4 if args.w4 else 8} bits")
    table.add_row("float", f"{top1(real, labels):.2f}", "", "", "")
    rows = [("exact 8 bit", build(network, calib, config, Passes(name="", ranges="error"), 2 * config.group, False, None))]
    for name, made in rows + [(step.name, None) for step in STEPS]:
        made = made or build(network, calib, config, next(step for step in STEPS if step.name == name), args.budget, args.w4, args.edge)
        seen = logits(made, test, config.group)
        far = loss(real, seen)
        table.add_row(name, f"{top1(seen, labels):.2f}", f"{far.divergence:.3f}", f"{100 * far.disagreement:.1f}", f"{cost(made, config):.3f}")
        print(name, f"{top1(seen, labels):.2f}", flush=True)
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--config", default="small")
    parser.add_argument("--images", type=int, help="how many of the test images, all by default")
    parser.add_argument("--mean", type=float, nargs="+", default=[0.0], help="is subtracted, per channel")
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0], help="what is left is divided by it, per channel")
    parser.add_argument("--channels-first", action="store_true", help="images lie as (n, c, h, w)")
    parser.add_argument("--budget", type=int, default=4)
    parser.add_argument("--w4", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--edge", type=int, default=12, help="budget of the first and the last layer, in 8-bit weights; 0: as all others")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
