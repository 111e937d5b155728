"""``sdp diff`` names the unit that is broken: the generated Verilog is changed in one place, as a slip of a designer would."""

import argparse
import functools
import re

import numpy as np
import pytest

from golden.cycles import layer_cycles
from golden.machine import Machine
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp import UserError
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Layer, Store
from sim import diff, locate, signals, timeline
from sim.harness import Harness
from sim.random_layer import Case, build, draw
from sim.vcd import Waves
from tests import layers as reference

CONFIG = Config(name="diff", group=4, lanes=1, rows=2, columns=2, ports=1, outputs=1, reduction=288, activation_words=256, weight_words=96, scale_words=16,
                scale_bits=12, log_layers=4)
CASE = Case(seed=3, budget=3, channels_in=7, channels_out=5, in_h=4, in_w=5, kernel_h=2, kernel_w=3, pad_top=1, pad_left=1, pad_right=1,
            in_signed=1, out_signed=1)


# Module, what stands there, what is put in its place; unit and signal that are to be named, fields of the layer that shows it.
MUTATIONS = [
    ("selector", r"\| (having_\d)", r"^ \1", "term selector", r"core\.convolution\.selector_\d_0\.term", {}),
    ("multiplier", r"high \? \{[^}]+\} : (\{[^}]+\})", r"\1", "nibble multiplier", r".*\.multiplier_0_\w+\.product", {}),
    ("output_lane", r"window\[0\] & n_\d+", "1'h0", "output stage", r"core\.output_stage\.output_lane_0\.code", {}),
    ("operands", r"- words\[15:8\]", "~ words[15:8]", "operand buffer", r"core\.convolution\.selector_\d_0\.codes", {}),
    ("activations", r"valid_0 \? word_0 : 32'\w+", "word_0", "activation memory", r"core\.activations\.data", {}),
    ("weights", r"memory_1\[read__addr\]", "memory_1[read__addr ^ 7'h01]", "weight memory", r"core\.convolution\.weights", {}),
    ("pe", r"first \? (\d+'h0+)0 : (sums\[\d+:\d+\])", r"first ? \g<1>1 : \2", "processing element", r"core\.convolution\.array\.pe_1_\d\.sums", {}),
    ("channel_lane", r"(\$signed\(tap\[8:0\]\)) > (\$signed\(value\[8:0\]\))", r"\1 < \2", "channel unit", r"core\.channel\.channel_lane_\d\.value",
     {"kind": 1, "channels_in": 5}),
    ("channel", r"\{ (slots\[\d+:\d+\]), (slots\[\d+:\d+\]) \}", r"{ \2, \1 }", "channel unit", r"core\.channel\.channel_lane_\d\.tap",
     {"kind": 3, "channels_in": 5}),
    ("controller", r"(\$signed\(in_x_0\)) < (\$signed\(\{[^{}]*\}\))", r"\1 <= \2", "controller", r"core\.controller\.read", {}),
    ("drain", r"word_ends \? layer\[\d+:\d+\] : 9'h000", "9'h000", "drain", r"core\.output_stage\.write_address", {}),
]
# Every step of the reduction takes a cycle more; every other cycle the decoder takes no input.
SLOW = ("controller", r"(is_\d+ \? n_\d+\[2:0\]) : last_cycle", r"\1 + 3'h1 : last_cycle")
LATE = ("decoder", r"(?<=assign input__ready = )[^;]+", r"(\g<0>) & tick")
ALL = [*MUTATIONS, SLOW, LATE]
NUMBER = '  reg [7:0] mutation [0:0];\n  initial $readmemh("mutation.hex", mutation);\n'
TICK = "  reg tick = 1'h0;\n  always @(posedge clk)\n    tick <= ~ tick;\n"


