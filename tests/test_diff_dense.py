"""``sdp diff`` on other arrays: nothing of a right machine is called wrong, and the unit that is broken is named."""

import argparse
import dataclasses
import re

import numpy as np
import pytest

from golden.cycles import layer_cycles
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import BASELINES
from sim import diff, locate, signals, timeline
from sim.harness import Harness
from sim.random_layer import build, draw
from sim.vcd import Waves
from tests.test_diff import CASE, CONFIG, encode

INT4 = dataclasses.replace(CONFIG, name="diff-int4", array="int4")
INT8 = dataclasses.replace(CONFIG, name="diff-int8", array="int8")
PLAIN = dataclasses.replace(CONFIG, name="diff-plain", array="sdp-plain")


@pytest.mark.parametrize("config", [INT4, INT8, PLAIN], ids=lambda c: c.name)
def test_no_signal_of_a_right_machine_is_called_wrong(config, tmp_path):
    """Random layers, a random code of each: everything that is expected of its tile, and every pulse of its loops, stands in the waves."""
    harness, seen = Harness(config, trace=True), set()
    for seed in range(10):
        layer = locate.alone(config, [build(config, [draw(config, seed)])], 0, 0)
        cycles, rng = layer_cycles(config, layer.layer), np.random.default_rng(seed)
        y, x, channel = (int(rng.integers(size)) for size in (layer.layer.out_h, layer.layer.out_w, layer.layer.out_channels))
        tile, row = locate.tile_of(config, layer.layer, y, x, channel)
        place = locate.Place(0, 0, layer.layer, tile, cycles.tiles, row, y, x, channel, 0, 0, 1)
        first, last, near = signals.window(config, place, layer.start)
        harness.run([encode(config, layer.commands)], waves=(tmp_path / "w.vcd", 0, first, last))
        waves = Waves(tmp_path / "w.vcd", signals.wanted(config, place))
        assert signals.first_wrong(config, layer, place, waves, first, last, near) is None
        assert not {name for name in waves.missing if name.endswith((".sums", ".drain", ".slots", ".digit" if config is PLAIN else ".took"))}
        expected = timeline.pulses(config, layer.layer, layer.start)
        window = layer.start - 5, min(expected[-1].cycle, layer.start + 3000)
        harness.run([encode(config, layer.commands)], waves=(tmp_path / "t.vcd", 0, *window))
        waves = Waves(tmp_path / "t.vcd", timeline.signals(config, layer.layer))
        assert not waves.missing and timeline.first_off(config, [p for p in expected if p.cycle <= window[1]], layer.layer, waves, *window) is None
        seen.add(layer.layer.kind)
    assert len(seen) > 2


@pytest.mark.parametrize("module, old, new, unit, signal", [
    ("pe", r"first \? (\d+'h0+)0 : (sums\[\d+:\d+\])", r"first ? \g<1>1 : \2", "processing element", r"core\.convolution\.array\.pe_\d_\d\.sums"),
    ("convolution", r"\? code_0_0 : ", r"? code_0_0 ^ 5'h01 : ", "processing element", r"core\.convolution\.array\.pe_\d_\d\.sums"),
])
def test_what_is_broken_is_named(module, old, new, unit, signal, tmp_path):
    text = export(Accelerator(INT4), "accelerator")
    begin = re.search(rf"^module accelerator_{module}\([^)]*\);\n", text, re.M)
    end = text.index("endmodule", begin.end())
    body, count = re.subn(old, new, text[begin.end() : end])
    assert count, f"module {module} has no {old!r} any more: bring the test up to date"
    harness = Harness(INT4, text[: begin.end()] + body + text[end:], trace=True)
    case = dataclasses.replace(CASE, budget=2 * INT4.group)
    found = diff.investigate(INT4, [build(INT4, [case])], harness, out=tmp_path)
    assert found.wrong is not None and found.wrong.unit == unit and re.fullmatch(signal, found.wrong.signal), diff.describe(found)


def test_drq_is_not_looked_into():
    with pytest.raises(UserError, match=r"^configuration 'drq-small': where a drq array departs is not looked for"):
        diff.main(argparse.Namespace(config=BASELINES["drq-small"], verilog=None))
