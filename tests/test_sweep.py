"""The design space: fronts are fronts, nothing is computed twice, whatever cannot exist is a row, the active backend does the work."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend

from compiler import quantize, schedule
from golden.cycles import layer_cycles
from sdp.__main__ import main
from sdp.config import NAMED, Config
from sdp.program import Kind
from sim import flow
from synth import sweep
from synth.cells.cell_library import generic_gates
from synth.space import grid, pareto, plots, summary, task_cache, tasks
from synth.space.grid import DIGITS, GridError, Source

ROOT = Path(__file__).parents[1]
AXES = "[axes]\ngroup = [4, 8]\nlanes = [2]\nrows = [4, 8]\ncolumns = [8]\n"
HEAD = 'name = "t"\nshipped = ["small"]\nbudgets = [0.25, 0.5]\nweights = ["w4"]\nimages = 0\narea = false\n'
COSTS = HEAD + AXES
TASKS = 4 * 2
"""Of COSTS: four configurations, one of which is `small`, two budgets."""

points = st.lists(st.tuples(*[st.integers(1, 4)] * 3), max_size=12)


@given(points)
def test_front_against_brute_force(found):
    brute = {n for n, p in enumerate(found) if not any(all(x <= y for x, y in zip(q, p)) and q != p for q in found)}
    assert set(pareto.front(found)) == brute and len(pareto.front(found)) == len(brute)


@given(points, st.tuples(*[st.integers(1, 4)] * 3))
def test_excess_takes_a_point_to_the_front(found, point):
    factor = pareto.excess(point, found)
    assert (factor == 1) == (not any(pareto.dominates(p, point) and all(x < y for x, y in zip(p, point)) for p in found))
    shrunk = [x / factor * (1 - 1e-9) for x in point]
    assert not any(pareto.dominates(p, shrunk) for p in found) or factor == 1


def write(folder, text):
    path = folder / "t.toml"
    path.write_text(text)
    return path


def read(folder, text=COSTS):
    return grid.read(write(folder, text), NAMED["small"])


@pytest.mark.parametrize("text, message", [
    ("colour = 3\n" + COSTS, "unknown key 'colour'; there are name, base, axes"),
    (HEAD + AXES.replace("rows", "pixels"), "unknown axis 'pixels'; there are group, lanes"),
    (HEAD + AXES.replace("rows = [4, 8]\n", ""), "there is no axis 'rows'; there must be group, lanes, rows, columns"),
    (HEAD + AXES + 'array = ["sdp", "drq"]\n', r"axis array has 'drq', but each must be one of sdp, sdp-plain"),
    (HEAD + AXES.replace("[4, 8]", "[]", 1), r"axis group = \[\], but must be a list that is not empty"),
    (HEAD + AXES.replace("[4, 8]", "[4, 0.5]", 1), "axis group has 0.5, but each must be a whole number above 0"),
    (COSTS.replace("[0.25, 0.5]", "[]"), r"budgets = \[\], but must be a list that is not empty"),
    (COSTS.replace("0.25", "1.5"), "budgets has 1.5, but each must be a number of terms, a share of them above 0 and up to 1.0, or 'searched'"),
    (COSTS.replace('["w4"]', '["w5"]'), "weights has 'w5', but each must be one of w4, w8"),
    (COSTS.replace('["small"]', '["huge"]'), "shipped has 'huge', but each must be one of tiny, small, small-4, medium, large"),
    (COSTS.replace("images = 0", "images = -1"), "images = -1, but must be a number of images"),
    (COSTS.replace("area = false", "area = 1"), "area = 1, but must be true or false"),
    (COSTS.replace('"t"', '"a/b"'), "name = 'a/b', but must be letters, digits, '-' and '_'"),
    ('base = "huge"\n' + COSTS, "configuration 'huge' is neither one of tiny, small, small-4, .* nor a .toml file"),
    (COSTS + '[[networks]]\nmodel = "none.onnx"\n', "a network with a model needs 'test', a path"),
    (COSTS + '[[networks]]\nmodel = "n.onnx"\ntest = "t"\ncalibration = "c"\n', "there is no file n.onnx"),
    (COSTS + '[[networks]]\nmodel = "n.onnx"\ntest = "t"\ncalibration = "c"\noptional = true\n', "no network is there"),
    (COSTS + "[[networks]]\n[[networks]]\n", "two networks have the same name"),
    (COSTS + "[[networks]]\nonnx = 1\n", "unknown key 'onnx' of a network; there are name, model"),
    (COSTS + "[scaling]\nrows = 3\n", "unknown scaling key 'rows'; there are network, budget"),
    (COSTS + "[scaling]\ndoublings = 0\n", "scaling: doublings = 0, but must be a whole number above 0"),
    ("= 3", ".*Invalid"),
])
def test_grid_errors(tmp_path, capsys, text, message):
    with pytest.raises(GridError, match=f"^grid .*t.toml: {message}"):
        read(tmp_path, text)
    assert main(["sweep", "--grid", str(tmp_path / "t.toml"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_grid_of_the_repository():
    found = grid.read(ROOT / "sweep.toml", NAMED["tiny"])
    assert found.base == NAMED["small"] and found.networks[0] == Source("digits", str(DIGITS))
    assert all(c.config for c in found.candidates()) and {c.name for c in found.candidates() if c.series == "shipped"} == set(grid.SHIPPED)
    found = grid.read(ROOT / "sweep-groups.toml", NAMED["tiny"])
    assert found.budgets == [grid.SEARCHED] and found.networks[0] == Source("digits", str(DIGITS))
    configs = {c.name: c.config for c in found.candidates()}
    assert set(configs) == {f"g{group}-l2-8x8-{array}" for group in (4, 8) for array in grid.TERMS}
    assert grid._sizes(configs["g8-l2-8x8-sdp"]) == grid._sizes(NAMED["small"])
    assert grid._sizes(configs["g8-l2-8x8-sdp-plain"]) == grid._sizes(grid.SHIPPED["small-plain"])


def test_derived_fields():
    """Shipped configurations follow the rule in ports and outputs; the base is its own neighbour; memories keep their bits."""
    for config in NAMED.values():
        own = {name: getattr(config, name) for name in grid.REQUIRED}
        base = NAMED["small"] if config.name != "tiny" else config
        made = grid.derive(base, **own)
        assert (made["ports"], made["outputs"]) == (config.ports, config.outputs)
        assert Config(name="x", **grid.derive(config, **own)).memory_bits() == config.memory_bits()
    for rows in (1, 2, 6, 7, 64):
        for columns in (1, 3, 12, 64):
            for lanes, group in ((2, 8), (1, 32), (3, 4), (32, 2)):
                fields = grid.derive(NAMED["small"], rows=rows, columns=columns, lanes=lanes, group=group)
                made, base = Config(name="x", **fields).memory_bits(), NAMED["small"].memory_bits()
                for array in grid.TERMS:
                    plain = Config(name="x", **grid.derive(NAMED["small"], rows=rows, columns=columns, lanes=lanes, group=group, array=array))
                    assert plain.array == array and plain.memory_bits()["weights"] <= base["weights"] < 2 * plain.memory_bits()["weights"]
                assert made["weights"] <= base["weights"] < 2 * made["weights"] and base["activations"] <= made["activations"] < 2 * base["activations"]


@pytest.mark.parametrize("config", [*NAMED.values(), Config(name="x", rows=32, columns=32, ports=2, outputs=2)], ids=lambda c: c.name)
@pytest.mark.parametrize("w4", [False, True])
def test_causes_add_up(config, w4):
    calibration = tasks.skeleton(str(DIGITS), "")
    names = [layer.name for layer in quantize.quantize(calibration, config).layers if layer.kind is Kind.CONV]
    network = quantize.quantize(calibration, config, tasks.modes(names, config.group, 3, w4))
    for layer in network.layers:
        if layer.kind is Kind.CONV:
            found = tasks.causes(config, layer)
            assert sum(found.values()) == pytest.approx(schedule.cycles(config, layer)) and min(found.values()) >= -1e-6
            assert found["used"] == pytest.approx(layer.macs * layer.budget / config.group * (1 if layer.w4 else 2) / config.nibble_multipliers)


@pytest.fixture
def calls(monkeypatch):
    """Costs that were computed, in this process."""
    found, run = [], tasks.Cost.run
    monkeypatch.setattr(tasks.Cost, "run", lambda task: found.append(task) or run(task))
    return found


def run(folder, text=COSTS, out="out", step=lambda *_: None):
    with parallel_config(backend="threading", n_jobs=2):
        return sweep.sweep(read(folder, text), folder / out, cache=folder / "cache", step=step)


def test_nothing_is_computed_twice(tmp_path, calls):
    rows = run(tmp_path)
    assert len(calls) == TASKS == len(rows)
    assert run(tmp_path, out="again") == rows and len(calls) == TASKS
    assert (tmp_path / "out" / "results.csv").read_bytes() == (tmp_path / "again" / "results.csv").read_bytes()
    run(tmp_path, COSTS.replace("0.5]", "0.5, 1.0]"))
    assert len(calls) == TASKS + 4  # what is new alone
    assert {task.budget for task in calls[TASKS:]} == {8, 16}


def test_other_sources_are_other_results(tmp_path, calls, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr(tasks, "code", lambda *files, alone=(): "another")
    run(tmp_path)
    assert len(calls) == 2 * TASKS


def test_code_is_what_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(task_cache, "ROOT", tmp_path)
    (tmp_path / "p").mkdir()
    files = {"a.py": "from p import b\n", "p/__init__.py": "", "p/b.py": "def f():\n    import p.c\n", "p/c.py": "import sys\n", "d.py": "", "e.toml": "x = 1"}

    def seen(**changed):
        for name, text in (files | changed).items():
            (tmp_path / name).write_text(text)
        return task_cache.code.__wrapped__("a.py", alone=("e.toml",))

    first = seen()
    assert seen(**{"d.py": "import a"}) == first == seen()
    assert all(seen(**{name: text + "\n# changed"}) != first for name, text in files.items() if name != "d.py")


def test_a_sweep_that_was_interrupted_goes_on(tmp_path, calls):
    def step(what, done, of):
        if what == "time and energy" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, step=step)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.json")}
    assert len(kept) == 3
    calls.clear()
    assert all(row["cycles"] for row in run(tmp_path))
    assert len(calls) == TASKS - 3 and all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_a_sweep_that_was_killed_goes_on(tmp_path, calls):
    """No chance to clean up: SIGKILL, in the middle."""
    text = COSTS.replace("[4, 8]\ncol", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 32]\ncol")
    command = [sys.executable, "-m", "sdp", "sweep", "--grid", str(write(tmp_path, text)), "--out", str(tmp_path / "o"), "--jobs", "1"]
    cache = tmp_path / "o" / "sweep" / "cache"
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(cache.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in cache.glob("*.json")}
    assert len(kept) >= 2
    with parallel_config(backend="threading", n_jobs=2):
        rows = sweep.sweep(read(tmp_path, text), tmp_path / "out", cache=cache)
    assert len(rows) == 56 and len(calls) == 56 - len(kept)
    assert all(json.loads(text) and path.read_bytes() == text for path, text in kept.items())


def test_the_active_backend_computes(tmp_path):
    """As a user sets Dask's: here one that counts."""
    submitted = []

    class Counting(ThreadingBackend):
        def submit(self, function, callback=None):
            submitted.append(function)
            return super().submit(function, callback)

    register_parallel_backend("counting", Counting)
    with parallel_config(backend="counting", n_jobs=2):
        sweep.sweep(read(tmp_path), tmp_path / "out", cache=tmp_path / "cache")
    assert len(submitted) == TASKS


