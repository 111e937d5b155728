"""Accuracy against time, accuracy against energy and stacked energy, one curve or bar per method, as SVG. The same results give the same bytes."""

from collections.abc import Callable
from pathlib import Path

import matplotlib

from compare.cases import LOSS
from compare.names import NAMES
from synth.energy import PARTS

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

WORDS = {"chosen": "chosen on calibration images", "hindsight": "the cheapest that lose at most a point"}
STYLE = {"svg.hashsalt": "compare", "svg.fonttype": "none", "figure.figsize": (7, 4.5), "figure.constrained_layout.use": True}


def time(point: dict) -> float:
    """Nibble cycles per multiplication."""
    return point["ideal_on_test"]


def energy(point: dict) -> float | None:
    """uJ per image, published basis; none where there is no model."""
    return point["energy"]["published"]["total"]["value"] if "energy" in point else None


AXES = {"accuracy": (time, "nibble cycles per multiplication, ideal"), "accuracy-energy": (energy, "uJ per image, published basis")}
"""Plots of accuracy by what they are called: what it stands against, and in words."""


def write(results: dict[str, dict], folder: Path) -> list[Path]:
    """Three plots per network; returns their paths."""
    made = []
    with matplotlib.rc_context(STYLE):
        for network, reports in results.items():
            made += [_save(_accuracy(network, reports, *axis), folder / f"{network}-{name}.svg") for name, axis in AXES.items()]
            made.append(_save(_stacked(network, reports), folder / f"{network}-energy.svg"))
    return made


def _save(figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def curve(report: dict, cost: Callable[[dict], float | None]) -> list[tuple[float, float]]:
    """(cost, top-1) of a method's points, by cost; those without a cost left out."""
    return sorted((cost(point), point["top1"]) for point in report["points"] if cost(point) is not None)


def _accuracy(network, reports, cost, words):
    figure, axes = pyplot.subplots()
    # Every method has a color of its own, whoever else is there; a single point lies on top of curves that end in it.
    for number, (method, name) in enumerate(NAMES.items()):
        if method in reports and (points := curve(reports[method], cost)):
            axes.plot(*zip(*points), marker="o", markersize=3, color=f"C{number}", label=name, zorder=3 if len(points) == 1 else 2)
    first = next(iter(reports.values()))
    axes.axhline(first["top1_float"] - LOSS, color="grey", linewidth=0.8, linestyle="--", label=f"{LOSS:g} point under float")
    axes.set(title=f"{network}, {first['images']:,} images", xlabel=words, ylabel="top-1, %", xscale="log")
    axes.legend()
    return figure


def _stacked(network, reports):
    figure, axes = pyplot.subplots()
    picked = next(iter(next(iter(reports.values()))["picked"]))
    points = {NAMES[method]: report["points"][report["picked"][picked]] for method, report in reports.items() if report["picked"][picked] is not None}
    bars = {name: point["energy"]["published"] for name, point in points.items() if "energy" in point}
    below = [0.0] * len(bars)
    for part in PARTS:
        values = [entry[part] for entry in bars.values()]
        axes.bar(list(bars), values, bottom=below, label=part)
        below = [a + b for a, b in zip(below, values)]
    axes.tick_params(axis="x", labelrotation=20)
    axes.set(title=f"{network}, {WORDS[picked]}, published basis", ylabel="uJ per image")
    axes.legend()
    return figure
