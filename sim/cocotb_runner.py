"""Runs a cocotb test module on a component or on Verilog text, under Icarus or Verilator, at the speed that each can give."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from amaranth.lib import wiring
from cocotb_tools.runner import Icarus, Verilator

from hw.verilog import export
from sim.build_cache import BUILD, cached_build, content_hash
from sim.toolchain import ToolError, find_verilator, require, verilator_environment, verilator_version

SEED = 20240229
"""Of every run that asks for no other."""


class SimulationError(AssertionError):
    """A test failed, or the simulator did; the message ends with the end of its log."""


class _FastVerilator(Verilator):
    """cocotb's runner without ``--public-flat-rw``: that keeps every signal of the design in memory and stops nearly all optimization
    (builds 4 times slower, runs 2 times). A ``.vlt`` file among the sources makes visible what tests need: the ports."""

    def _build_command(self):
        return [[word for word in command if word != "--public-flat-rw"] for command in super()._build_command()]


def run(
    module: wiring.Component | str,
    toplevel: str,
    test_module: str,
    *,
    simulator: str = "icarus",
    testcase: str | None = None,
    seed: int = SEED,
    env: Mapping[str, object] | None = None,
    fast: bool = True,
    waves: bool = False,
    build: Path = BUILD,
) -> None:
    """Build if nothing like it was built before, run the tests of ``test_module``, raise if one fails.

    Parameters
    ----------
    module : a component, or Verilog text
    toplevel : name of its module
    test_module : importable name of the module with the ``@cocotb.test()`` functions
    simulator : ``icarus`` or ``verilator``
    env : environment variables for the tests, the way to hand over parameters
    fast : ``False`` for cocotb's own settings, for comparison
    waves : keep a waveform in the run's folder (``build/sim/runs/...``); ``WAVES=1`` in the environment does the same

    Raises
    ------
    SimulationError
        A test failed, none ran, or the simulator stopped early.
    ToolError
        A simulator is missing or did not build the design.
    """
    if simulator not in ("icarus", "verilator"):
        raise ValueError(f"simulator {simulator!r} is neither 'icarus' nor 'verilator'")
    waves = waves or os.environ.get("WAVES", "0") not in ("", "0")
    verilog = module if isinstance(module, str) else export(module, toplevel)
    built = _build(verilog, toplevel, simulator, fast, waves, Path(build))
    runs = Path(build).resolve() / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{test_module.rsplit('.', 1)[-1]}-{toplevel}-{simulator}-", dir=runs))
    log = folder / "log.txt"
    print(f"cocotb: {test_module} on {toplevel}, {simulator}, seed {seed}, in {os.path.relpath(folder)}", flush=True)
    if (root := str(Path(__file__).resolve().parent.parent)) not in sys.path:
        sys.path.append(root)  # the simulator's Python gets this list and runs in another folder
    runner = _runner(simulator, fast)
    results = folder / "results.xml"
    failure = ""
    with _environment(simulator):
        try:
            runner.test(
                test_module=test_module, hdl_toplevel=toplevel, hdl_toplevel_lang="verilog", testcase=testcase, seed=seed, waves=waves,
                build_dir=built, test_dir=folder, results_xml=str(results), log_file=log,
                # Icarus writes beside its build otherwise, where two runs at a time would meet.
                plusargs=[f"+dumpfile_path={folder / (toplevel + '.fst')}"] if waves and simulator == "icarus" else [],
                extra_env={"COCOTB_ANSI_OUTPUT": "0", **{name: str(value) for name, value in (env or {}).items()}},
            )
        except (SystemExit, RuntimeError) as error:
            failure = f"the simulator stopped: {error}"
    tests, failed = _count(results)
    if failed:
        failure = f"failed: {', '.join(failed)}"
    elif not tests and not failure:
        failure = "no test ran"
    if failure:
        raise SimulationError(f"{test_module} on {toplevel} ({simulator}, seed {seed}): {failure}\n{log}:\n{_tail(log, 60)}")
    if not waves:
        shutil.rmtree(folder, ignore_errors=True)


def _runner(simulator, fast):
    # cocotb's runners look only at PATH and exit the process if they find nothing; find_verilator and require have looked before.
    return {"icarus": Icarus, "verilator": _FastVerilator if fast else Verilator}[simulator]()


@contextlib.contextmanager
def _environment(simulator):
    """cocotb's runner copies the process's environment, whatever it is told: so it must be right while it runs."""
    if simulator != "verilator":
        yield
        return
    before, wanted = dict(os.environ), verilator_environment()
    try:
        os.environ.clear()
        os.environ.update(wanted)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _build(verilog, toplevel, simulator, fast, waves, build):
    if simulator == "icarus":
        require("iverilog", "vvp")
        tool = "icarus"
    else:
        executable = find_verilator()
        tool = f"verilator {verilator_version(executable)} {executable}"
    digest = content_hash(verilog, toplevel, tool, str(fast), str(waves), sys.prefix)

    def make(folder):
        source = folder / f"{toplevel}.v"
        source.write_text(verilog)
        sources, arguments = [source], []
        if simulator == "verilator":
            arguments = ["--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-SYMRSVDWORD"]
            if fast:
                visible = folder / "ports.vlt"
                visible.write_text(_visible_ports(verilog, toplevel))
                sources.append(visible)
                arguments += ["-O3", "--x-assign", "fast", "--x-initial", "fast", "-CFLAGS", "-O1", "-MAKEFLAGS", "OPT_SLOW=-O0"]
        log = folder / "build.txt"
        with _environment(simulator):
            try:
                _runner(simulator, fast).build(
                    sources=sources, hdl_toplevel=toplevel, build_dir=folder, build_args=arguments, waves=waves, always=True,
                    timescale=("1ns", "1ps"), log_file=log,
                )
            except (RuntimeError, SystemExit) as error:
                raise ToolError(f"{simulator} did not build {toplevel}: {error}\n{_tail(log, 40)}") from None

    return cached_build(build / f"{toplevel}-{simulator}-{digest}", make)


def _visible_ports(verilog, toplevel):
    header = re.search(rf"^module {re.escape(toplevel)}\s*\(([^)]*)\)", verilog, re.MULTILINE)
    if not header:
        raise ToolError(f"the Verilog text has no module {toplevel!r} with a port list")
    names = re.findall(r"\w+(?=\s*(?:,|$))", header[1])
    lines = ["`verilator_config", *(f'public_flat_rw -module "{toplevel}" -var "{name}"' for name in names)]
    return "\n".join(lines) + "\n"


def _count(results):
    """Number of tests that ran and the names of those that failed."""
    if not results.is_file():
        return 0, []
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return sum(case.find("skipped") is None for case in cases), failed


def _tail(path, lines):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
