"""The comparison's report: what it says follows from the results, also where SDP loses."""

import argparse
import copy
import dataclasses

import pytest

from compare import report, results
from compare.hardware import Hardware, machines, read
from compare.main import main
from compare.method import CompareError
from tests.test_silicon import area, put


def energies(published, library=4.0):
    part = {name: published / 5 for name in ("array", "activations", "weights", "scales", "dram")}
    return {"published": {"total": {"value": published}, "resident": published - 2, **part}, "library": {"total": {"value": library}, **part}}


def point(ideal, top1, built=None, energy=None):
    return {"ideal_on_test": ideal, "top1": top1, **({"built": built, "energy": energies(energy)} if built else {})}


def method(points, chosen, top1_float=90.0):
    picked = {"chosen": chosen, "hindsight": results.hindsight(points, top1_float, 1.0)}
    return {"points": points, "chosen": chosen, "picked": picked, "top1_float": top1_float, "images": 1000,
            "effort": {"space": {"modes": 4, "log10": 3.0}, "networks": 5, "changes": 6, "seconds": 7.0, "ranges": "masked", "variant": ""}}


def hardware(per_multiplier, power=None):
    return Hardware("x", 100, 100 * per_multiplier, 1e6, 8192, 9.5, power)


RESULTS = {"net": {
    "sdp": method([point(4.0, 90.0), point(0.5, 89.5, 0.6, 10.0), point(0.4, 88.9)], 1),
    "static": method([point(4.0, 90.0), point(2.0, 89.9, 2.4, 12.0), point(1.0, 89.0, 1.2, 11.0)], 1),
    "olaccel": method([point(4.0, 90.0), point(0.55, 89.4)], 1),
}}
HARDWARE = {"sdp": hardware(3000.0, power={}), "static": hardware(2000.0)}


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ") and "---" not in line]


@pytest.mark.parametrize("top1, found", [([90, 89.5, 89.0, 88.9], 2), ([90, 88.0, 89.5], 2), ([90, 89.2, 89.6], 2), ([88, 87], None), ([90], 0)])
def test_hindsight(top1, found):
    assert results.hindsight([point(4 - n, value) for n, value in enumerate(top1)], 90.0, 1.0) == found


def test_tables():
    reports = RESULTS["net"]
    table = {row[0]: row[1:] for row in rows(report.accuracy(reports, "chosen"))}
    assert table["SDP"] == ["89.50", "0.50", "0.500", "0.600", "1.00", ""]
    assert table["static INT4/INT8"] == ["89.90", "0.10", "2.000", "2.400", "4.00", "3.33"]
    assert table["OLAccel"] == ["89.40", "0.60", "0.550", "", "1.10", "0.92"]
    table = {row[0]: row[1:] for row in rows(report.accuracy(reports, "hindsight"))}
    assert table["static INT4/INT8"][:3] == ["89.00", "1.00", "1.000"]
    # 1.0 * 2000 and 1.2 * 2000 beside 0.6 * 3000; no figure on the library's basis where the netlist was not measured
    table = {row[0]: row[1:] for row in rows(report.equal_area(reports, HARDWARE, "hindsight"))}
    assert table["static INT4/INT8"] == ["2,000", "1.11", "1.33", "11.00", "2.20 / 2.20 / 2.20 / 2.20 / 2.20", "1.10", "1.12", "", ""]
    assert table["SDP"][-2:] == ["4.0", "1.00"] and "OLAccel" not in table and len(table) == 3
    dense = HARDWARE | {"sdp": dataclasses.replace(HARDWARE["sdp"], dense=1500.0), "olaccel": hardware(4000.0)}
    table = {row[0]: row[1:] for row in rows(report.equal_area({**reports, "olaccel": method([point(0.5, 90.0) | {"modelled": 0.7}], 0)}, dense, "hindsight"))}
    assert table["the same, if a plain INT4 array could run its 8-bit layers"] == ["1,500", "0.83", *[""] * 7]
    assert table["OLAccel"] == ["4,000", "1.11", "1.56", *[""] * 6]


