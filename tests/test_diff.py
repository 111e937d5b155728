"""``sdp diff`` names the unit that is broken: the generated Verilog is changed in one place, as a slip of a designer would."""

import argparse
import functools
import re

import pytest

from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import Config
from sdp.program import Layer, Store
from sim import diff, locate
from sim.random_layer import Case, build
from sim.vcd import Waves
from tests import layers as reference

CONFIG = Config(name="diff", group=4, lanes=1, rows=2, columns=2, ports=1, outputs=1, reduction=288, activation_words=256, weight_words=96, scale_words=16,
                scale_bits=12, log_layers=4)
CASE = Case(seed=3, budget=3, channels_in=7, channels_out=5, in_h=4, in_w=5, kernel_h=2, kernel_w=3, pad_top=1, pad_left=1, in_signed=1, out_signed=1)


@functools.cache
def verilog() -> str:
    return export(Accelerator(CONFIG), "accelerator")


def broken(module: str, old: str, new: str) -> str:
    """The Verilog with every place of one module changed that matches."""
    text = verilog()
    begin = re.search(rf"^module accelerator_{module}\(", text, re.M).start()
    end = text.index("endmodule", begin)
    changed, count = re.subn(old, new, text[begin:end])
    assert count, f"module {module} has no {old!r} any more: bring the test up to date"
    return text[:begin] + changed + text[end:]


@pytest.mark.parametrize("module, old, new, unit, signal", [
    ("selector", r"(key_\w+) > (key_\w+)", r"\1 >= \2", "term selector", r"core\.convolution\.selector_\d_0\.term"),
    ("multiplier", r"by_flag\[9\], by_flag, 4'h0 }", "by_flag[9], by_flag[9], by_flag, 3'h0 }", "nibble multiplier", r".*\.multiplier_0_(low|high)\.product"),
    ("output_stage", r"\$signed\({ 1'h0, half }\)", "1'sh0", "output stage", r"core\.output_stage\.rounded_0"),
])
def test_the_broken_unit_is_named(module, old, new, unit, signal, tmp_path):
    # Ties are rare: as many layers as it takes.
    programs = [build(CONFIG, [Case(**{**vars(CASE), "seed": seed})]) for seed in range(8)]
    found = diff.investigate(CONFIG, programs, broken(module, old, new), out=tmp_path)
    assert found.texts and found.place is not None and found.reproduced
    assert found.wrong.unit == unit
    assert re.fullmatch(signal, found.wrong.signal)
    assert found.waves.is_file()
    text = diff.describe(found)
    assert f"first wrong signal: {unit}: " in text and re.search(r"tile \d+ of \d+, row \d; output pixel y=\d x=\d, channel \d: -?\d+, expected is -?\d+", text)


def test_nothing_differs(tmp_path):
    found = diff.investigate(CONFIG, [build(CONFIG, [CASE])], verilog(), out=tmp_path, waves=False)
    assert found.texts == [] and found.place is None


@pytest.mark.parametrize("kind", [0, 1, 3])
def test_tiles_are_those_of_the_loops(kind):
    """Against the loops, written one by one, that the hardware's tests use."""
    case = Case(**{**vars(CASE), "kind": kind, "channels_in": 5, "budget": 1 if kind else 3})
    layer = next(c for c in build(CONFIG, [case]) if isinstance(c, Layer))
    chunks = reference.chunks(CONFIG, vars(layer))
    for tile, rows in enumerate(chunks):
        for row, chunk in enumerate(rows):
            for entry in chunk:
                if entry["write"]:
                    plane, pixel = divmod(entry["address"] - layer.out_base, layer.out_plane)
                    y, x = divmod(pixel, layer.out_w)
                    channel = plane * CONFIG.word + entry["position"] * CONFIG.outputs
                    assert locate.tile_of(CONFIG, layer, y, x, channel) == (tile, row)


def test_traced_programs_store_every_layer():
    program = build(CONFIG, [CASE, Case(**{**vars(CASE), "seed": 4})])
    made = locate.traced(CONFIG, program)
    count = sum(isinstance(c, Layer) for c in program)
    assert sum(isinstance(c, Layer) for c in made) == count
    assert sum(isinstance(c, Store) for c in made) == count * -(-CASE.channels_out // CONFIG.word)


def test_values_are_those_before_the_edge(tmp_path):
    lines = ["$scope module TOP $end", "$scope module accelerator $end", "$var wire 1 ! a $end", "$scope module core $end", "$var wire 4 # b [3:0] $end",
             "$upscope $end", "$upscope $end", "$upscope $end", "$enddefinitions $end", "#20", "0!", "b1000 #", "#21", "1!", "b0011 #", "#25", "b1111 #"]
    (tmp_path / "a.vcd").write_text("\n".join(lines) + "\n")
    waves = Waves(tmp_path / "a.vcd", ["a", "core.b", "core.c"])
    assert waves.missing == {"core.c"}
    assert [waves.value("a", cycle) for cycle in (10, 11, 12)] == [0, 1, 1]
    assert [waves.value("core.b", cycle, signed=True) for cycle in (10, 11, 12, 13)] == [-8, 3, 3, -1]
    assert waves.cycles("a", 10, 12) == [11, 12]


@pytest.mark.parametrize("options, message", [
    ({}, "^give a folder that 'sdp run' made, a program file, or --case$"),
    ({"case": "seed=1 in_h=4000"}, "^case: does not fit configuration 'diff'"),
    ({"case": "sed=1"}, "^case: 'sed=1' is not FIELD=INTEGER"),
])
def test_what_cannot_be_compared(options, message, tmp_path):
    args = argparse.Namespace(config=CONFIG, out=tmp_path, file=None, verilog=None, no_waves=True, case=None)
    with pytest.raises(UserError, match=message):
        diff.main(argparse.Namespace(**vars(args) | options))
