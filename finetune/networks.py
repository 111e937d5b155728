"""``make finetune``: the shared ResNets, trained for the budgets that the documentation names. Without ../shared there is nothing to do."""

import argparse
import json
import sys
from pathlib import Path

from compiler.network import Conv
from sdp.__main__ import main as sdp
from sim.flow import read
from sim.networks import FINETUNED, SHARED

EDGE = 16
"""Budget of the first and the last convolution."""
CASES = (
    ("resnet20_cifar10", "cifar10-resnet20", 4, {"layer1.0.conv1": 5, "layer1.0.conv2": 5}, 8, 2e-3),
    ("resnet8_mlperftiny", "raw", 6, {}, 12, 2e-3),
)
"""Network, preprocessing, budget, budgets of single layers, epochs, learning rate; all weights have one digit."""


def main(argv: list[str] | None = None) -> int:
    """0 if both were trained, or there is no ../shared."""
    parser = argparse.ArgumentParser(prog="python -m finetune.networks", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="small")
    parser.add_argument("--out", type=Path, default=FINETUNED)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    args = parser.parse_args(argv)
    if not (args.shared / "networks").is_dir():
        print("finetune: skipped: no ../shared")
        return 0
    data, failed = args.shared / "data" / "cifar10", 0
    for name, preprocess, budget, single, epochs, rate in (case for case in CASES if args.only in case[0]):
        model, out = args.shared / "networks" / name / "model.onnx", args.out / name
        layers = [node.name for node in read(model).nodes if isinstance(node, Conv)]
        modes = dict.fromkeys(layers, budget) | {layers[0]: EDGE, layers[-1]: EDGE} | single
        out.mkdir(parents=True, exist_ok=True)
        (out / "modes.json").write_text(json.dumps({layer: [kept, True] for layer, kept in modes.items()}) + "\n")
        failed |= sdp(["finetune", str(model), "--train", str(data / "train.npz"), "--calibration", str(data / "calib.npz"), "--preprocess", preprocess,
                       "--config", args.config, "--modes", str(out / "modes.json"), "--epochs", str(epochs), "--rate", str(rate),
                       "--out", str(out)])
    return failed


if __name__ == "__main__":
    sys.exit(main())
