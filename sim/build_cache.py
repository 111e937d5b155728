"""Builds in folders named by the hash of all that went into them: never built twice, safe under parallel test workers."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

BUILD = Path("build") / "sim"


def content_hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:24]


def cached_build(folder: Path, build: Callable[[Path], None]) -> Path:
    """``folder``, made by ``build(temporary folder)`` unless it is there.

    The finished folder is renamed into place, which is atomic: whoever comes second finds a whole one and throws its own away.
    """
    folder = Path(folder).resolve()
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        build(temporary)
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
