"""``make finetune``: the shared ResNets, trained for the budgets that the documentation names. Without ../shared there is nothing to do."""

import argparse
import sys
from pathlib import Path

from sdp.__main__ import main as sdp
from sim.networks import FINETUNED, SHARED

CASES = (
    ("resnet20_cifar10", "cifar10-resnet20", ("--budget", "4", "--edge-budget", "12", "--epochs", "8")),
    ("resnet8_mlperftiny", "raw", ("--budget", "4", "--edge-budget", "16", "--epochs", "14")),
)
"""Network, preprocessing, options."""


def main(argv: list[str] | None = None) -> int:
    """0 if both were trained, or there is no ../shared."""
    parser = argparse.ArgumentParser(prog="python -m finetune.networks", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="small")
    parser.add_argument("--out", type=Path, default=FINETUNED)
    parser.add_argument("--shared", type=Path, default=SHARED)
    args = parser.parse_args(argv)
    if not (args.shared / "networks").is_dir():
        print("finetune: skipped: no ../shared")
        return 0
    data, failed = args.shared / "data" / "cifar10", 0
    for name, preprocess, options in CASES:
        failed |= sdp(["finetune", str(args.shared / "networks" / name / "model.onnx"), "--train", str(data / "train.npz"), "--calibration",
                       str(data / "calib.npz"), "--preprocess", preprocess, "--config", args.config, "--out", str(args.out / name), *options])
    return failed


if __name__ == "__main__":
    sys.exit(main())