@functools.cache
def verilog() -> str:
    """The Verilog with all mutations: which of them is on is read from the file ``mutation.hex`` when a simulation starts, so one build serves all."""
    text = export(Accelerator(CONFIG), "accelerator")
    for number, (module, old, new, *_) in enumerate(ALL, 1):
        begin = re.search(rf"^module accelerator_{module}\([^)]*\);\n", text, re.M)
        end = text.index("endmodule", begin.end())
        body, count = re.subn(old, lambda found: f"(mutation[0] == 8'd{number} ? {found.expand(new)} : {found[0]})", text[begin.end() : end])
        assert count, f"module {module} has no {old!r} any more: bring the test up to date"
        if "mutation [0:0]" not in body:
            body = NUMBER + (TICK if "clk" in begin[0] else "") + body
        text = text[: begin.end()] + body + text[end:]
    return text


@pytest.fixture(scope="module")
def built():
    return Harness(CONFIG, verilog(), trace=True)


@pytest.fixture
def mutated(built, tmp_path, monkeypatch):
    """The harness with a mutation, by its number; 0: with none."""
    def choose(number):
        (tmp_path / "mutation.hex").write_text(f"{number:02x}\n")
        monkeypatch.chdir(tmp_path)
        return built

    return choose


@pytest.mark.parametrize("number", range(1, len(MUTATIONS) + 1), ids=lambda n: f"{n} {MUTATIONS[n - 1][0]}")
def test_the_broken_unit_is_named(number, mutated, tmp_path):
    unit, signal, more = MUTATIONS[number - 1][3:]
    # Ties are rare: as many layers as it takes.
    programs = [build(CONFIG, [Case(**{**vars(CASE), "seed": seed} | more)]) for seed in range(8)]
    found = diff.investigate(CONFIG, programs, mutated(number), out=tmp_path)
    text = diff.describe(found)
    assert found.texts and found.reproduced
    assert found.wrong.unit == unit, text
    assert re.fullmatch(signal, found.wrong.signal), text
    assert found.waves.is_file()
    assert f"first wrong signal: {unit}: " in text
    assert re.search(r"tile \d+ of \d+, row \d; output pixel y=\d x=\d, channel \d: -?\d+, expected is -?\d+", text)


SMALL = dict(in_h=2, in_w=2, kernel_h=1, kernel_w=1, pad_top=0, pad_left=0, pad_right=0)


def test_the_first_layer_that_takes_other_cycles_is_named(mutated, tmp_path, monkeypatch):
    """The second one: the drain hides what a window of one pixel takes. Windows of waves are shorter than the layer."""
    monkeypatch.setattr(timeline, "SPAN", 50)
    programs = [build(CONFIG, [Case(**vars(CASE) | SMALL | {"kind": 2, "channels_in": 5}), CASE, Case(**vars(CASE) | {"seed": 4})])]
    layers = [c for c in programs[0] if isinstance(c, Layer)]
    cycles = layer_cycles(CONFIG, layers[1])
    found = diff.investigate(CONFIG, programs, mutated(ALL.index(SLOW) + 1), out=tmp_path)
    late, text = found.late, diff.describe(found)
    assert found.place is None and (late.program, late.index, late.what) == (0, 1, "cycles")
    assert late.expected == cycles.total and late.actual == cycles.total + cycles.steps * cycles.tiles - 1
    assert found.wrong.unit == "controller" and found.wrong.signal == timeline.STEP and (found.wrong.expected, found.wrong.actual) == (1, 0)
    assert found.wrong.what == f"operands of step 1 of tile 0 of {cycles.tiles}"
    assert f"first layer off: program 0, layer 1 {layers[1].tag!r} (conv, w8, budget 3): {late.actual} cycles, expected are {late.expected}" in text
    assert f"first wrong signal: controller: {timeline.STEP} in cycle " in text and "(that layer alone; time / 2 is the cycle)" in text


