"""Results that outlast a run: ``FOLDER/METHOD.json`` to read, ``FOLDER/METHOD.pickle`` with the networks to go on from.

What was searched is kept by the hash of all that it follows from; test images are not among that, so that more of them can be looked at later.
"""

import json
import os
import pickle
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from compare.method import CompareError, Fitted, Method
from sdp.config import Config
from sim.build_cache import content_hash

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *(f"compiler/{name}.py" for name in ("arithmetic", "budget", "calibration", "correction", "flow", "importance", "loss", "network", "ordering",
                                         "quantize", "quantized", "rounding", "sensitivity", "weights")),
    *(f"golden/{name}.py" for name in ("channel_unit", "mac_array", "output_stage", "term_select", "weights")), "compare/layer.py", "compare/method.py")
"""What every search runs; how files are read does not matter, what was read is hashed."""


@dataclass(eq=False)
class Stored:
    """``seen``: of each point, the classes that it names for the first test images, int (n,); ``ideal``: its cost on some of these."""

    key: str
    fitted: Fitted
    seen: list[np.ndarray] = field(default_factory=list)
    ideal: list[float] = field(default_factory=list)


@cache
def code(files: tuple[str, ...]) -> str:
    """Hash of source files of the repository."""
    return content_hash(*(part for name in files for part in (name, (ROOT / name).read_bytes())))


def key(method: Method, config: Config, digest: str, max_loss: float) -> str:
    """Of a search; ``digest``: of the network and its calibration images."""
    sizes = {name: value for name, value in config.parameters().items() if name != "name"}
    return content_hash(json.dumps([method.name, sizes, digest, max_loss, code((*SOURCES, *method.sources))], sort_keys=True))


def read(folder: Path, method: Method, wanted: str) -> Stored | None:
    """What is there, if it follows from the same. A file that is torn or of another time is as good as none."""
    try:
        found = pickle.loads((folder / f"{method.name}.pickle").read_bytes())
    except Exception:  # noqa: BLE001  whatever a pickle of older classes raises
        return None
    return found if isinstance(found, Stored) and found.key == wanted else None


def load(folder: Path, method: Method) -> Stored:
    """What the last run left, whatever it follows from: for those who measure its networks further.

    Raises
    ------
    CompareError
        Nothing there.
    """
    try:
        return pickle.loads((folder / f"{method.name}.pickle").read_bytes())
    except Exception:  # noqa: BLE001  whatever a pickle of older classes raises
        raise CompareError(f"there are no networks of {method.name!r} in {folder}: run 'python -m compare.accuracy' first") from None


def write(folder: Path, method: Method, stored: Stored, report: dict) -> None:
    """Both files, the report last; each is whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("pickle", pickle.dumps(stored)), ("json", (json.dumps(report, indent=1) + "\n").encode())):
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, folder / f"{method.name}.{name}")
