"""Accuracy against time and stacked energy, one curve or bar per method, as SVG. The same results give the same bytes."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

NAMES = {"sdp": "SDP", "static": "static INT4/INT8", "int8": "INT8", "drq": "DRQ, ideal", "olaccel": "OLAccel, ideal"}
WORDS = {"chosen": "chosen on calibration images", "hindsight": "the cheapest that lose at most a point"}
PARTS = ("array", "activations", "weights", "scales", "dram")
STYLE = {"svg.hashsalt": "compare", "svg.fonttype": "none", "figure.figsize": (7, 4.5), "figure.constrained_layout.use": True}


def write(results: dict[str, dict], folder: Path) -> list[Path]:
    """Two plots per network; returns their paths."""
    made = []
    with matplotlib.rc_context(STYLE):
        for network, reports in results.items():
            made += [_save(_accuracy(network, reports), folder / f"{network}-accuracy.svg"), _save(_energy(network, reports), folder / f"{network}-energy.svg")]
    return made


def _save(figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _accuracy(network, reports):
    figure, axes = pyplot.subplots()
    for method, report in reports.items():
        points = sorted((point["ideal_on_test"], point["top1"]) for point in report["points"])
        axes.plot(*zip(*points), marker="o", markersize=3, label=NAMES[method])
    first = next(iter(reports.values()))
    axes.axhline(first["top1_float"] - 1, color="grey", linewidth=0.8, linestyle="--", label="a point under float")
    axes.set(title=f"{network}, {first['images']:,} images", xlabel="nibble cycles per multiplication, ideal", ylabel="top-1, %", xscale="log")
    axes.legend()
    return figure


def _energy(network, reports):
    figure, axes = pyplot.subplots()
    picked = next(iter(next(iter(reports.values()))["picked"]))
    points = {NAMES[method]: report["points"][report["picked"][picked]] for method, report in reports.items() if report["picked"][picked] is not None}
    bars = {name: point["energy"]["published"] for name, point in points.items() if "energy" in point}
    below = [0.0] * len(bars)
    for part in PARTS:
        values = [entry[part] for entry in bars.values()]
        axes.bar(list(bars), values, bottom=below, label=part)
        below = [a + b for a, b in zip(below, values)]
    axes.set(title=f"{network}, {WORDS[picked]}, published basis", ylabel="uJ per image")
    axes.legend()
    return figure
