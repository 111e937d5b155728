"""Plots of a sweep, from its rows and its summary, as SVG. The same rows give the same bytes."""

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from synth.space.summary import DOUBLED, FAST, FRUGAL, front, good, usable
from synth.space.tasks import CAUSES

Rows = list[dict]
BARS = 16
"""Configurations in the chart of areas: shipped ones, those on a front, then others."""
UNITS = 9
"""Units that have a colour of their own there."""
COLOURS = matplotlib.colormaps["tab10"].colors


def write(rows: Rows, found: dict, folder: Path) -> list[Path]:
    """Draw what there is data for; the files that were made."""
    made = []
    networks = [name for name in found["networks"] if usable(rows, name)]
    for name, draw in (("cycles-area", _cycles_area), ("accuracy-energy", _accuracy_energy), ("cycles-budget", _cycles_budget)):
        figure = Figure(figsize=(1.5 + 5 * max(len(networks), 1), 4.6), layout="constrained")
        drawn = [draw(figure.add_subplot(1, len(networks), at), [*usable(rows, network)], network, found) for at, network in enumerate(networks, 1)]
        if any(drawn):
            made.append(_save(figure, folder / f"{name}.svg"))
    for name, draw in (("area", _area), ("scaling", _scaling)):
        figure = Figure(figsize=(10, 4.8), layout="constrained")
        if draw(figure, rows, found):
            made.append(_save(figure, folder / f"{name}.svg"))
    return made


def _save(figure, path):
    with matplotlib.rc_context({"svg.hashsalt": "sdp"}):
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    return path


def _stairs(axes, rows, x, y, **options):
    """The border of what the front dominates."""
    points = sorted((row[x], row[y]) for row in rows)
    axes.step([p[0] for p in points], [p[1] for p in points], where="post", **options)


def _cycles_area(axes, rows, network, found):
    rows = [row for row in good(rows, found["max_loss"]) if row["area"]]
    for at, group in enumerate(sorted({row["group"] for row in rows})):
        for weights, marker in (("w4", "o"), ("w8", "s"), ("mixed", "^")):
            part = [row for row in rows if row["group"] == group and row["weights"] == weights]
            if part:
                axes.scatter([row["area"] for row in part], [row["cycles"] for row in part], s=18, marker=marker, color=COLOURS[at % 10], alpha=0.7,
                             label=f"group {group}, {weights}")
    best = front(rows, *FAST)
    _stairs(axes, best, "area", "cycles", color="black", linewidth=1, label="front")
    for row in {row["configuration"]: row for row in sorted(rows, key=lambda row: -row["cycles"]) if row["series"] == "shipped"}.values():
        axes.annotate(row["configuration"], (row["area"], row["cycles"]), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel=f"area of the logic, {found['area_unit']}", ylabel="cycles per image",
             title=f"{network}\nat most {found['max_loss']:g} points expected to be lost")
    axes.legend(fontsize=7)
    return bool(rows)


def _accuracy_energy(axes, rows, network, found):
    rows = [row for row in rows if row["accuracy"] is not None]
    for at, group in enumerate(sorted({row["group"] for row in rows})):
        part = [row for row in rows if row["group"] == group]
        errors = [[max(0, row["accuracy"] - row["accuracy_low"]) for row in part], [max(0, row["accuracy_high"] - row["accuracy"]) for row in part]]
        axes.errorbar([row["energy_nj"] / 1e3 for row in part], [row["accuracy"] for row in part], yerr=errors, fmt="o", markersize=3, linewidth=0.4,
                      color=COLOURS[at % 10], alpha=0.6, label=f"group {group}")
    best = sorted(front(rows, *FRUGAL), key=lambda row: row["energy_nj"])
    axes.plot([row["energy_nj"] / 1e3 for row in best], [row["accuracy"] for row in best], "k.-", linewidth=1,
              label="front of energy and expected loss")
    axes.set(xscale="log", xlabel=f"energy per image, uJ ({found['energy_basis']})", ylabel="top-1 on test images, %, and 95 %", title=network)
    axes.legend(fontsize=7)
    return bool(rows)


