"""``make networks``: the shared networks, one table. They lie beside the repository; without them there is nothing to do but to say so."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sdp import UserError
from sdp.config import load
from sim import run

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
NETWORKS = (
    ("resnet20_cifar10", "cifar10", "cifar10-resnet20"),
    ("resnet8_mlperftiny", "cifar10", "raw"),
    ("dscnn_speech_commands", "speech_commands", "none"),
)
"""Network, data, preprocessing."""
COLUMNS = (("network", "{}"), ("images", "{:,}"), ("top1_float", "{:.2f} %"), ("top1_int8", "{:.2f} %"), ("top1_sdp", "{:.2f} %"), ("loss", "{:.2f}"),
           ("nibble_cycles_per_mac", "{:.3f}"), ("speedup", "{:.2f}"), ("rtl_images", "{}"), ("mismatches", "{}"))


def main(argv: list[str] | None = None) -> int:
    """0 if no code and no cycle of any network differs."""
    parser = argparse.ArgumentParser(prog="python -m sim.networks", description="The shared networks through 'sdp run', one table.")
    parser.add_argument("--config", default="small")
    parser.add_argument("--out", type=Path, default=Path("build/networks"))
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--images", type=int, default=None, help="of each test set (default: all)")
    parser.add_argument("--rtl-images", type=int, default=10)
    parser.add_argument("--max-loss", type=float, default=1.0)
    args = parser.parse_args(argv)
    if not (args.shared / "networks").is_dir():
        print("networks: skipped: no ../shared")
        return 0
    found, failed = [], 0
    for name, folder, preprocess in NETWORKS:
        out, values = args.out / name, args.shared / "data" / folder
        options = argparse.Namespace(
            model=args.shared / "networks" / name / "model.onnx", test=values / "test.npz", calibration=values / "calib.npz", preprocess=preprocess,
            config=load(args.config), max_loss=args.max_loss, images=args.images, rtl_images=args.rtl_images, calibration_images=None, out=out)
        try:
            failed |= run.main(options)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
            continue
        report = json.loads((out / "report.json").read_text())
        found.append({name: value for name, value in report.items() if name not in ("layers", "curve", "program_layers")})
    table = Table(title=f"on {args.config}, at most {args.max_loss:g} points of loss asked for", title_justify="left")
    for name, _ in COLUMNS:
        table.add_column(name.replace("_", " "), justify="left" if name == "network" else "right")
    for report in found:
        report["loss"] = round(report["top1_float"] - report["top1_sdp"], 4)
        table.add_row(*(form.format(report[name]) for name, form in COLUMNS))
    Console(width=150).print(table)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.json").write_text(json.dumps({report["network"]: report for report in found}, indent=1) + "\n")
    print(f"made {args.out / 'report.json'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
