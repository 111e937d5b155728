"""The golden model's benchmark, on the digits: what it measures, and that it compares what it runs. No time is asserted."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sdp.config import NAMED
from sim import bench_golden

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((80, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def program(images):
    return bench_golden.compiled(DIGITS, images, NAMED["tiny"])


def test_rows(images, program):
    rows = bench_golden.measure(DIGITS, program, images, Console(quiet=True))
    assert [row["what"] for row in rows] == ["onnxruntime, float", "integer model", "golden machine"]
    assert all(row["images"] == 80 and row["seconds"] > 0 for row in rows) and rows[0]["ratio"] == 1
    # One batch of input codes is the least that is held; all tensors of all layers at once would be more than the most.
    assert all(0.01 < row["peak_mib"] < 100 for row in rows[1:])


def test_different_codes_are_no_result(images, program):
    first = program.network.layers[0]
    other = dataclasses.replace(program, network=program.network.replace(dataclasses.replace(first, bias=first.bias + 1000)))
    with pytest.raises(AssertionError, match="^the golden machine and the integer model differ$"):
        bench_golden.measure(DIGITS, other, images, Console(quiet=True))


def test_modes(program):
    layers = [layer for layer in program.network.layers if layer.kind.name == "CONV"]
    assert [(layer.budget, layer.w4) for layer in layers] == [(8, False), *[(5, True)] * (len(layers) - 2), (8, False)]


def test_without_shared_networks(tmp_path, capsys):
    assert bench_golden.golden_speed(NAMED["tiny"], Console(), tmp_path) is None
    assert capsys.readouterr().out == "golden model: skipped: no ../shared\n"
