"""Tasks whose results are kept by the hash of all that they follow from, computed where joblib's active backend says.

Workers compute and return; the parent alone writes, a file per result as it arrives. Whatever ends the parent, the next run computes what is missing.
"""

import ast
import functools
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from joblib import Parallel, delayed

from sim.build_cache import content_hash

ROOT = Path(__file__).resolve().parents[2]


class Task(Protocol):
    def follows(self) -> dict:
        """All that the result follows from, as JSON."""

    def run(self) -> tuple[dict, bool]:
        """The result as JSON, and whether it is to be kept: not so where it follows from something else, too, a full disk say."""


@functools.cache
def code(*files: str, alone: tuple[str, ...] = ()) -> str:
    """Hash of source files of the repository and of all of it that they import; ``alone``: of files without what they import."""
    found, new = {ROOT / name for name in alone}, {ROOT / name for name in files}
    while new:
        found |= new
        new = {path for file in new for path in _imports(file)} - found
    return content_hash(*(part for path in sorted(found) for part in (str(path.relative_to(ROOT)), path.read_bytes())))


def _imports(path: Path) -> set[Path]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    stems = [ROOT.joinpath(*name.split(".")) for name in names]
    return {path for stem in stems for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()}


@functools.cache
def file_hash(path: str) -> str:
    return content_hash(Path(path).read_bytes())


def key(task: Task) -> str:
    return content_hash(json.dumps({"task": type(task).__name__, **task.follows()}, sort_keys=True))


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, result: dict) -> None:
    """Atomic: a parent that is killed leaves a whole file or none."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(result))
    os.replace(temporary, path)


def _perform(name: str, task: Task) -> tuple[str, dict, bool]:
    return name, *task.run()


def compute(tasks: Sequence[Task], folder: Path, progress: Callable[[int, int], None] = lambda *_: None) -> list[dict]:
    """Results in the order of ``tasks``; equal tasks are computed once. ``progress``: called with (known, all) from the start on."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [key(task) for task in tasks]
    different = dict(zip(names, tasks))
    known = {name: result for name in different if (result := _read(folder / f"{name}.json")) is not None}
    progress(len(known), len(different))
    missing = [(name, task) for name, task in different.items() if name not in known]
    for name, result, keep in _results(missing):
        known[name] = result
        if keep:
            _write(folder / f"{name}.json", result)
        progress(len(known), len(different))
    return [known[name] for name in names]


def _results(missing: list[tuple[str, Task]]) -> Iterator[tuple[str, dict, bool]]:
    """As they are finished. One task at a time: a batch would be lost as a whole."""
    if missing:
        with warnings.catch_warnings(), closing(Parallel(return_as="generator_unordered", batch_size=1, max_nbytes=None)(
                delayed(_perform)(*item) for item in missing)) as results:
            warnings.filterwarnings("ignore", "[0-9]+ tasks ")  # were cancelled: whoever stopped the sweep knows
            yield from results
