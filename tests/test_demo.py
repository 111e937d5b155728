"""The demonstration on a few images: it passes as it is, and fails when one code or one cycle differs."""

import dataclasses
import json
import re
from types import SimpleNamespace

import pytest

from compiler import flow, quantize
from examples.digits import demo
from golden.cycles import layer_cycles
from hw import verilog
from sdp.config import NAMED
from sim import verify


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    # The search has its own tests; here every layer gets half of its terms.
    def half(network, images, labels, config, *_, **__):
        made = quantize.quantize(quantize.calibrate(network, images), config)
        return SimpleNamespace(network=dataclasses.replace(made, layers=tuple(dataclasses.replace(layer, budget=config.group) for layer in made.layers)))

    monkeypatch.setattr(flow, "optimize", half)
    return SimpleNamespace(config=NAMED["tiny"], out=tmp_path, number=2)


KEYS = {"images", "top1_float", "top1_int8", "top1_sdp", "mismatches", "cycles_per_image", "cycles_per_image_exact8", "layers"}
LAYER_KEYS = {"name", "kind", "weight_bits", "budget", "macs", "cycles_model", "cycles_rtl", "utilization"}


def test_demo(arguments, capsys):
    assert demo.main(arguments) == 0
    report = json.loads((arguments.out / "demo" / "report.json").read_text())
    assert KEYS <= set(report) and all(LAYER_KEYS <= set(layer) for layer in report["layers"])
    assert report["images"] == 2 and report["mismatches"] == 0
    assert all(layer["cycles_model"] == layer["cycles_rtl"] > 0 for layer in report["layers"])
    shown = capsys.readouterr().out
    assert all(layer["name"] in shown for layer in report["layers"]) and "report.json" in shown


def test_demo_fails_when_a_code_differs(arguments, monkeypatch, capsys):
    emit = verilog.emit

    def broken(config, out):
        made = emit(config, out)
        text = made[0].read_text()
        changed = re.sub(r"= \| (having_\d);", r"= ^ \1;", text)
        assert changed != text
        made[0].write_text(changed)
        return made

    monkeypatch.setattr(verilog, "emit", broken)
    assert demo.main(arguments) == 1
    assert json.loads((arguments.out / "demo" / "report.json").read_text())["mismatches"] > 0
    assert "differs: " in capsys.readouterr().err


def test_demo_fails_when_a_cycle_differs(arguments, monkeypatch, capsys):
    monkeypatch.setattr(verify, "layer_cycles", lambda *a: dataclasses.replace(layer_cycles(*a), fixed=layer_cycles(*a).fixed + 1))
    assert demo.main(arguments) == 1
    report = json.loads((arguments.out / "demo" / "report.json").read_text())
    assert report["mismatches"] == 0 and "differs: layer" in capsys.readouterr().err
