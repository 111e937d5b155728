"""Accuracy and nibble cycles of SDP and its rivals: ``python -m compare.accuracy``. Every method chooses on calibration images, test images report."""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from compare import cases, command, store
from compare.method import METHODS, CompareError, Fitted, Method, fit, ideal
from sdp.config import Config
from sdp.config import load as load_config
from sim.accuracy import batches, onnx_runner, percent, wilson
from sim.run import progress_bar

OUT = Path("build/compare")
BATCH = 64
IDEAL_IMAGES = 64
"""Test images that cost is reported on, where it depends on data."""


def classes(logits: np.ndarray) -> np.ndarray:
    return logits.reshape(len(logits), -1).argmax(axis=1)


def report_of(case: cases.Case, method: Method, config: Config, max_loss: float, stored: store.Stored, images: int, float_hits: int) -> dict:
    """What METHOD.json holds: accuracies in percent on the first ``images`` test images, cost in nibble cycles per multiplication."""
    fitted, points = stored.fitted, []
    for point, seen, cost in zip(fitted.points, stored.seen, stored.ideal):
        hits = int((seen[:images] == case.test.labels[:images]).sum())
        low, high = wilson(hits, images)
        points.append({
            "ideal": round(point.ideal, 5), "ideal_on_test": round(cost, 5), "as_built": point.as_built and round(point.as_built, 5), "cost": point.cost,
            "top1": percent(hits, images), "top1_interval": [round(low, 4), round(high, 4)],
            "loss_expected": round(point.loss, 4), "loss_error": round(point.error, 4), "divergence": round(point.divergence, 6),
            "modes": {name: list(mode) if isinstance(mode, tuple) else mode for name, mode in point.modes.items()}})
    return {"key": stored.key, "network": case.name, "method": method.name, "assumptions": sys.modules[type(fitted.arithmetic).__module__].__doc__,
            "config": config.name, "max_loss": max_loss, "images": images, "top1_float": percent(float_hits, images),
            "calibration_images": len(case.calibration), "effort": fitted.effort, "chosen": fitted.chosen, "points": points, "measured": fitted.measured}


def measure(case: cases.Case, stored: store.Stored, images: int, bar: Progress) -> None:
    """Classes of the first ``images`` test images that are not known yet."""
    fitted: Fitted = stored.fitted
    while len(stored.seen) < len(fitted.points):
        point = fitted.points[len(stored.seen)]
        stored.seen.append(np.zeros(0, dtype=np.int64))
        stored.ideal.append(ideal(fitted.arithmetic, point.network, case.test.images[:IDEAL_IMAGES]))
    missing = sum(max(0, images - len(seen)) for seen in stored.seen)
    task = bar.add_task("test images", total=missing)
    for at, point in enumerate(fitted.points):
        rest = case.test.images[len(stored.seen[at]) : images]
        if len(rest):
            run = functools.partial(fitted.arithmetic.logits, point.network)
            found = classes(batches(run, rest, BATCH, lambda done: bar.advance(task, done), processes=True))
            stored.seen[at] = np.concatenate([stored.seen[at], found])


def compare(case: cases.Case, method: Method, config: Config, images: int | None, folder: Path, bar: Progress) -> dict:
    """The report of a method on a network; what is known from ``folder`` is not computed again."""
    images = min(images or len(case.test), len(case.test))
    max_loss = cases.bound(len(case.test))
    wanted = store.key(method, config, case.digest, max_loss)
    stored = store.read(folder, method, wanted)
    if stored is None:
        stored = store.Stored(wanted, fit(method, case.network, case.calibration.images, case.calibration.labels, config, max_loss, bar))
        store.write(folder, method, stored, {"key": wanted})
    measure(case, stored, images, bar)
    runner, size = onnx_runner(case.model)
    hits = int((classes(batches(runner, case.test.images[:images], size or BATCH)) == case.test.labels[:images]).sum())
    report = report_of(case, method, config, max_loss, stored, images, hits)
    store.write(folder, method, stored, report)
    return report


def cheapest(report: dict, top1: float) -> float | None:
    """The least ideal cost of a method's curve that reaches an accuracy on the test images; to report, never to choose."""
    return min((point["ideal"] for point in report["points"] if point["top1"] >= top1), default=None)


def show(console: Console, reports: list[dict]) -> None:
    """The chosen point of each method, and its curve."""
    first = reports[0]
    table = Table(title=f"{first['network']}: {first['images']:,} test images, float {first['top1_float']:.2f} %; chosen on calibration images to lose at most "
                        f"{cases.LOSS:g} point\n(asked for {first['max_loss']:.2f} beyond exact 8 bit); nibble cycles per multiplication", title_justify="left")
    for name in ("method", "top-1, %", "95 %", "loss", "ideal", "as built", "to SDP", "as good", "modes", "log10 of space", "networks", "layers tried", "seconds"):
        table.add_column(name, justify="left" if name == "method" else "right")
    # As good on the test images as SDP's choice: the cheapest of the curve, which for the rivals is generous.
    sdp = next((report["points"][report["chosen"]] for report in reports if report["method"] == "sdp"), None)
    for report in reports:
        point, effort = report["points"][report["chosen"]], report["effort"]
        low, high = point["top1_interval"]
        table.add_row(report["method"], f"{point['top1']:.2f}", f"{low:.1f} ... {high:.1f}", f"{report['top1_float'] - point['top1']:.2f}",
                      f"{point['ideal']:.3f}", "" if point["as_built"] is None else f"{point['as_built']:.3f}", f"{point['ideal'] / sdp['ideal']:.2f}" if sdp else "",
                      f"{good:.3f}" if sdp and (good := cheapest(report, sdp["top1"])) else "",
                      str(effort["space"]["modes"]), f"{effort['space']['log10']:.1f}", str(effort["networks"]), str(effort["changes"]),
                      f"{effort['seconds']:.0f}")
    console.print(table)
    for report in reports:
        curve = ", ".join(f"{'*' * (at == report['chosen'])}{point['ideal']:.3f}: {point['top1']:.2f}" for at, point in enumerate(report["points"]))
        console.print(f"{report['method']}: {curve}", highlight=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m compare.accuracy", description="Accuracy and nibble cycles of SDP and its rivals on equal work.")
    parser.add_argument("--config", default="small", help="of SDP's machine (default: %(default)s)")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--method", action="append", help=f"one of {', '.join(METHODS)}; may be given again (default: all)")
    parser.add_argument("--images", type=int, default=None, help="of each test set (default: all); more can be added later")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    return command.run(lambda console: _run(args, console))


def _run(args: argparse.Namespace, console: Console) -> list[Path]:
    for name in args.method or []:
        if name not in METHODS:
            raise CompareError(f"--method: there is no method {name!r}, only {', '.join(METHODS)}")
    if args.images is not None and args.images < 1:
        raise CompareError(f"--images must be at least 1, not {args.images}")
    chosen = [name for name in cases.names() if args.only in name]
    if not chosen:
        raise CompareError(f"--only: no network's name contains {args.only!r}; there are {', '.join(cases.names())}")
    config, made = load_config(args.config), []
    for name in chosen:
        case, reports = cases.load(name), []
        for method in args.method or METHODS:
            with progress_bar(console) as bar:
                reports.append(compare(case, METHODS[method], config, args.images, args.out / name, bar))
            made.append(args.out / name / f"{method}.json")
        show(console, reports)
    return made


if __name__ == "__main__":
    sys.exit(main())
