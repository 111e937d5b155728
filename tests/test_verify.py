"""Verification of compiled networks on the RTL: one program per frame or many, logs that are too short, and what is counted when something differs."""

import dataclasses

import numpy as np
import pytest

from compiler import schedule
from compiler.network import Pool, identity
from compiler.quantized import run
from sdp.config import NAMED
from sdp.program import End, Layer
from sim.harness import Harness
from sim.verify import cut, verify
from tests.test_schedule import conv, network_of, quantized
from tests.test_tiling import depthwise

CONFIG = NAMED["tiny"]


@pytest.fixture(scope="module")
def harness():
    return Harness(CONFIG)


class Spoilt:
    """A harness some of whose results are changed: ``change`` of (index of the program, result)."""

    def __init__(self, harness, change):
        self.harness, self.change = harness, change

    def run(self, streams, progress=None):
        return [self.change(index, result) for index, result in enumerate(self.harness.run(streams, progress))]


@pytest.fixture(scope="module")
def tiled():
    """A network of several programs per frame, and two images."""
    rng = np.random.default_rng(1)
    nodes = [conv(rng, "a", "x", 24, 24, stride=(2, 1), relu=True), Pool(name="m", input="a", kind="max", kernel=(3, 2), stride=(2, 1), pad=(1, 0, 1, 1)),
             identity("s", "m", residual="m", relu=True), depthwise(rng, "d", "s", 24), conv(rng, "y", "d", 24, 9, 1)]
    network, codes = quantized(network_of(nodes, (22, 30, 24)), CONFIG, count=2)
    compiled = schedule.compile(network, CONFIG)
    assert len(compiled.passes) > 2
    return compiled, codes


@pytest.mark.parametrize("trace", [True, False])
def test_several_programs_per_frame(harness, tiled, trace):
    compiled, codes = tiled
    seen = []
    found = verify(compiled, harness, codes, trace=trace, progress=lambda *args: seen.append(args[:2]))
    assert found.problems == [] and found.mismatches == 0 and found.images == 2
    np.testing.assert_array_equal(found.codes, run(compiled.network, codes, CONFIG.group)[compiled.network.layers[-1].name])
    assert {layer.name for layer in found.layers} == {layer.name for layer in compiled.network.layers}
    assert all(layer.cycles_rtl == layer.cycles_model > 0 for layer in found.layers)
    if not trace:
        assert found.cycles == sum(step.cycles for step in compiled.passes)
    assert seen[0] == (0, 2) and seen[-1] == (2, 2) and seen == sorted(seen)


def test_wrong_codes_are_counted_where_they_belong(harness, tiled):
    """One code of the second image's third program, and a program that stores too little."""
    compiled, codes = tiled
    stored = [list(dict.fromkeys(item.box.tensor for item in step.stores())) for step in compiled.passes]
    per_image = len(compiled.passes)

    def change(index, result):
        if index == 1 + per_image + 2:
            return dataclasses.replace(result, outputs=bytes([result.outputs[0] ^ 1]) + result.outputs[1:])
        return dataclasses.replace(result, outputs=result.outputs[: -CONFIG.word]) if index == 1 else result

    found = verify(compiled, Spoilt(harness, change), codes)
    assert len(found.problems) == 2
    assert found.problems[0].startswith(f"image 0: program 0 of {per_image}: ") and "words of output, expected are" in found.problems[0]
    assert found.problems[1].startswith(f"image 1: program 2 of {per_image}: 1 codes differ, first in output word 0, code 0: ")
    wrong = {layer.name: layer.mismatches for layer in found.layers if layer.mismatches}
    cut_short = compiled.passes[0].layers[-1].part.layer.name
    assert wrong[stored[2][0]] == 1 and wrong[cut_short] > 1 and set(wrong) == {cut_short, stored[2][0]}


@pytest.fixture(scope="module")
def long():
    """A network of one program with more layers than the log holds."""
    rng, nodes, last = np.random.default_rng(2), [], "x"
    for n in range(2 * CONFIG.log_layers + 3):
        nodes.append(conv(rng, f"n{n}", last, 5, 5, 1 + 2 * (n % 2), relu=True))
        last = f"n{n}"
    network, codes = quantized(network_of(nodes, (3, 2, 5)), CONFIG, count=2)
    compiled = schedule.compile(network, CONFIG)
    assert len(compiled.passes) == 1
    return compiled, codes


def test_more_layers_than_the_log_holds(harness, long):
    compiled, codes = long
    traced, plain = (verify(compiled, harness, codes, trace=trace) for trace in (True, False))
    assert traced.problems == plain.problems == [] and traced.mismatches == plain.mismatches == 0
    assert all(layer.cycles_rtl == layer.cycles_model > 0 for layer in traced.layers)
    # An application's program is one; its log holds the last layers, the sums hold all.
    assert [layer.cycles_rtl > 0 for layer in plain.layers] == [False] * (CONFIG.log_layers + 3) + [True] * CONFIG.log_layers
    assert plain.cycles == compiled.passes[0].cycles
    for name in ("busy", "terms", "empty"):
        found = verify(compiled, Spoilt(harness, lambda index, result: dataclasses.replace(result, **{name: getattr(result, name) + index // 2})), codes)
        assert len(found.problems) == 1 and found.problems[0].startswith(f"image 1: {name} ") and " in total, expected are " in found.problems[0]


def test_cutting_changes_no_code_and_keeps_each_layer_once(long):
    compiled, codes = long
    program = compiled.frame(codes, True)
    parts = cut(CONFIG, program)
    assert [sum(isinstance(c, Layer) for c in part) for part in parts] == [CONFIG.log_layers, CONFIG.log_layers, 3]
    assert all(isinstance(part[-1], End) for part in parts)
    assert [c for part in parts for c in part if not isinstance(c, End)] == program[:-1]
    short = compiled.frame(codes)[:2]
    assert cut(CONFIG, short) == [short]
