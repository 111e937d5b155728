"""``make networks``: the shared networks, one table. They lie beside the repository; without them there is nothing to do but to say so."""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sdp import UserError
from sdp.config import load
from sim import run

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
FINETUNED = Path("build/finetuned")
"""Where ``make finetune`` leaves its networks."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and what it is to reach: ``loss`` against float in points, ``cost`` in nibble cycles per MAC, counted as ``measure`` says.

    The search sees calibration images alone and is asked for :func:`asked`.
    """

    network: str
    data: str
    preprocess: str
    loss: float
    cost: float
    measure: str = "nibble_cycles_per_mac"
    finetuned: bool = False


CASES = (
    Case(network="resnet20_cifar10", data="cifar10", preprocess="cifar10-resnet20", loss=1.0, cost=0.80),
    Case(network="resnet20_cifar10", data="cifar10", preprocess="cifar10-resnet20", loss=1.0, cost=0.55, finetuned=True),
    Case(network="resnet8_mlperftiny", data="cifar10", preprocess="raw", loss=1.5, cost=1.80),
    Case(network="resnet8_mlperftiny", data="cifar10", preprocess="raw", loss=1.0, cost=0.90, finetuned=True),
    Case(network="dscnn_speech_commands", data="speech_commands", preprocess="none", loss=1.0, cost=1.50,
         measure="nibble_cycles_per_mac_reducing"),
)
CHANGED = 0.04
"""Share of images that change their class, to the better or to the worse, near these bounds."""


def asked(loss: float, images: int) -> float:
    """What the search may lose so that a test of so many images shows at most ``loss``: a standard error less, 0.28 points of 5,000 images."""
    return loss - 100 * math.sqrt(CHANGED / images)


def title(case: Case) -> str:
    return case.network + (", fine-tuned" if case.finetuned else "")


def row(case: Case, report: dict) -> list[str]:
    loss, cost = report["top1_float"] - report["top1_sdp"], report[case.measure]
    met = "yes" if loss <= case.loss and cost <= case.cost else "no"
    return [title(case), f"{report['images']:,}", *(f"{report[name]:.2f} %" for name in ("top1_float", "top1_int8", "top1_sdp")),
            f"{loss:.2f}", f"{case.loss:g}", f"{report['nibble_cycles_per_mac']:.3f}", f"{cost:.3f}", f"{case.cost:.2f}", met,
            f"{report['speedup']:.2f}", str(report["rtl_images"]), f"{report['mismatches']:,}"]


COLUMNS = ("network", "images", "float", "INT8", "SDP", "loss", "at most", "cycles per MAC", "counted", "at most", "met", "speedup", "RTL images", "differ")


def main(argv: list[str] | None = None) -> int:
    """0 if no code and no cycle of any network differs."""
    parser = argparse.ArgumentParser(prog="python -m sim.networks", description="The shared networks through 'sdp run', one table.")
    parser.add_argument("--config", default="small")
    parser.add_argument("--out", type=Path, default=Path("build/networks"))
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--finetuned", type=Path, default=FINETUNED, help="what 'make finetune' made (default: %(default)s)")
    parser.add_argument("--only", default="", help="networks whose title contains this")
    parser.add_argument("--images", type=int, default=None, help="of each test set (default: all)")
    parser.add_argument("--rtl-images", type=int, default=10)
    args = parser.parse_args(argv)
    if not (args.shared / "networks").is_dir():
        print("networks: skipped: no ../shared")
        return 0
    found, failed, missing = [], 0, []
    for case in (case for case in CASES if args.only in title(case)):
        original, values = args.shared / "networks" / case.network / "model.onnx", args.shared / "data" / case.data
        model = args.finetuned / case.network / f"{case.network}.onnx" if case.finetuned else original
        if not model.is_file():
            missing.append(case)
            continue
        out = args.out / (case.network + ("-finetuned" if case.finetuned else ""))
        options = argparse.Namespace(
            model=model, reference=original, test=values / "test.npz", calibration=values / "calib.npz", preprocess=case.preprocess,
            config=load(args.config), max_loss=asked(case.loss, len(np.load(values / "test.npz")["y"])), images=args.images, rtl_images=args.rtl_images,
            calibration_images=None, out=out)
        try:
            failed |= run.main(options)
        except UserError as error:
            print(f"{title(case)}: {error}", file=sys.stderr)
            failed = 1
            continue
        found.append((case, json.loads((out / "report.json").read_text())))
    table = Table(title=f"on {args.config}; points of top-1 lost against float; nibble cycles per MAC: of all layers, and as counted for the bound\n"
                  "(reducing convolutions alone where most layers are depthwise)", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "network" else "right")
    for case, report in found:
        table.add_row(*row(case, report))
    Console(width=170).print(table)
    for case in missing:
        print(f"{title(case)}: skipped, 'make finetune' makes it")
    args.out.mkdir(parents=True, exist_ok=True)
    summary = {title(case): {name: value for name, value in report.items() if name not in ("layers", "curve", "program_layers", "trials")}
               for case, report in found}
    (args.out / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"made {args.out / 'report.json'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
