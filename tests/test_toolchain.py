"""Simulators are found, failures are reported, builds are shared."""

import os
import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.verilog import export
from sim import toolchain
from sim.build_cache import cached_build
from sim.cocotb_runner import SimulationError, run


class Counter(wiring.Component):
    enable: In(1)
    count: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.enable):
            m.d.sync += self.count.eq(self.count + 1)
        return m


@pytest.fixture
def fresh():
    """Without what earlier look-ups remember, before and after."""
    for function in (toolchain.find_verilator, toolchain.verilator_version):
        function.cache_clear()
    yield
    for function in (toolchain.find_verilator, toolchain.verilator_version):
        function.cache_clear()


@pytest.mark.parametrize("simulator, fast", [("icarus", True), ("verilator", True), ("verilator", False)])
def test_cocotb_runs_and_fails(simulator, fast, tmp_path):
    run(Counter(), "counter", "tests.cocotb_counter", simulator=simulator, testcase="counts", env={"CYCLES": 7}, fast=fast)
    with pytest.raises(SimulationError, match=r"(?s)failed: wrong.*five is not six"):
        run(Counter(), "counter", "tests.cocotb_counter", simulator=simulator, fast=fast)
    with pytest.raises(SimulationError, match="no test ran|stopped"):
        run(Counter(), "counter", "tests.cocotb_counter", simulator=simulator, testcase="absent", fast=fast)


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_waves_on_request(simulator, tmp_path):
    run(Counter(), "counter", "tests.cocotb_counter", simulator=simulator, testcase="counts", waves=True, build=tmp_path)
    files = [path.suffix for path in (tmp_path / "runs").rglob("*")]
    assert ".fst" in files or ".vcd" in files


def test_missing_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(toolchain.ToolError, match=r"^g\+\+, iverilog not found: install with 'apt-get install g\+\+ iverilog'"):
        toolchain.require("g++", "iverilog", "vvp")


def fake_verilator(folder, version):
    path = folder / "verilator"
    path.write_text(f"#!/bin/sh\necho 'Verilator {version} 2025-01-01 rev v{version}'\n")
    path.chmod(0o755)
    return str(path)


def test_new_enough_native_verilator_is_used_as_it_is(monkeypatch, tmp_path, fresh):
    native = fake_verilator(tmp_path, "5.036")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("VERILATOR_ROOT", raising=False)
    assert toolchain.find_verilator() == native
    assert "VERILATOR_ROOT" not in toolchain.verilator_environment()


def test_old_native_verilator_gives_way(monkeypatch, tmp_path, fresh):
    native = fake_verilator(tmp_path, "5.006")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert toolchain.find_verilator() != native
    env = toolchain.verilator_environment()
    assert "-fcoroutines" in env["MAKEFLAGS"] and env["PATH"].startswith(env["VERILATOR_ROOT"])
    monkeypatch.setattr(toolchain, "_package", lambda: None)
    toolchain.find_verilator.cache_clear()
    with pytest.raises(toolchain.ToolError, match=re.escape("no Verilator >= 5.036 (the one on PATH is 5.006)")):
        toolchain.find_verilator()


def test_lint(tmp_path):
    path = tmp_path / "counter.v"
    path.write_text(export(Counter(), "counter"))
    toolchain.lint(path, "counter", toolchain.Path("hw") / "lint.vlt")
    path.write_text("module counter(output [3:0] a); assign b = 1; endmodule\n")
    with pytest.raises(toolchain.ToolError, match=r"(?s)lint-only.*IMPLICIT"):
        toolchain.lint(path, "counter")


def test_cached_build_runs_once_and_leaves_nothing_half_done(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder)
        (folder / "made").touch()

    def fail(folder):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cached_build(tmp_path / "a", fail)
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        assert (cached_build(tmp_path / "a", build) / "made").is_file()
    assert len(calls) == 1 and [path.name for path in tmp_path.iterdir()] == ["a"]
    # The loser of a race finds the winner's folder.
    assert cached_build(tmp_path / "b", lambda folder: build(cached_build(tmp_path / "b", build) and folder)) == tmp_path / "b"
