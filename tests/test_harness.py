"""The C++ harness against a mock of the accelerator: streams, counters, log, errors, hangs, waveforms."""

import numpy as np
import pytest

from hw.verilog import export
from sdp.config import NAMED, Config
from sdp.program import Error
from sdp.registers import LOG_BASE
from sim.harness import Harness
from tests.mock_accelerator import FAIL, HANG, MockAccelerator

NARROW = Config(name="narrow", group=2, lanes=2, outputs=4, reduction=64)
"""Beats of 32 bits: the ports are integers to Verilator, no arrays."""


@pytest.fixture(scope="module", params=[NAMED["tiny"], NARROW], ids=lambda c: c.name)
def harness(request):
    return Harness(request.param, export(MockAccelerator(request.param), "accelerator"))


def beats(harness, count, seed=0):
    data = np.random.default_rng(seed).integers(0, 256, (count, harness.config.word), dtype=np.uint8)
    data[:, 0] %= HANG
    return data


def test_echo_counters_and_log(harness):
    programs, seen = [beats(harness, n, n).tobytes() for n in (1, 30, 5)], []
    results = harness.run(programs, progress=lambda *args: seen.append(args))
    for program, result, count in zip(programs, results, (1, 30, 5)):
        assert result.ok and result.outputs == program and result.packets == [program]
        assert (result.cycles, result.busy, result.waiting, result.terms, result.empty) == (count, count, 0, 3 * count, 2 * count)
        entries = harness.config.log_layers
        assert result.layer_count == count and len(result.layers) == min(count, entries)
        logged = range(max(0, count - entries), count)
        assert [entry["waiting"] for entry in result.layers] == [LOG_BASE + 4 * (n % entries) + 1 for n in logged]
    assert [(index, total) for index, total, _ in seen] == [(0, 3), (1, 3), (2, 3)]
    assert harness.cycles_per_second > 0


@pytest.mark.parametrize("idle, stall", [(0.5, 0), (0, 0.5), (0.5, 0.5), (0.95, 0.95)])
def test_idle_source_and_stalling_sink(harness, idle, stall):
    program = beats(harness, 50).tobytes()
    first, again, other = (harness.run([program], idle=idle, stall=stall, seed=seed)[0] for seed in (3, 3, 4))
    assert first.outputs == other.outputs == program
    assert first == again and first.cycles != other.cycles
    assert first.cycles > 50


def test_error_and_hang_leave_the_next_program_alone(harness):
    good, bad, stuck = beats(harness, 4), beats(harness, 4), beats(harness, 4)
    bad[2, :2] = FAIL, Error.BUDGET
    stuck[2, 0] = HANG
    results = harness.run([good.tobytes(), bad.tobytes(), good.tobytes(), stuck.tobytes(), good.tobytes()], limit=1000)
    assert [r.ok for r in results] == [True, False, True, False, True]
    assert results[1].error is Error.BUDGET and not results[1].hung and results[1].outputs == bad[:2].tobytes()
    assert results[3].hung and results[3].simulated >= 1000
    assert results[4].outputs == good.tobytes()


def test_what_is_no_program_is_rejected(harness):
    for data in (b"", b"abc"):
        with pytest.raises(ValueError, match=r"^program 1: \d bytes are no whole number of beats"):
            harness.run([beats(harness, 1).tobytes(), data])
    with pytest.raises(ValueError, match="trace=True"):
        harness.run([beats(harness, 1).tobytes()], waves=("x.vcd", 0, 0, 9))


def test_waves_of_some_cycles(tmp_path):
    config = NAMED["tiny"]
    harness = Harness(config, export(MockAccelerator(config), "accelerator"), trace=True)
    harness.run([beats(harness, 4).tobytes(), beats(harness, 40).tobytes()], waves=(tmp_path / "w.vcd", 1, 10, 20))
    times = [int(line[1:]) for line in (tmp_path / "w.vcd").read_text().splitlines() if line.startswith("#")]
    assert min(times) >= 20 and max(times) <= 41 and len(times) > 10
