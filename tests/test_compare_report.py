"""The comparison's report: what it says follows from the results, also where SDP loses."""

import argparse
import copy
import dataclasses

import pytest

from compare import energy_table, int16, losses, plots, report, results, settings
from compare.hardware import Hardware, eyeriss, machines, read
from compare.main import main
from compare.method import CompareError
from synth.output import made
from tests.test_silicon import area, put


def energies(published, library=4.0):
    part = {name: published / 5 for name in ("array", "activations", "weights", "scales", "dram")}
    total = {"value": published, "low": published / 2, "high": published * 3}
    return {"published": {"total": total, "resident": published - 2, **part}, "library": {"total": {"value": library}, **part}}


def point(ideal, top1, built=None, energy=None):
    return {"ideal_on_test": ideal, "top1": top1, **({"built": built, "cycles": 1234.4, "energy": energies(energy)} if built else {})}


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
    assert table["SDP"] == ["89.50", "0.50", "0.500", "0.600", "83%", "1,234", "1.00", ""]
    assert table["static INT4/INT8"] == ["89.90", "0.10", "2.000", "2.400", "83%", "1,234", "4.00", "3.33"]
    assert table["OLAccel"] == ["89.40", "0.60", "0.550", "", "", "", "1.10", "0.92"]
    table = {row[0]: row[1:] for row in rows(report.accuracy(reports, "hindsight"))}
    assert table["static INT4/INT8"][:3] == ["89.00", "1.00", "1.000"]
    # 1.0 * 2000 and 1.2 * 2000 beside 0.6 * 3000
    table = {row[0]: row[1:] for row in rows(report.equal_area(reports, HARDWARE, "hindsight"))}
    assert table["static INT4/INT8"] == ["2,000", "1.11", "1.33"] and "OLAccel" not in table and len(table) == 3
    dense = HARDWARE | {"sdp": dataclasses.replace(HARDWARE["sdp"], dense=1500.0), "olaccel": hardware(4000.0)}
    table = {row[0]: row[1:] for row in rows(report.equal_area({**reports, "olaccel": method([point(0.5, 90.0) | {"built": 0.7}], 0)}, dense, "hindsight"))}
    assert table["the same, if a plain INT4 array could run its 8-bit layers in as many cycles"] == ["1,500", "0.83", "1.00"]
    assert table["OLAccel"] == ["4,000", "1.11", "1.56"]


def test_energy():
    """No figure on the library's basis where the netlist was not measured; no row where there is no model."""
    reports = RESULTS["net"] | {"drq": method([point(1.0, 90.0) | {"energy": {"published": energies(15.0)["published"]}}], 0)}
    table = {row[0]: row[1:] for row in rows(energy_table.energy(reports, HARDWARE, "hindsight"))}
    assert table["static INT4/INT8"] == ["11.00", "5.50-33.00", "2.20 / 2.20 / 2.20 / 2.20 / 2.20", "1.10", "1.12", "", "", ""]
    assert table["DRQ"] == ["15.00", "7.50-45.00", "3.00 / 3.00 / 3.00 / 3.00 / 3.00", "1.50", "1.62", "", "", ""]
    assert table["SDP"] == ["10.00", "5.00-30.00", "2.00 / 2.00 / 2.00 / 2.00 / 2.00", "1.00", "1.00", "4.0", "1.00", "324"]
    assert "OLAccel" not in table and len(table) == 4
    measured = HARDWARE | {"static": hardware(2000.0, power={})}
    assert rows(energy_table.energy(reports, measured, "hindsight"))[2][-3:] == ["4.0", "1.00", "324"]


def test_where_it_loses():
    text = losses.loses(RESULTS, HARDWARE)
    assert text.splitlines() == [f"* net, {picked}: OLAccel, ideal, takes 0.550 nibble cycles per multiplication, SDP as built 0.600."
                                 for picked in ("chosen", "hindsight")]
    worse = copy.deepcopy(RESULTS)
    worse["net"]["sdp"]["points"][1]["built"], worse["net"]["sdp"]["points"][1]["energy"] = 0.8, energies(11.5)
    text = losses.loses(worse, HARDWARE)
    assert "* net, hindsight: static INT4/INT8, ideal, is 1.20 times faster at equal area.\n" in text
    assert [line for line in text.splitlines() if "static INT4/INT8 takes" in line] == [
        "* net, hindsight: static INT4/INT8 takes 0.96 of SDP's energy (published basis).",
        "* net, hindsight: static INT4/INT8 takes 0.95 of SDP's energy with all weights on the chip (published basis)."]
    measured = {"sdp": hardware(3000.0, power={}), "static": hardware(9000.0, power={})}
    worse["net"]["static"]["points"][2]["energy"] = energies(11.0, library=3.0)
    assert "* net, hindsight: static INT4/INT8 takes 0.75 of SDP's energy (library basis).\n" in losses.loses(worse, measured)
    better = {"net": {name: entry for name, entry in RESULTS["net"].items() if name != "olaccel"}}
    assert losses.loses(better, HARDWARE) == "Nowhere in these tables.\n"