def test_scheduler_without_dask(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sweep", "--grid", str(write(tmp_path, COSTS)), "--out", str(tmp_path), "--scheduler", "tcp://here:1"]) == 1
    assert capsys.readouterr().err == f"sdp sweep: --scheduler needs Dask: install it with '{Path(sys.executable).name} -m pip install distributed'\n"


def test_what_cannot_exist_is_a_row(tmp_path):
    text = HEAD + "[axes]\ngroup = [2]\nlanes = [1, 2]\nrows = [4]\ncolumns = [8]\nreduction = [16, 4608]\n"
    rows = run(tmp_path, text.replace("[0.25, 0.5]", "[0.125, 4, 5]"))
    reasons = {row["reason"] for row in rows if row["reason"]}
    assert any("lanes = 1, but must be such that" in reason for reason in reasons)
    assert "budget 0.125 of 4 terms is 0.5, no whole number" in reasons and "budget 5 is more than the 4 terms of a group of 2" in reasons
    assert any("each output sums over" in reason for reason in reasons)
    assert [row["configuration"] for row in rows if row["cycles"]] == ["small"] * 3 + ["g2-l2-4x8-reduction4608"]
    with (tmp_path / "out" / "results.csv").open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == [row["reason"] for row in rows]


def areas(config):
    return {"area": 1000.0 * config.rows, "array": 500.0, "per_multiplier": 5.0, "to_dense": 1.5, "unit": "NAND2", "selector_share": 0.1, "memory_bits": 7,
            "units": {"term selectors": 400.0 * config.rows, "controller": 600.0 * config.rows}}


def test_summary_and_plots(tmp_path, monkeypatch):
    """Areas and accuracies are made up: the fronts are known."""
    monkeypatch.setattr(tasks.Area, "run", lambda task: (areas(task.config), True))
    monkeypatch.setattr(tasks.Accuracy, "run", lambda task: ({
        "images": 50, "accuracy": 90.0 + task.budget, "low": 85.0, "high": 99.5, "expected_loss": float(task.budget == 2), "expected_error": 0.1, "modes": {}}, True))
    text = COSTS.replace("images = 0", "images = 50").replace("area = false", "area = true").replace("[0.25, 0.5]", "[0.125, 0.25]")
    rows = run(tmp_path, text.replace("images = 50", "images = 50\nmax_loss = 0.5") + "[scaling]\ndoublings = 2\n")
    found = json.loads(json.dumps(summary.summary(rows, 0.5)))
    entry = found["networks"]["digits"]
    assert found["area_unit"] == "NAND2" and entry["images"] == 50 and not found["impossible"]
    there = [row for row in rows if row["series"] in ("grid", "shipped") and row["expected_loss"] == 0]
    best = {(row["cycles"], row["area"]) for row in there
            if not any(o["cycles"] <= row["cycles"] and o["area"] <= row["area"] and (o["cycles"], o["area"]) != (row["cycles"], row["area"]) for o in there)}
    assert {(row["cycles"], row["area"]) for row in entry["fast"]} == best and len(best) > 1
    small = entry["shipped"]["small"]
    assert small["on_front"] == (not small["beaten_by"]) == (small["excess"] == 1) == ((small["cycles"], small["area"]) in best)
    made = plots.write(rows, found, tmp_path)
    assert {path.name for path in made} == {f"{n}.svg" for n in ("cycles-area", "accuracy-energy", "cycles-budget", "area", "scaling")}
    first = [path.read_bytes() for path in made]
    assert first == [path.read_bytes() for path in plots.write(rows, found, tmp_path)]


def test_searched_mixtures_belong_to_group_and_array(tmp_path, monkeypatch):
    """The search is made up: a mixture for each group and array. Its row has the accuracy and the cycles of that mixture."""
    names = [layer.name for layer in quantize.quantize(tasks.skeleton(str(DIGITS), ""), NAMED["small"]).layers if layer.kind is Kind.CONV]

    def budget(config):
        return config.group // 2 + (config.array == "sdp-plain")

    def found(task):
        assert task.budget is None and task.config.lanes == 2
        accuracy = 90.0 + budget(task.config)
        return {"images": 50, "accuracy": accuracy, "low": accuracy, "high": accuracy, "expected_loss": 0.0, "expected_error": 0.1,
                "modes": {name: (budget(task.config), True) for name in names}}, True

    monkeypatch.setattr(tasks.Accuracy, "run", found)
    text = COSTS.replace("[0.25, 0.5]", '["searched"]').replace("images = 0", "images = 50").replace('["small"]', "[]")
    rows = run(tmp_path, text + 'array = ["sdp", "sdp-plain"]\n')
    assert len(rows) == 8 and {row["array"] for row in rows} == {"sdp", "sdp-plain"}
    for row, made in zip(rows, read(tmp_path, text + 'array = ["sdp", "sdp-plain"]\n').candidates()):
        mixture = tuple((name, budget(made.config), True) for name in names)
        cost, _ = tasks.Cost(made.config, Source("digits", str(DIGITS)), None, True, mixture, "published").run()
        assert (row["configuration"], row["accuracy"], row["cycles"]) == (made.name, 90 + budget(made.config), cost["cycles"]) and not row["reason"]
    assert [row["configuration"] for row in summary.summary(rows)["networks"]["digits"]["searched"]] == [row["configuration"] for row in rows]


def test_a_searched_mixture_is_the_compilers(tmp_path):
    """A real search on few images: what ``sim.flow.choose`` finds."""
    config, source = NAMED["small"], Source("digits", str(DIGITS))
    seen, _ = tasks.Accuracy(source, config, None, True, 40, 32, 3.0).run()
    network = flow.read(DIGITS)
    fit, _ = tasks.images(source, network, 32, 40)
    made = flow.choose(network, fit.images, fit.labels, config, 3.0).sdp
    assert seen["modes"] == {layer.name: (layer.budget, layer.w4) for layer in made.layers if layer.kind is Kind.CONV}
    assert any(budget < 2 * config.group for budget, _ in seen["modes"].values()) and seen["expected_loss"] < 3


def test_scaling_says_what_ends_it(tmp_path):
    rows = run(tmp_path, COSTS + '[scaling]\nbudget = 2\nweights = ["w8", "w4"]\n')
    found = summary.summary(rows)["scaling"]
    assert list(found) == [f"{name}, {weights}" for weights in ("w8", "w4") for name in grid.SERIES]
    for steps in found.values():
        for before, entry in zip(steps, steps[1:]):
            assert entry["value"] == 2 * before["value"] and entry["gain"] == before["conv_cycles"] / entry["conv_cycles"]
            assert entry["kept"] == (entry["gain"] >= 1.9) and sum(entry["causes"].values()) == pytest.approx(1)
    assert found["rows, ports kept, w4"][1]["cause"] == "beats"  # 16 rows, 4 ports: four cycles for two terms
    assert found["columns, w4"][2]["cause"] == "columns"  # 64 channels at once; the network has 32


def test_accuracy_and_area_are_those_of_the_commands(tmp_path):
    """A real point: few images, the smallest machine."""
    config = Config(name="least", **grid.derive(NAMED["tiny"], group=4, lanes=1, rows=1, columns=1) | {"scale_bits": 8, "log_layers": 1})
    found, keep = tasks.Area(config, generic_gates()).run()
    assert keep and found["unit"] == "NAND2" and sum(found["units"].values()) == pytest.approx(found["area"])
    assert 1 < found["to_dense"] < 3 and 0 < found["array"] < found["area"] and found["memory_bits"] >= sum(config.memory_bits().values()) - config.log_layers * 128
    seen, _ = tasks.Accuracy(Source("digits", str(DIGITS)), config, 8, False, 40, 32, 1.0).run()
    assert seen["images"] == 40 and seen["low"] < seen["accuracy"] <= seen["high"] + 1e-9 and seen["accuracy"] > 90
    assert abs(seen["expected_loss"]) < 1 and 0 < seen["expected_error"] < 1 and set(map(tuple, seen["modes"].values())) == {(8, False)}
    cost, _ = tasks.Cost(config, Source("digits", str(DIGITS)), 8, False, (), "published").run()
    assert cost["layer_cycles"] <= cost["cycles"] and cost["energy_nj_low"] < cost["energy_nj"] < cost["energy_nj_high"]
    assert sum(cost["energy_parts"].values()) == pytest.approx(cost["energy_nj"])


def test_cycles_are_those_of_the_compiler(tmp_path):
    """One program: cycles of layers by the formula, of the frame by the compiler's own count."""
    assert tasks.modes(["a", "b", "c"], 8, 4, True) == {"a": (16, False), "b": (4, True), "c": (16, False)}
    config, source = NAMED["small"], Source("digits", str(DIGITS))
    cost, _ = tasks.Cost(config, source, 4, True, (), "published").run()
    calibration = tasks.skeleton(source.model, "")
    names = [layer.name for layer in quantize.quantize(calibration, config).layers if layer.kind is Kind.CONV]
    compiled = schedule.compile(quantize.quantize(calibration, config, tasks.modes(names, 8, 4, True)), config)
    assert cost["layer_cycles"] == sum(layer_cycles(config, item.command).total for item in compiled.passes[0].layers)
    assert cost["cycles"] == compiled.passes[0].cycles and cost["programs"] == 1


def test_a_failure_that_may_pass_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.Area, "run", lambda task: ({"reason": "yosys was killed"}, False))
    rows = run(tmp_path, COSTS.replace("area = false", "area = true"))
    assert {row["reason"] for row in rows} == {"yosys was killed"}
    assert len(list((tmp_path / "cache").glob("*.json"))) == TASKS
    task = tasks.Area(NAMED["small"], generic_gates())
    assert not (tmp_path / "cache" / f"{task_cache.key(task)}.json").exists()
