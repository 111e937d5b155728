"""The Verilog as users' tools see it: Verilator's lint, Icarus and yosys take it as it is."""

from pathlib import Path

import pytest

import hw
from hw.accelerator import Accelerator
from hw.verilog import export
from sdp.config import NAMED
from sim.toolchain import ToolError, lint, run_tool
from synth.cells.yosys import YosysError, run_script


@pytest.fixture(scope="module", params=["tiny", "small"])
def verilog(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "accelerator.v"
    path.write_text(export(Accelerator(NAMED[request.param]), "accelerator", constant=()))
    return path


def test_verilator_lints_clean(verilog):
    lint(verilog, "accelerator", Path(hw.__file__).with_name("lint.vlt"))


def test_lint_would_complain(verilog):
    broken = verilog.with_name("broken.v")
    broken.write_text(verilog.read_text().replace("  assign interrupt =", "  wire floating;\n  assign interrupt = floating ^", 1))
    with pytest.raises(ToolError, match="floating"):
        lint(broken, "accelerator", Path(hw.__file__).with_name("lint.vlt"))


def test_icarus_accepts(verilog):
    run_tool(["iverilog", "-g2012", "-Wall", "-o", str(verilog.with_suffix(".vvp")), str(verilog)], what="iverilog")


def test_yosys_accepts(verilog):
    """No latch, no loop, no second driver, nothing undriven that is used."""
    script = verilog.with_suffix(".ys")
    script.write_text(f"read_verilog {verilog.name}\nhierarchy -check -top accelerator\nproc\nselect -assert-none t:$dlatch\ncheck -assert\n")
    run_script(script)


def test_yosys_would_complain(verilog):
    broken, script = verilog.with_name("loop.v"), verilog.with_name("loop.ys")
    broken.write_text(verilog.read_text().replace("  assign interrupt =", "  wire loop = ~loop;\n  assign interrupt = loop ^", 1))
    script.write_text(f"read_verilog {broken.name}\nhierarchy -check -top accelerator\nproc\ncheck -assert\n")
    with pytest.raises(YosysError):
        run_script(script)