def test_document():
    chip = {"cycles": 12345.0, "built": 20.5, "utilization": 0.5, "energy": {"published": energies(100.0)["published"] | {"registers": 60.0}}}
    found = {"net": RESULTS["net"] | {"eyeriss": results.beside(chip, RESULTS["net"]["sdp"])}}
    text = report.render(found, HARDWARE, {"Eyeriss, element": 70000.0}, {"net": chip}, ["python -m x"], [])
    for piece in ("Not measured in this state: `python -m x`.", "## net\nFloat 90.00 % of 1,000 test images.", "| Eyeriss, element | 1 | 70,000 | 70,000 |",
                  "12,345 cycles per image, 20.5 nibble cycles per multiplication of layers that sum over channels, 50% of its elements",
                  # an element's area is that of 16 nibble multipliers; the accuracy is the float network's
                  "| Eyeriss | 4,375 | 38.89 | 49.83 |", "| Eyeriss | 90.00 | 0.00 | 16.000 | 20.500 |", "| Eyeriss, `168 elements` | 2688 | 11,760,000 | 4,375 |",
                  "| Eyeriss | 100.00 | 50.00-300.00 | 20.00 / 20.00 / 20.00 / 20.00 / 20.00 | 10.00 |", "| SDP, chosen | 0.031 |", "Beside the papers",
                  "* OLAccel: 4.000: 90.00, 0.550: 89.40", "| SDP, `x` | 100 | 300,000 | 3,000 | 1,000,000 | 1 | 9.50 |", "## Where SDP loses\n\n* net"):
        assert piece in text, piece


def test_what_was_trained():
    """One reading, what was not trained beside it and marked."""
    curve = [{"divergence": 0.25}, {"divergence": 0.125}]
    point = {"ideal_on_test": 0.4, "built": 0.6, "cycles": 1000.0, "energy": energies(9.0), "top1_before": 88.0, "top1": 89.25, "curve": curve, "seconds": 60}
    trained = {"points": [point], "picked": {"hindsight": 0}, "top1_float": 90.0, "images": 1000, "settings": {"epochs": 5, "rate": 0.001}}
    beside = {**RESULTS["net"]["olaccel"], "untrained": True, "picked": {"hindsight": 1}}
    text = report.render(RESULTS | {"net-finetuned": {"sdp": trained, "olaccel": beside}}, HARDWARE, {}, {}, [], [])
    text = text[text.index("## net-finetuned"):]
    for piece in ("`python -m compare.training --network net`: the cheapest points of each curve, 5 epochs at a rate of 0.001 each",
                  "| SDP | 0.400 | 88.00 | 89.25 | 0.75 | 0.2500 | 0.1250 | 60 |", "| OLAccel, not trained | 89.40 | 0.60 | 0.550 |",
                  "* net-finetuned, hindsight: OLAccel, ideal, takes 0.550 "):
        assert piece in text, piece
    assert "Chosen on calibration" not in text and "| OLAccel | 0.550" not in text


def test_settings():
    """Layers by mode, the most frequent first."""
    modes = {"sdp": {"a": [5, True], "b": [16, False], "c": [5, True]}, "static": {"a": [8, 4], "b": [4, 4]}, "int8": {"a": [8, 8]},
             "drq": {"a": 0, "b": 12, "c": 12}, "olaccel": {"a": [0, 10], "b": [30, 10], "c": [0, 0], "d": [30, 10]}}
    found = {name: settings.layers(name, {"modes": entry}) for name, entry in modes.items()}
    assert found == {"sdp": "5 w4: 2, 16 w8: 1", "static": "4x4: 1, 8x4: 1", "int8": "8x8: 1", "drq": "t12: 2, all: 1",
                     "olaccel": "3/1: 2, 8 bit/1: 1, 8 bit/8 bit: 1"}
    reports = copy.deepcopy(RESULTS["net"])
    reports["sdp"]["points"][1]["modes"] = modes["sdp"]
    reports["static"]["picked"]["hindsight"] = None
    reports["eyeriss"] = results.beside({}, reports["sdp"])
    table = {row[0]: row[1:] for row in rows(settings.search(reports))}
    assert table["SDP"] == ["4", "3.0", "5", "6", "7", "masked", "", "5 w4: 2, 16 w8: 1", "5 w4: 2, 16 w8: 1"]
    assert table["static INT4/INT8"][-2:] == ["", ""] and "Eyeriss" not in table