def test_where_it_loses():
    text = report.loses(RESULTS, HARDWARE)
    assert text.splitlines() == [f"* net, {picked}: OLAccel, ideal, takes 0.550 nibble cycles per multiplication, SDP as built 0.600."
                                 for picked in ("chosen", "hindsight")]
    worse = copy.deepcopy(RESULTS)
    worse["net"]["sdp"]["points"][1]["built"], worse["net"]["sdp"]["points"][1]["energy"] = 0.8, energies(11.5)
    text = report.loses(worse, HARDWARE)
    assert "* net, hindsight: static INT4/INT8, ideal, is 1.20 times faster at equal area.\n" in text
    assert "* net, hindsight: static INT4/INT8 takes less energy (published basis).\n" in text and "chosen: static INT4/INT8 takes" not in text
    better = {"net": {name: entry for name, entry in RESULTS["net"].items() if name != "olaccel"}}
    assert report.loses(better, HARDWARE) == "Nowhere in these tables.\n"


def test_document():
    text = report.render(RESULTS, HARDWARE, {"Eyeriss, element": 70000.0}, {"net": {"cycles": 12345.0, "built": 20.5, "utilization": 0.5}},
                         ["python -m x"], [])
    for piece in ("Not measured in this state: `python -m x`.", "## net\nFloat 90.00 % of 1,000 test images.", "| Eyeriss, element | 1 | 70,000 | 70,000 |",
                  "12,345 cycles per image, 20.5 nibble cycles per multiplication, 50% of its elements", 
                  "* OLAccel: 4.000: 90.00, 0.550: 89.40", "| SDP, `x` | 100 | 300,000 | 3,000 | 1,000,000 | 1 | 9.50 |", "## Where SDP loses\n\n* net"):
        assert piece in text, piece


def test_what_was_trained():
    """One reading, what was not trained beside it and marked."""
    curve = [{"divergence": 0.25}, {"divergence": 0.125}]
    point = {"ideal_on_test": 0.4, "built": 0.6, "energy": energies(9.0), "top1_before": 88.0, "top1": 89.25, "curve": curve, "seconds": 60}
    trained = {"points": [point], "picked": {"hindsight": 0}, "top1_float": 90.0, "images": 1000, "settings": {"epochs": 5, "rate": 0.001}}
    beside = {**RESULTS["net"]["olaccel"], "untrained": True, "picked": {"hindsight": 1}}
    text = report.render(RESULTS | {"net-finetuned": {"sdp": trained, "olaccel": beside}}, HARDWARE, {}, {}, [], [])
    text = text[text.index("## net-finetuned"):]
    for piece in ("`python -m compare.training --network net`: the cheapest points of each curve, 5 epochs at a rate of 0.001 each",
                  "| SDP | 0.400 | 88.00 | 89.25 | 0.75 | 0.2500 | 0.1250 | 60 |", "| OLAccel, not trained | 89.40 | 0.60 | 0.550 |",
                  "* net-finetuned, hindsight: OLAccel, ideal, takes 0.550 "):
        assert piece in text, piece
    assert "Chosen on calibration" not in text and "| OLAccel | 0.550" not in text


def test_what_is_there(tmp_path):
    put(tmp_path, "small", "area", area(2e6))
    put(tmp_path, "int4-small", "area", area(1e6, "NAND2"))
    assert read(tmp_path, "int4-small") is None and read(tmp_path, "small").per_multiplier == 1e6 / 256
    found, missing = machines(tmp_path)
    assert list(found) == ["sdp"] and found["sdp"].power is None and missing == [
        "python -m sdp power --config small --liberty FILE.lib",
        *(f"python -m sdp area --config {name} --liberty FILE.lib" for name in ("int4-small", "int8-small", "drq-small"))]


def test_nothing_to_join(tmp_path):
    args = argparse.Namespace(only="digits", images=None, joined=True, finetune=False, liberty=None, out=tmp_path, document=tmp_path / "c.md")
    with pytest.raises(CompareError, match=r"^nothing was searched yet, without --joined the search comes first$"):
        main(args)
    assert not (tmp_path / "c.md").exists()
