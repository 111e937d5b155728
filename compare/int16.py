"""A plain 16-bit array on the network of ``int8``: the same 8-bit codes and weights, sign-extended, so the same accuracy, and nothing to search.

A multiplication is 16 products of 4 x 4 bits. Memories and DRAM move the 8 bits that there are [generous: numbers of 16 bits would take twice as many]. Its
array, published basis: an element of 16 bits per multiplication.
"""

from compare import built, energy
from compare.method import macs
from sdp.program import Kind
from synth.energy import BASES, Constants

PRODUCTS = 16
SEARCHED = {"int16": "int8"}
"""Whose search a method takes its networks from."""


def of_int8(report: dict) -> dict:
    """The report of ``int8`` as that of this array."""
    rest = {name: value for name, value in report.items() if name != "effort"}
    points = [{name: point[name] for name in ("top1", "top1_interval") if name in point} | {"ideal_on_test": float(PRODUCTS)} for point in report["points"]]
    return rest | {"method": "int16", "points": points}


def inference(made: built.Built, network) -> dict:
    """As :func:`compare.energy.inference`."""
    layers = [layer.name for layer in network.layers if layer.kind is Kind.CONV]
    found = energy.inference(made, dict.fromkeys(layers, 0.0), None)
    for basis in BASES:
        array, entry = Constants(basis).element(16) * macs(network), found[basis]
        entry["array"] += array.value / 1e6
        entry["resident"] += array.value / 1e6
        entry["total"] = {name: value + getattr(array, name) / 1e6 for name, value in entry["total"].items()}
    return found