def test_curves_against_energy(tmp_path):
    """All points of a curve that have an energy, by rising energy; three plots a network, the same bytes for the same results."""
    report = {"points": [point(4.0, 90.0, 4.2, 30.0), point(2.0, 89.0), point(1.0, 88.0, 1.2, 10.0), point(0.5, 89.5, 0.7, 20.0)]}
    assert plots.curve(report, plots.energy) == [(10.0, 88.0), (20.0, 89.5), (30.0, 90.0)]
    assert plots.curve(report, plots.time) == [(0.5, 89.5), (1.0, 88.0), (2.0, 89.0), (4.0, 90.0)]
    one, two = (plots.write(RESULTS, made(tmp_path / name)) for name in ("one", "two"))
    assert [path.name for path in one] == ["net-accuracy.svg", "net-accuracy-energy.svg", "net-energy.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    # OLAccel has no energy here, so no curve and no bar; the others have.
    drawn = {path.name: {name for name in ("SDP", "static INT4/INT8", "OLAccel") if f">{name}<" in path.read_text()} for path in one}
    assert drawn == {"net-accuracy.svg": {"SDP", "static INT4/INT8", "OLAccel"}, "net-accuracy-energy.svg": {"SDP", "static INT4/INT8"},
                     "net-energy.svg": {"SDP", "static INT4/INT8"}}


def test_a_plain_16_bit_array():
    """The accuracy of ``int8``, its own time, nothing searched."""
    int8 = method([point(4.0, 90.0, 4.2, 12.0) | {"top1_interval": [89.0, 91.0], "modes": {"a": [8, 8]}}], 0)
    found = int16.of_int8(int8)
    assert found["points"] == [{"top1": 90.0, "top1_interval": [89.0, 91.0], "ideal_on_test": 16.0}] and "effort" not in found
    assert int8["points"][0]["ideal_on_test"] == 4.0 and found["top1_float"] == int8["top1_float"] and found["chosen"] == 0


def test_eyeriss_as_a_machine():
    assert eyeriss({}) == {} and eyeriss({"Eyeriss, element": 16000.0})["eyeriss"].per_multiplier == 1000.0


def test_what_is_there(tmp_path):
    put(tmp_path, "small", "area", area(2e6))
    put(tmp_path, "int4-small", "area", area(1e6, "NAND2"))
    assert read(tmp_path, "int4-small") is None and read(tmp_path, "small").per_multiplier == 1e6 / 256
    found, missing = machines(tmp_path)
    assert list(found) == ["sdp"] and found["sdp"].power is None and missing == [
        "python -m sdp power --config small --liberty FILE.lib",
        *(f"python -m sdp area --config {name} --liberty FILE.lib" for name in ("int4-small", "int8-small", "int16-small", "drq-small"))]


def test_no_meter_for_16_bits(tmp_path):
    put(tmp_path, "int16-small", "area", area(2e6))
    found, missing = machines(tmp_path, {"int16": "int16-small"})
    assert found["int16"].per_multiplier == 1e6 / 256 and missing == []


def test_training_comes_with_the_asking(tmp_path, monkeypatch):
    """Of the networks that have images for it; where it fails nothing is written."""
    asked = []
    monkeypatch.setattr("compare.training.main", lambda options: asked.append(options) or 7)
    monkeypatch.setattr("compare.cases.names", lambda: ["digits", "resnet8_mlperftiny", "dscnn_speech_commands"])
    args = argparse.Namespace(only="", images=None, joined=True, finetune=True, liberty=None, out=tmp_path, document=tmp_path / "c.md")
    assert main(args) == 7 and not args.document.exists()
    assert asked == [["--network", "resnet8_mlperftiny", "--out", str(tmp_path / "compare")]]


def test_nothing_to_join(tmp_path):
    args = argparse.Namespace(only="digits", images=None, joined=True, finetune=False, liberty=None, out=tmp_path, document=tmp_path / "c.md")
    with pytest.raises(CompareError, match=r"^nothing was searched yet, without --joined the search comes first$"):
        main(args)
    assert not (tmp_path / "c.md").exists()
