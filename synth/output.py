"""Where commands put what they make, and how they show that they are at work."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sdp import UserError


class OutputError(UserError):
    """A folder or file that cannot be written."""


def console(width: int) -> Console:
    """``width``: where the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width)


def made(folder: Path) -> Path:
    """The folder, made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {error.filename}: {error.strerror}") from None
    return folder


def save(path: Path, report: dict) -> Path:
    """The report as JSON."""
    try:
        path.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {error.filename}: {error.strerror}") from None
    return path


@contextmanager
def mapping_progress(console: Console, name: str) -> Iterator[Callable[[int, int, str, float], None]]:
    """What ``cells.mapping.map_bodies`` reports to."""
    with console.status(f"{name}: mapping") as status:
        def progress(done, of, module, seconds):
            if console.is_terminal:
                status.update(f"{name}: mapped {done} of {of} modules; {module}, {seconds:.0f} s")
            else:
                print(f"[{done}/{of}] {module}: {seconds:.1f} s", flush=True)

        yield progress
