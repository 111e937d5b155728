"""Joins what was chosen, what was built and what it takes: one dictionary, from which the report is written.

Two readings of "equal accuracy" for every method: ``chosen``: the point that its search chose on calibration images to lose at most a point; ``hindsight``: the
cheapest point of its curve that loses at most a point on the test images (a look that no user has, the same one for all). Of what was trained nothing was
chosen: hindsight alone.
"""

import json
import pickle
from pathlib import Path

from rich.console import Console

from compare import built, cases, energy, energy_models, int16
from compare.hardware import EYERISS_MULTIPLIERS
from compare.method import Fitted, macs
from compare.names import NAMES
from golden import olaccel_cycles
from golden.eyeriss import summary
from sdp.config import CONFIGS
from sdp.program import Kind
from sim.run import progress_bar


def hindsight(points: list[dict], top1_float: float, loss: float) -> int | None:
    """The cheapest point that loses at most ``loss`` on the test images."""
    fit = [at for at, point in enumerate(points) if top1_float - point["top1"] <= loss + 1e-9]
    return min(fit, key=lambda at: points[at]["ideal_on_test"], default=None)


def of_method(case: cases.Case, method: str, path: Path, power: dict | None, bar) -> dict | None:
    """The report in ``path``: a method's curve on a network, with what each point takes on the method's machine; none while it is being measured."""
    report, fitted = json.loads(path.read_text()), pickle.loads(path.with_suffix(".pickle").read_bytes()).fitted
    if "points" not in report:
        return None
    report = int16.of_int8(report) if method == "int16" else report
    report["macs"] = macs(fitted.points[0].network)
    chosen = {"chosen": report["chosen"]} if "chosen" in report else {}
    report["picked"] = {**chosen, "hindsight": hindsight(report["points"], report["top1_float"], cases.LOSS)}
    task = bar.add_task(f"{case.name}: what {NAMES[method]} takes", total=len(report["points"]))
    for at, point in enumerate(report["points"]):
        point |= _taken(case, method, fitted, at, power)
        bar.advance(task)
    return report


def _taken(case: cases.Case, method: str, fitted: Fitted, at: int, power: dict | None) -> dict:
    """Cycles and energy of a point on what was built."""
    network, arithmetic, images = fitted.points[at].network, fitted.arithmetic, case.test.images[: built.IMAGES]
    if method == "olaccel":
        return {"built": _olaccel(arithmetic, network, images),
                "energy": energy_models.of_olaccel(arithmetic, network, images, CONFIGS[built.MACHINES["sdp"]])}
    config = built.machine(method, arithmetic.config)
    made = built.build(arithmetic, network, config, images)
    conv = sum(float(c) for c, layer in zip(made.cycles, made.layers, strict=True) if layer.kind is Kind.CONV)
    taken = int16.inference(made, network) if method == "int16" else energy.inference(made, energy.products(arithmetic, network, images), power)
    return {"cycles": made.total, "built": conv * config.nibble_multipliers / macs(network), "energy": taken}


def _olaccel(arithmetic, network, images) -> float:
    """Nibble cycles per multiplication with imbalance and empty chunks, of the normal groups."""
    array, tensors, total = olaccel_cycles.Array(), arithmetic.run(network, images), 0.0
    for layer in network.layers:
        if layer.kind is not Kind.CONV:
            continue
        place = layer.stride, layer.pad, layer.out_shape[:2]
        codes = tensors[layer.input]
        work = (olaccel_cycles.work(codes, layer.weights, *place, layer.in_signed) if layer.mode[0]
                else olaccel_cycles.precise_work(codes, layer.weights, *place))
        total += float(olaccel_cycles.modelled(work, array).mean()) * array.macs
    return total / macs(network)


def eyeriss(case: cases.Case) -> dict:
    """Of the float network on 168 elements, a batch of four with the zeros that it has: cycles and energy per image; nibble cycles per multiplication of
    the layers that sum over channels (an element is 16 nibble multipliers); share of elements that work."""
    layers = energy_models.with_zeros(case.network, case.test.images[: built.IMAGES])
    summing = summary([layer for layer in layers if layer.groups == 1], energy_models.BATCH, built=True)
    found = summary(layers, energy_models.BATCH, built=True)
    return {"cycles": found["cycles"], "built": summing["cycles"] * EYERISS_MULTIPLIERS / summing["macs"], "utilization": found["utilization"],
            "energy": energy_models.of_eyeriss(layers)}


def beside(found: dict, other: dict) -> dict:
    """Eyeriss as a report of one point like ``other``, with the accuracy of the float network [generous: its 16 bits were not run]."""
    point = {"top1": other["top1_float"], "ideal_on_test": float(int16.PRODUCTS), **found}
    return {"method": "eyeriss", "points": [point], "picked": dict.fromkeys(other["picked"], 0), **{name: other[name] for name in ("top1_float", "images")}}


def collect(build: Path, hardware: dict, names: list[str], methods: list[str]) -> dict:
    """{network: {method: report}}; trained networks under names of their own, beside them the methods that were not trained."""
    folder, found = build / "compare", {}
    every = [method for method in NAMES if int16.SEARCHED.get(method, method) in methods]
    with progress_bar(Console(stderr=True)) as bar:
        for name in names:
            case = cases.load(name)

            def reports(folder, case=case):
                paths = {method: folder / f"{int16.SEARCHED.get(method, method)}.json" for method in every}
                made = {method: of_method(case, method, path, hardware[method].power if method in hardware else None, bar)
                        for method, path in paths.items() if path.is_file()}
                return {method: report for method, report in made.items() if report}

            found[name] = reports(folder / name)
            if found[name]:
                found[name]["eyeriss"] = beside(eyeriss(case), next(iter(found[name].values())))
            if trained := reports(folder / f"{name}{cases.FINETUNED}"):
                rest = {method: {**report, "untrained": True, "picked": {"hindsight": report["picked"]["hindsight"]}} for method, report in found[name].items()}
                found[name + cases.FINETUNED] = {method: trained.get(method) or rest[method] for method in NAMES if method in trained or method in rest}
    return found
