"""Spacers: their places are the device's, a crowded design gets them up to the density, and they are no part of what is reported."""

import json

import pytest
from rich.console import Console

from hw.verilog import export
from hw.verilog_ports import flat_ports
from synth import fpga
from synth.ecp5 import spacers
from synth.ecp5.nextpnr import run_nextpnr
from tests.test_fpga import Small

LUTS = {"25k": 24288, "45k": 43848, "85k": 83640}
"""As Lattice and nextpnr say."""
EMPTY = {"modules": {"top": {"attributes": {"top": "1"}, "ports": {}, "cells": {}, "netnames": {}}}}


def added(tmp_path, device, used):
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps(EMPTY))
    number = spacers.add_spacers(path, "top", device, used)
    places = [cell["attributes"]["BEL"] for cell in json.loads(path.read_text())["modules"]["top"]["cells"].values()]
    assert len(places) == number
    return places


@pytest.mark.parametrize("device", LUTS)
def test_places(device):
    places = [place for row in spacers.rows(device) for place in row]
    assert len(places) == len(set(places)) == LUTS[device]


@pytest.mark.parametrize("device", LUTS)
def test_number(device, tmp_path):
    luts, row = LUTS[device], len(spacers.rows(device)[0])
    crowded = -(-luts // 2)
    assert not added(tmp_path, device, crowded - 1)
    number = len(added(tmp_path, device, crowded))
    assert number % row == 0 and number <= 0.75 * luts - crowded < number + row
    assert len(added(tmp_path, device, int(0.75 * luts) - row)) == row  # room for one
    assert not added(tmp_path, device, int(0.75 * luts) - row + 1)
    assert not added(tmp_path, device, luts)  # beyond the density: nothing is taken away


def test_they_lie_evenly(tmp_path):
    """Between any two neighbours as many rows, give or take one."""
    used = {int(place.split("/")[0][1:]) for place in added(tmp_path, "85k", 45000)}
    assert used == set(range(2, 125))
    lines = [row[0].split("/")[1] for row in spacers.rows("85k")]
    taken = sorted(lines.index(line) for line in {place.split("/")[1] for place in added(tmp_path, "85k", 45000)})
    gaps = {after - before for before, after in zip(taken, taken[1:])}
    assert len(taken) == 18 and taken[0] == 0 and gaps == {4, 5}


@pytest.mark.parametrize("device", LUTS)
def test_nextpnr_knows_every_place(device, tmp_path, monkeypatch):
    """All but one row of the device taken: every place is accepted, none twice."""
    monkeypatch.setattr(spacers, "CROWDED", 0)
    row = len(spacers.rows(device)[0])
    monkeypatch.setattr(spacers, "DENSITY", 1 - row / LUTS[device])
    places = added(tmp_path, device, 0)
    assert len(places) == LUTS[device] - row
    run_nextpnr(tmp_path, f"--{device}", "--package", fpga.PACKAGE, "--json", "netlist.json", "--no-route", "--report", "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["utilization"]["TRELLIS_COMB"] == {"used": len(places), "available": LUTS[device]}


def test_whole_flow(tmp_path, monkeypatch):
    """The reported LUTs are the design's; nextpnr had the spacers as well."""
    monkeypatch.setattr(spacers, "CROWDED", 0)
    component = Small()
    report = fpga.measure("small", export(component, fpga.MODULE), flat_ports(component), tmp_path, unchecked=(fpga.MODULE,),
                          steps=fpga.Steps(Console(width=140)))
    luts, placed = report.utilization["TRELLIS_COMB"]["used"], json.loads((tmp_path / "report.json").read_text())["utilization"]["TRELLIS_COMB"]["used"]
    assert report.spacers == placed - luts > 10000 and 0.72 * LUTS["25k"] < placed <= 0.75 * LUTS["25k"]
    assert 0 <= luts - report.mapped.luts <= 10 and report.as_json()["spacers"] == report.spacers
    assert "Running router2" in (tmp_path / "routing.log").read_text()
    (settings,) = (module["settings"] for module in json.loads((tmp_path / "placed.json").read_text())["modules"].values() if "settings" in module)
    assert set(settings["timing_driven"]) == {"0"} and float(settings["router2/currCongWeightMult"]) < 1
