"""Joins what was chosen, what was built and what it takes: one dictionary, from which the report is written.

Two readings of "equal accuracy" for every method: ``chosen``: the point that its search chose on calibration images to lose at most a point; ``hindsight``: the
cheapest point of its curve that loses at most a point on the test images (a look that no user has, the same one for all). Of what was trained nothing was
chosen: hindsight alone.
"""

import json
import pickle
from pathlib import Path

from compare import built, cases, energy
from compare.hardware import Hardware
from compare.method import Fitted, macs
from golden import olaccel_cycles
from golden.eyeriss import of_network, summary
from sdp.program import Kind

EYERISS_MULTIPLIERS = 168 * 16
"""Its 168 16-bit multipliers in nibble multipliers."""


def hindsight(points: list[dict], top1_float: float, loss: float) -> int | None:
    """The cheapest point that loses at most ``loss`` on the test images."""
    fit = [at for at, point in enumerate(points) if top1_float - point["top1"] <= loss + 1e-9]
    return min(fit, key=lambda at: points[at]["ideal_on_test"], default=None)


def of_method(case: cases.Case, method: str, path: Path, hardware: dict[str, Hardware]) -> dict:
    """The report in ``path``: a method's curve on a network, points that were picked with what they take on the method's machine, where it has one."""
    report, fitted = json.loads(path.read_text()), pickle.loads(path.with_suffix(".pickle").read_bytes()).fitted
    report["macs"] = macs(fitted.points[0].network)
    chosen = {"chosen": report["chosen"]} if "chosen" in report else {}
    report["picked"] = picked = {**chosen, "hindsight": hindsight(report["points"], report["top1_float"], cases.LOSS)}
    for at in set(picked.values()) - {None}:
        report["points"][at] |= _taken(case, method, fitted, at, hardware.get(method))
    return report


def _taken(case: cases.Case, method: str, fitted: Fitted, at: int, hardware: Hardware | None) -> dict:
    """Cycles and energy of a point on what was built."""
    network, arithmetic, images = fitted.points[at].network, fitted.arithmetic, case.test.images[: built.IMAGES]
    if method == "olaccel":
        return {"modelled": _olaccel(arithmetic, network, images)}
    if method not in built.MACHINES:
        return {}
    config = built.machine(method, arithmetic.config)
    made = built.build(arithmetic, network, config, images)
    conv = sum(float(c) for c, layer in zip(made.cycles, made.layers, strict=True) if layer.kind is Kind.CONV)
    return {"cycles": made.total, "built": conv * config.nibble_multipliers / macs(network),
            "energy": energy.inference(made, energy.products(arithmetic, network, images), hardware.power if hardware else None)}


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


def eyeriss(case: cases.Case) -> dict[str, float]:
    """Of the float network, batch 4, dense, on 168 elements: cycles per image and nibble cycles per multiplication (an element is 16 nibble multipliers)."""
    found = summary(of_network(case.network), 4, built=True)
    return {"cycles": found["cycles"], "built": found["cycles"] * EYERISS_MULTIPLIERS / found["macs"], "utilization": found["utilization"]}


def collect(build: Path, hardware: dict[str, Hardware], names: list[str], methods: list[str]) -> dict:
    """{network: {method: report}}; trained networks under names of their own, beside them the methods that were not trained."""
    folder, found = build / "compare", {}
    for name in names:
        case = cases.load(name)

        def reports(folder, case=case):
            paths = {method: folder / f"{method}.json" for method in methods}
            return {method: of_method(case, method, path, hardware) for method, path in paths.items() if path.is_file()}

        found[name] = reports(folder / name)
        if trained := reports(folder / f"{name}{cases.FINETUNED}"):
            rest = {method: {**report, "untrained": True, "picked": {"hindsight": report["picked"]["hindsight"]}} for method, report in found[name].items()}
            found[name + cases.FINETUNED] = {method: trained.get(method) or rest[method] for method in methods if method in trained or method in rest}
    return found