def _cycles_budget(axes, rows, network, found):
    rows = [row for row in rows if row["terms"] is not None]
    if not rows:
        return False
    names = [name for name in dict.fromkeys(row["configuration"] for row in rows) if any(r["configuration"] == name and r["series"] == "shipped" for r in rows)]
    for at, name in enumerate(names or list(dict.fromkeys(row["configuration"] for row in rows))[:4]):
        for weights, style in (("w4", "o-"), ("w8", "s--")):
            line = sorted((row["terms"], row["cycles"]) for row in rows if row["configuration"] == name and row["weights"] == weights)
            if line:
                axes.plot(*zip(*line), style, color=COLOURS[at % 10], markersize=4, label=f"{name}, {weights}")
    axes.set(yscale="log", xlabel="budget, share of all terms; first and last layer at all", ylabel="cycles per image", title=network)
    axes.set_xscale("log", base=2)
    axes.legend(fontsize=7)
    return True


def _area(figure, rows, found):
    each = {row["configuration"]: row for row in rows if row["area"]}
    if not each:
        return False
    fronts = {row["configuration"] for entry in found["networks"].values() for row in entry["fast"]}
    names = sorted(each, key=lambda name: (each[name]["series"] != "shipped", name not in fronts))[:BARS]
    names.sort(key=lambda name: each[name]["nibble_multipliers"])
    units = [column for column in rows[0] if column.startswith("area ")]

    def share(name, unit):
        return (each[name][unit] or 0) / each[name]["area"]

    units = sorted(units, key=lambda unit: -max(share(name, unit) for name in names))[:UNITS]
    parts = {unit.removeprefix("area "): [100 * share(name, unit) for name in names] for unit in units}
    parts["all others"] = [100 - sum(values) for values in zip(*parts.values())]
    axes, below = figure.add_subplot(), [0.0] * len(names)
    for at, (unit, values) in enumerate(parts.items()):
        axes.bar(range(len(names)), values, bottom=below, label=unit, color=COLOURS[at % 10])
        below = [low + value for low, value in zip(below, values)]
    for at, name in enumerate(names):
        axes.text(at, 101, f"{each[name]['area'] / 1e3:,.0f}k", ha="center", fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axes.set(ylabel="percent of the logic", ylim=(0, 108), title=f"area by unit; above the bars: thousands of {found['area_unit']}")
    axes.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    return True


def _scaling(figure, rows, found):
    if not found["scaling"]:
        return False
    left, right = figure.subplots(1, 2)
    for at, (name, steps) in enumerate(found["scaling"].items()):
        steps = [entry for entry in steps if not entry["reason"]]
        if steps:
            first = steps[0]
            left.plot([e["value"] / first["value"] for e in steps], [first["conv_cycles"] / e["conv_cycles"] for e in steps], "o-", color=COLOURS[at], label=name)
    most = max(e["value"] / s[0]["value"] for s in found["scaling"].values() if "value" in s[0] for e in s if "value" in e)
    powers = [1 << n for n in range(int(most).bit_length())]
    left.plot(powers, [DOUBLED**n for n in range(len(powers))], "k:", label=f"{DOUBLED} for each doubling")
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    left.set(xlabel="rows or columns, times the base", ylabel="throughput of the convolutions, times the base")
    left.legend(fontsize=7)
    entries = [(f"{e['value']} {e['axis']}, {e['weights']}", e["causes"]) for name, steps in found["scaling"].items() if "kept" not in name
               for e in steps if not e["reason"]]
    below = [0.0] * len(entries)
    for at, cause in enumerate(CAUSES):
        values = [100 * causes[cause] for _, causes in entries]
        right.bar(range(len(entries)), values, bottom=below, label=cause, color=COLOURS[at])
        below = [low + value for low, value in zip(below, values)]
    right.set_xticks(range(len(entries)), [name for name, _ in entries], rotation=35, ha="right", fontsize=8)
    right.set(ylabel="percent of the convolutions' cycles", title="where they go")
    right.legend(fontsize=7, bbox_to_anchor=(1, 1), loc="upper left")
    return True