def test_more_layers_than_the_log_holds(mutated, tmp_path):
    """The log holds four layers; the sixth is the first that is slow, as the drain hides it in the others."""
    pool = Case(**vars(CASE) | SMALL | {"kind": 2, "channels_in": 5})
    programs = [build(CONFIG, [pool] * 3), build(CONFIG, [*[pool] * 5, Case(**vars(CASE) | SMALL)])]
    found = diff.investigate(CONFIG, programs, mutated(ALL.index(SLOW) + 1), out=tmp_path)
    assert found.place is None and (found.late.program, found.late.index, found.late.what) == (1, 5, "cycles")


def test_a_layer_that_starts_late_is_named(mutated, tmp_path):
    program = build(CONFIG, [CASE])
    found = diff.investigate(CONFIG, [program], mutated(ALL.index(LATE) + 1), out=tmp_path)
    start = Machine(CONFIG).run(program).layers[0].start
    assert found.place is None and (found.late.index, found.late.what, found.late.expected) == (0, "start", start) and found.late.actual > start
    assert f"starts in cycle {found.late.actual} of its program, expected is {start}" in diff.describe(found)
    without = diff.investigate(CONFIG, [program], mutated(ALL.index(LATE) + 1), out=tmp_path, waves=False)
    assert "each layer takes the cycles that it should" in diff.describe(without)


@pytest.mark.parametrize("more", [{}, {"kind": 1}, {"kind": 3}, {"budget": 1}, {"budget": 8, "w4": 1}, {"stride_w": 2}, SMALL | {"budget": 1, "channels_in": 3},
                                  SMALL | {"budget": 1, "channels_in": 3, "w4": 1}])
def test_timeline_of_a_right_machine(more, mutated, tmp_path):
    """Every pulse of every loop in its cycle: short tiles, whose drains the next ones wait for, among them."""
    case = Case(**vars(CASE) | more | ({"channels_in": 5} if more.get("kind") else {}))
    layer = locate.alone(CONFIG, [build(CONFIG, [case])], 0, 0)
    expected = timeline.pulses(CONFIG, layer.layer, layer.start)
    window = layer.start - 5, expected[-1].cycle + 20
    mutated(0).run([encode(CONFIG, layer.commands)], waves=(tmp_path / "w.vcd", 0, *window))
    waves = Waves(tmp_path / "w.vcd", [*timeline.signals(CONFIG, layer.layer), timeline.BUSY])
    assert not waves.missing and timeline.first_off(CONFIG, expected, layer.layer, waves, *window) is None
    moved = [timeline.Pulse(p.cycle + (p.signal == timeline.DONE), p.unit, p.signal, p.what) for p in expected]
    assert timeline.first_off(CONFIG, moved, layer.layer, waves, *window).signal == timeline.DONE
    assert [waves.value(timeline.BUSY, layer.start + n) for n in (0, 1)] == [0, 1]


@pytest.mark.parametrize("seed", range(16))
def test_no_signal_of_a_right_machine_is_called_wrong(seed, mutated, tmp_path):
    """Random layers of all kinds, a random code of each: everything that is expected of its tile stands in the waves."""
    layer = locate.alone(CONFIG, [build(CONFIG, [draw(CONFIG, seed)])], 0, 0)
    cycles, rng = layer_cycles(CONFIG, layer.layer), np.random.default_rng(seed)
    y, x, channel = (int(rng.integers(size)) for size in (layer.layer.out_h, layer.layer.out_w, layer.layer.out_channels))
    tile, row = locate.tile_of(CONFIG, layer.layer, y, x, channel)
    place = locate.Place(0, 0, layer.layer, tile, cycles.tiles, row, y, x, channel, 0, 0, 1)
    first, last, near = signals.window(CONFIG, place, layer.start)
    mutated(0).run([encode(CONFIG, layer.commands)], waves=(tmp_path / "w.vcd", 0, first, last))
    waves = Waves(tmp_path / "w.vcd", signals.wanted(CONFIG, place))
    assert signals.first_wrong(CONFIG, layer, place, waves, first, last, near) is None


def test_nothing_differs(mutated, tmp_path):
    found = diff.investigate(CONFIG, [build(CONFIG, [CASE])], mutated(0), out=tmp_path, waves=False)
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
