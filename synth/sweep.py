"""The design space: area, accuracy, time and energy over a grid of configurations, networks, budgets and weight modes, in one table.

``sweep`` computes where joblib's active backend says: ``with joblib.parallel_config(backend="dask"): sweep(grid, folder)`` uses a cluster, whose workers
see this folder of the repository and the files of the grid.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from joblib import cpu_count, parallel_config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sdp import UserError
from sdp.config import Config
from synth.area import UNITS
from synth.cells.cell_library import generic_gates, read_liberty
from synth.cells.yosys import find_yosys
from synth.space import plots
from synth.space.grid import SEARCHED, WEIGHTS, Candidate, Grid, GridError, Source, derive, read, series, terms
from synth.space.summary import DOUBLED, summary
from synth.space.task_cache import compute
from synth.space.tasks import CAUSES, Accuracy, Area, Cost

CACHE = Path("build") / "sweep" / "cache"
SIZES = ("group", "lanes", "rows", "columns", "ports", "outputs", "array")
PARTS = ("array", "activations", "weights", "scales", "dram")
COLUMNS = (
    "series", "configuration", *SIZES, "nibble_multipliers", "memory_bits", "network", "budget", "terms", "weights", "reason",
    "cycles", "layer_cycles", "programs", "conv_cycles", "conv_macs", *(f"cycles_{cause}" for cause in CAUSES), "nibble_cycles_per_mac",
    "energy_nj", "energy_nj_low", "energy_nj_high", *(f"energy_nj_{part}" for part in PARTS), "energy_basis",
    "images", "accuracy", "accuracy_low", "accuracy_high", "expected_loss", "expected_error",
    "area", "area_unit", "array_area", "area_per_multiplier", "array_to_dense", "selector_share", *(f"area {unit}" for unit in UNITS.values()))
"""Of the table. ``terms``: share of a group's 2 * group terms. ``accuracy``: percent of test images; ``expected_loss``: points beyond exact 8 bit,
from calibration images alone, which decides what is good. Cycles and nJ are per image; ``cycles`` with all transfers, ``conv_cycles`` of the
convolutions alone, which ``cycles_CAUSE`` add up to."""

Step = Callable[[str, int, int], None]


class SweepError(UserError):
    """A sweep that cannot be started."""


def points(grid: Grid, candidates: list[Candidate]) -> list[dict]:
    """A row per configuration, network, budget and weight mode, with what stands before anything is computed."""
    found = []

    def add(c: Candidate, source: Source, budget, weights: str) -> None:
        row = dict.fromkeys(COLUMNS) | {"series": c.series, "configuration": c.name, **{name: c.fields[name] for name in SIZES},
                                        "network": source.name, "weights": weights, "reason": c.reason}
        if c.config:
            row |= {"nibble_multipliers": c.config.nibble_multipliers, "memory_bits": sum(c.config.memory_bits().values())}
        row["budget"] = budget
        if budget != SEARCHED:
            try:
                row["budget"] = terms(budget, c.fields["group"])
                row["terms"] = row["budget"] / (2 * c.fields["group"])
            except GridError as error:
                row["reason"] = row["reason"] or str(error)
        found.append(row | {"_candidate": c, "_source": source})

    for c in candidates:
        for source in grid.networks:
            for budget in grid.budgets:
                for weights in ["mixed"] if budget == SEARCHED else grid.weights:
                    add(c, source, budget, weights)
    if grid.scaling:
        source = next(source for source in grid.networks if source.name == grid.scaling["network"])
        for weights in grid.scaling["weights"]:
            for c in series(grid.base, grid.scaling["doublings"]):
                add(c, source, grid.scaling["budget"], weights)
    return found


def _areas(grid, candidates, run):
    if not grid.area:
        return {}
    library = read_liberty(grid.liberty) if grid.liberty else generic_gates()
    find_yosys()
    there = [c for c in candidates if c.config]
    # The first configuration with each element before the second with any: what they share is then mapped already, not twice at a time.
    turn, seen = {}, Counter()
    for c in there:
        element = c.config.group, c.config.lanes, c.config.array
        seen[element] += 1
        turn[c.name] = seen[element]
    there.sort(key=lambda c: turn[c.name])
    return dict(zip((c.name for c in there), run("area", [Area(c.config, library) for c in there])))


def _accuracies(grid, rows, run):
    tasks = {}
    for row in rows if grid.images else ():
        if row["series"] in ("grid", "shipped") and not row["reason"]:
            searched, config = row["budget"] == SEARCHED, row["_candidate"].config
            if searched:
                config = Config(name="searched", **derive(grid.base, group=config.group, lanes=config.lanes, array=config.array))
            tasks[_accuracy(row)] = Accuracy(row["_source"], config, None if searched else row["budget"], WEIGHTS.get(row["weights"], True),
                                             grid.images, grid.calibration, grid.max_loss)
    return dict(zip(tasks, run("accuracy", list(tasks.values()))))


def _accuracy(row):
    config = row["_candidate"].config
    lanes = config.lanes if row["budget"] == SEARCHED else None
    return row["network"], config.group, config.array, config.scale_bits, lanes, row["budget"], row["weights"]


def sweep(grid: Grid, folder: Path, *, cache: Path = CACHE, step: Step = lambda *_: None) -> list[dict]:
    """The rows of the table, which is written to ``folder / "results.csv"``; what is known from ``cache`` is not computed again.

    ``step`` is called with (what, known tasks, all tasks). A point that cannot exist is a row with a ``reason``.
    """
    def run(what, tasks):
        return compute(tasks, cache, lambda done, of: step(what, done, of))

    candidates = grid.candidates()
    rows = points(grid, candidates)
    basis = "library" if grid.liberty else "published"
    areas, accuracies = _areas(grid, candidates, run), _accuracies(grid, rows, run)
    possible = []
    for row in rows:
        seen = accuracies.get(_accuracy(row)) if row["_candidate"].config and row["series"] in ("grid", "shipped") else None
        if row["budget"] == SEARCHED and not row["reason"]:
            row["reason"] = (seen or {"reason": "searched mixtures need images"}).get("reason", "")
        if seen and "reason" not in seen:
            row |= {"images": seen["images"], "accuracy": seen["accuracy"], "accuracy_low": seen["low"], "accuracy_high": seen["high"],
                    "expected_loss": seen["expected_loss"], "expected_error": seen["expected_error"]}
        row["reason"] = row["reason"] or (seen or {}).get("reason", "")
        if not row["reason"]:
            mixture = tuple((name, *mode) for name, mode in seen["modes"].items()) if row["budget"] == SEARCHED else ()
            possible.append((row, Cost(row["_candidate"].config, row["_source"], None if mixture else row["budget"], WEIGHTS.get(row["weights"], True),
                                       mixture, basis)))
    for (row, _), cost in zip(possible, run("time and energy", [task for _, task in possible])):
        _fill(row, cost, areas.get(row["configuration"]), basis)
    rows = [{name: row[name] for name in COLUMNS} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def _fill(row, cost, area, basis):
    if "reason" in cost:
        row["reason"] = cost["reason"]
        return
    row |= {name: cost[name] for name in ("cycles", "layer_cycles", "programs", "conv_cycles", "conv_macs", "energy_nj", "energy_nj_low", "energy_nj_high")}
    row |= {f"cycles_{name}": value for name, value in cost["causes"].items()} | {"energy_basis": basis}
    row |= {f"energy_nj_{name}": value for name, value in cost["energy_parts"].items()}
    row["nibble_cycles_per_mac"] = row["conv_cycles"] * row["nibble_multipliers"] / row["conv_macs"]
    if area and "reason" in area:
        row["reason"] = area["reason"]
    elif area:
        row |= {"area": area["area"], "area_unit": area["unit"], "array_area": area["array"], "area_per_multiplier": area["per_multiplier"],
                "array_to_dense": area["to_dense"], "selector_share": area["selector_share"], "memory_bits": area["memory_bits"]}
        row |= {f"area {name}": value for name, value in area["units"].items() if f"area {name}" in COLUMNS}


@contextmanager
def backend(scheduler: str | None, jobs: int):
    """Processes on this computer, or the workers of a Dask scheduler."""
    if not scheduler:
        with parallel_config(backend="loky", n_jobs=jobs):
            yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise SweepError(f"--scheduler needs Dask: install it with '{Path(sys.executable).name} -m pip install distributed'") from None
    with Client(scheduler), parallel_config(backend="dask"):
        yield


def show(console: Console, found: dict) -> None:
    unit = found["area_unit"] or "no area"
    for network, entry in found["networks"].items():
        chosen = {row["configuration"]: row for row in entry["shipped"].values() if not row["on_front"]}
        table = Table(title=f"{network}: fastest for their area ({unit}, logic) of those expected to lose at most {found['max_loss']:g} points beyond\n"
                      f"exact 8 bit (calibration images alone); accuracy on {entry['images']:,} test images, 95 %", title_justify="left")
        for name in ("configuration", "multipliers", "budget", "weights", "cycles", "area", "energy, uJ", "accuracy, %", "off the front"):
            table.add_column(name, justify="left" if name in ("configuration", "weights") else "right")
        for row in entry["fast"]:
            table.add_row(*_cells(row), "")
        table.add_section()
        for row in chosen.values():
            table.add_row(*_cells(row), f"x {row['excess']:.2f}", style="dim")
        if entry["fast"] or chosen:
            console.print(table)
    for name, steps in found["scaling"].items():
        text = []
        for entry in steps:
            if entry["reason"]:
                text.append(entry["reason"])
            elif "gain" not in entry:
                text.append(f"{entry['value']}: {entry['conv_cycles']:,}")
            else:
                ends = "" if entry["kept"] else f", below {DOUBLED}: {entry['cause']}"
                text.append(f"{entry['value']}: {entry['conv_cycles']:,} (x {entry['gain']:.3f}{ends})")
        console.print(f"doubling {name}, cycles of the convolutions of {steps[0]['network']}: {'; '.join(text)}", highlight=False)
    for reason, count in found["impossible"].items():
        console.print(f"{count} rows impossible: {reason}", highlight=False)


def _cells(row):
    budget = row["budget"] if row["terms"] is None else f"{row['budget']} of {2 * row['group']}"
    accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.2f} ({row['accuracy_low']:.1f} - {row['accuracy_high']:.1f})"
    return (row["configuration"], f"{row['nibble_multipliers']:,}", budget, row["weights"], f"{row['cycles']:,}",
            f"{row['area']:,.0f}" if row["area"] else "", f"{row['energy_nj'] / 1e3:,.2f}", accuracy)


def main(args) -> int:
    """``args.grid``, ``args.config`` (base, where the grid names none), ``args.liberty``, ``args.jobs``, ``args.scheduler``, ``args.out``."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    grid = read(args.grid, args.config, args.liberty)
    folder = Path(args.out) / "sweep" / grid.name
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with backend(args.scheduler, args.jobs or cpu_count()), Progress(*columns, console=console, transient=True) as bar:
            bars = {}

            def step(what, done, of):
                bars.setdefault(what, bar.add_task(what, total=of) if what not in bars else None)
                bar.update(bars[what], completed=done, total=of)

            rows = sweep(grid, folder, cache=folder.parent / "cache", step=step)
    except KeyboardInterrupt:
        print("sweep: stopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    found = summary(rows, grid.max_loss)
    (folder / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    made = [folder / "results.csv", folder / "summary.json", *plots.write(rows, found, folder)]
    show(console, found)
    for path in made:
        console.print(f"made {path}", highlight=False)
    return 0
