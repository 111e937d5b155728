"""Files of programs, and their listing: ``sdp disassemble``.

A file holds the count of programs as a 64-bit number, then of each its length in bytes and its bytes, all little endian: what the
simulation in :mod:`sim.harness` reads. A file that is one bare program is taken as well.
"""

import dataclasses
import json
import struct
from pathlib import Path

from sdp import UserError
from sdp.config import Config
from sdp.encoding import decode
from sdp.listing import disassemble
from sdp.program import Command, Layer


class FileError(UserError, ValueError):
    """A file that holds no programs."""


def pack(programs: list[bytes]) -> bytes:
    return b"".join([struct.pack("<Q", len(programs)), *(struct.pack("<Q", len(program)) + program for program in programs)])


def unpack(data: bytes) -> list[bytes]:
    """The programs of a file, the whole of it if it is a bare program."""
    found, at = [], 8
    count = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    while len(found) < count and at + 8 <= len(data):
        length = struct.unpack_from("<Q", data, at)[0]
        found.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return found if count and len(found) == count and at == len(data) else [data]


def read(path: str | Path) -> list[bytes]:
    """The programs in a file, or in the ``program.bin`` of a folder that ``sdp run`` made."""
    path = Path(path)
    path = path / "program.bin" if path.is_dir() else path
    if not path.is_file():
        raise FileError(f"there is no file {path}")
    return unpack(path.read_bytes())


def named(commands: list, names: list[str]) -> list:
    """The commands, their layers tagged with ``names``, in order."""
    rest = iter(names)
    return [dataclasses.replace(c, tag=next(rest, c.tag)) if isinstance(c, Layer) else c for c in commands]


def listing(config: Config, programs: list[bytes], names: list[list[str]] | None = None) -> str:
    """One command per line, a heading per program. ``names``: of the layers of each program."""
    lines, names = [], names or [[] for _ in programs]
    rest = iter([name for part in names for name in part])
    for at, program in enumerate(programs):
        commands = [dataclasses.replace(c, tag=next(rest, c.tag)) if isinstance(c, Layer) else c for c in decode(config, program)]
        lines += [f"; program {at} of {len(programs)}: {len(program):,} bytes, {len(program) // config.word:,} beats", disassemble(commands), ""]
    return "\n".join(lines)


def from_model(path: str | Path, config: Config) -> tuple[list[bytes], list[str]]:
    """The programs of an ONNX model with all terms of all layers and random weights' scales: its addresses and sizes are what counts."""
    import numpy as np

    from compiler import quantize
    from sim import flow

    network = flow.read(path)
    images = np.random.default_rng(0).random((4, *network.input_shape), dtype=np.float32)
    compiled = flow.compile(quantize.quantize(quantize.calibrate(network, images), config), config)
    return flow.programs(compiled, compiled.network.encode(images[0])), flow.layer_names(compiled)


def commands(path: str | Path, config: Config) -> list[list[Command]]:
    """The programs in a file, of a folder that ``sdp run`` made, or of an ONNX model as in :func:`from_model`; layers are tagged with their names."""
    if Path(path).suffix == ".onnx":
        streams, names = from_model(path, config)
    else:
        streams, report = read(path), Path(path) / "report.json"
        names = json.loads(report.read_text())["program_layers"] if report.is_file() else []
    rest = iter(names)
    sequence = [decode(config, stream) for stream in streams]
    return [named(program, [next(rest, c.tag) for c in program if isinstance(c, Layer)]) for program in sequence]


def main(args) -> int:
    """Print the listing of a program file, of the folder of a run, or of a model."""
    if Path(args.file).suffix == ".onnx":
        programs, names = from_model(args.file, args.config)
        print("; every layer with all its terms, calibrated on random images: 'sdp run' writes the listing of the program that it chose")
    else:
        programs, names = read(args.file), []
    print(listing(args.config, programs, [names]), end="")
    return 0
