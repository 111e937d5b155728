"""Random layers through the whole machine, and proof that the fuzzer notices, reduces and replays a failure."""

import dataclasses
import re

import pytest

from golden.machine import Machine
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp.config import BASELINES, NAMED, VARIANTS, Config
from sdp.encoding import encode
from sim.compare import differences
from sim.fuzz import LAYERS_PER_PROGRAM, Fuzzer
from sim.harness import Harness
from sim.random_layer import Case, CaseError, build, draw, fits

TINY = NAMED["tiny"]
EIGHT = Config(name="eight", group=4, lanes=2, rows=4, columns=2, ports=2, outputs=1, reduction=1152, activation_words=256, weight_words=96, scale_words=16,
               scale_bits=12, log_layers=4)
"""Eight selectors: what counts their terms came out negative where the C++ compiler vectorized it."""
ODD = (*(dataclasses.replace(TINY, name=f"{array}-odd", array=array) for array in ("sdp-plain", "int4", "int8")),
       dataclasses.replace(TINY, name="drq-odd", array="drq", rows=7, ports=1, reduction=1536, weight_words=256))
"""Other arrays with sizes that are all different."""


CASES = [(TINY, 300, 0), (NAMED["small"], 60, 5000), (EIGHT, 20, 0),
         *((config, 100, 0) for config in (VARIANTS | BASELINES).values()), *((config, 60, 0) for config in ODD)]


@pytest.mark.parametrize("config, layers, seed", CASES, ids=lambda value: getattr(value, "name", value))
def test_random_layers(config, layers, seed):
    cases = [draw(config, seed + n) for n in range(layers)]
    budget = max(k for k in config.array_kind.budgets(config.group) if k <= config.group + 1)
    largest = Case(seed=seed, kernel_h=11, kernel_w=11, in_h=9, in_w=10, pad_top=5, pad_left=4, pad_bottom=3, pad_right=6, stride_w=2, budget=budget, channels_out=3)
    programs = [[largest]] * fits(config, largest) + [cases[n : n + LAYERS_PER_PROGRAM] for n in range(0, layers, LAYERS_PER_PROGRAM)]
    assert Fuzzer(config).failures(programs) == []


def test_the_draw_covers_what_it_should():
    cases = [draw(TINY, n) for n in range(300)]
    assert {c.kind for c in cases} == {0, 1, 2, 3} and {c.stride_w for c in cases} == {1, 2, 3, 4}
    assert any(c.kernel_h == 11 for c in cases) and any(c.kernel_w == 11 for c in cases)
    assert {(c.w4, c.in_signed, c.residual) for c in cases if not c.kind} == {(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    assert {c.budget for c in cases if not c.kind} == set(range(1, 2 * TINY.group + 1))


@pytest.mark.parametrize("array, modes", [("int4", {(0, 8), (0, 16), (1, 8), (1, 16)}), ("int8", {(0, 8)}), ("int16", {(0, 8)})])
def test_the_draw_keeps_to_what_the_array_has(array, modes):
    cases = [draw(BASELINES[f"{array}-small"], n) for n in range(100)]
    assert {(c.w4, c.budget) for c in cases if not c.kind} == modes
    assert {c.kind for c in cases} == {0, 1, 2, 3} and {c.in_signed for c in cases if not c.kind} == {0, 1}


def test_memories_begin_unknown():
    """Nothing that comes out depends on what memories and registers held at power-on."""
    streams = [encode(TINY, build(TINY, [draw(TINY, 700 + n), draw(TINY, 800 + n)])) for n in range(6)]
    golden = Machine(TINY)
    expected = [golden.run(stream) for stream in streams]
    for seed in (1, 2):
        got = Harness(TINY).run(streams, random_reset=True, seed=seed)
        assert [differences(TINY, g, e) for g, e in zip(got, expected)] == [[]] * len(streams)


def test_streams_that_wait():
    streams = [encode(TINY, build(TINY, [draw(TINY, 900 + n), draw(TINY, 950 + n)])) for n in range(10)]
    golden = Machine(TINY)
    expected = [golden.run(stream) for stream in streams]
    for idle, stall in ((0.5, 0), (0, 0.6), (0.9, 0.9)):
        for got, want in zip(Harness(TINY).run(streams, idle=idle, stall=stall), expected):
            assert got.ok and got.outputs == want.outputs.tobytes() and got.busy == want.busy
            assert got.traffic == want.traffic.counters()
            assert bool(got.waiting) == bool(idle) and got.cycles >= want.cycles


def test_case_survives_its_text():
    for seed in range(50):
        case = draw(TINY, seed)
        assert Case.parse(str(case)) == case and fits(TINY, case)
    with pytest.raises(CaseError, match="^case: 'bananas=1' is not FIELD=INTEGER"):
        Case.parse("seed=1 bananas=1")
    with pytest.raises(CaseError, match="^case: seed=INTEGER is missing$"):
        Case.parse("budget=1")


def test_a_broken_machine_is_caught_and_reduced():
    """Bits of a term that two data have are lost in the selector: found, and the reduced case still shows it and is small."""
    verilog = export(Accelerator(TINY), "accelerator")
    broken = re.sub(r"= \| (having_\d);", r"= ^ \1;", verilog)
    assert broken != verilog
    fuzzer = Fuzzer(TINY, Harness(TINY, broken))
    found = fuzzer.failures([[draw(TINY, n)] for n in range(40)])
    assert found
    # Sizes change the data that a seed makes, so that not every case becomes as small as the fault would let it.
    reduced = [fuzzer.reduce(cases[0]) for cases, _ in found[:4]]
    assert all(fuzzer.fails(case) and not Fuzzer(TINY).fails(case) for case in reduced)
    assert min(case.kernel_h * case.kernel_w * case.in_h * case.in_w for case in reduced) <= 4
