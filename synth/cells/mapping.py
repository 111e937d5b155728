"""Maps module bodies to cells, each on its own, each once: results are kept by the hash of all that they follow from."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from synth.cells import drive, gates
from synth.cells.cell_library import CellLibrary
from synth.cells.hierarchy import Body, standalone
from synth.cells.yosys import YosysError, run_script, yosys_version

CACHE = Path("build") / "synth"
PROCESSES = 2

REGISTER_WORDS = 8
"""Memories of fewer words become flip-flops: no memory macro is that shallow."""

# Other memories stay what they are, with their read registers, as macros would; tables that nothing writes become gates.
# Yosys' own ABC script sweeps with a SAT solver, which takes an hour on the output stage's multipliers; this one takes half a minute.
# Booth's multipliers: without them Yosys extends the partial products of signed operands over the whole sum, an INT8 multiply-accumulate by half.
GENERIC_ABC = "strash; dc2; dc2; dch; map -B 0.9 -a; topo"
"""For gates without delays: area is all that there is to ask for."""
ABC = "strash; dc2; dc2; dch; amap; topo; buffer -c; topo; upsize -D 8000; dnsize -D 8000"
"""With a library that has delays. ``amap`` knows the cells, XOR gates most of all: a nibble multiplier is 14 % smaller than with ``map -a`` (sg13g2). Then buffers
where many gates hang on one, and the larger cells that a path of more than 8 ns asks for: 1 % of the area."""

_SCRIPT = """\
read_verilog body.v
synth -booth -top {top} -run begin:fine
memory_map -rom-only
memory_map t:$mem_v2 r:SIZE<{register_words} %i
opt -fast -full
dump -o memories.txt t:$mem_v2
techmap
opt -fast
{mapping}
opt_clean
submod -name {top}_memory t:$mem_v2
select {top}
write_json -selected netlist.json
"""


def script(body: Body, library: CellLibrary) -> str:
    return _SCRIPT.format(top=body.name, register_words=REGISTER_WORDS, mapping=library.mapping)


def abc(library: CellLibrary) -> str:
    return ABC if re.search(r"^\s*timing\s*\(", library.text, re.MULTILINE) else GENERIC_ABC


def key(body: Body, bodies: dict[str, Body], library: CellLibrary) -> str:
    """Names the result of mapping ``body``: equal only if all that it follows from is."""
    digest = hashlib.sha256()
    for part in (standalone(body, bodies), script(body, library), abc(library), library.digest, yosys_version()):
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:24]


def map_bodies(bodies: dict[str, Body], names: list[str], library: CellLibrary,
               progress: Callable[[int, int, str, float], None] = lambda *_: None) -> dict[str, dict]:
    """``{"cells": {type: number}, "memories": [{"name", "words", "bits", "ports"}], "memory_ports", "netlist": Verilog}`` of each named body, alone.

    In the netlist, memories are an instance of ``NAME_memory``, which is not part of it; ``memory_ports`` are its (direction, bits). With a
    library, cells have the strength for what hangs on them in the whole hierarchy (``synth.drive``), and what that costs is counted.

    ``progress`` is called with (finished, all, name, seconds) for each body that is not yet known.

    Raises
    ------
    YosysError
        Yosys failed; what was mapped before is kept.
    """
    results, missing = {}, []
    for name in names:
        try:
            results[name] = json.loads((CACHE / f"{key(bodies[name], bodies, library)}.json").read_text())
        except (OSError, ValueError):
            missing.append(name)
    # The long ones first, so that no process is left alone with one at the end.
    missing.sort(key=lambda name: -len(bodies[name].text))
    with ThreadPoolExecutor(PROCESSES) as pool:
        jobs = {pool.submit(_map_body, bodies[name], bodies, library): name for name in missing}
        try:
            for n, job in enumerate(as_completed(jobs), 1):
                results[jobs[job]], seconds = job.result()
                progress(n, len(missing), jobs[job], seconds)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _finish({name: results[name] for name in names}, bodies, library)


def _finish(results, bodies, library):
    """Strength, children first; then cells are counted and written."""
    cells, borders = drive.Cells.of(library) if library.text else None, {}

    def visit(name):
        if name in borders or name not in results:
            return
        for child in bodies[name].children:
            visit(child)
        body = results[name]["body"]
        known = borders | {kind: drive.macro(pins, directions) for kind, pins, directions in body["cells"] if kind == f"{name}_memory"}
        borders[name] = drive.strengthen(body, known, cells, library) if cells else None

    for name in results:
        visit(name)
    return {name: {
        "cells": _cells(result["body"], name, library), "memories": result["memories"],
        "memory_ports": {pin: (way, len(pins[pin])) for kind, pins, directions in result["body"]["cells"] if kind == f"{name}_memory"
                         for pin, way in directions.items()},
        "netlist": gates.verilog(name, result["body"], library.sequential.__contains__),
    } for name, result in results.items()}


@contextmanager
def _scratch():
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".run.", dir=CACHE))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _map_body(body, bodies, library):
    begin = time.monotonic()
    with _scratch() as folder:
        (folder / "body.v").write_text(standalone(body, bodies))
        (folder / "map.ys").write_text(script(body, library))
        (folder / "abc.script").write_text(abc(library) + "\n")
        if library.text:
            (folder / "library.lib").write_text(library.text)
        try:
            run_script(folder / "map.ys")
        except YosysError as error:
            raise YosysError(f"module {body.name}: {error}") from None
        result = {"memories": _memories((folder / "memories.txt").read_text()), "body": gates.read(folder / "netlist.json", body.name)}
        _cells(result["body"], body.name, library)
        (folder / "result.json").write_text(json.dumps(result))
        os.replace(folder / "result.json", CACHE / f"{key(body, bodies, library)}.json")
    return result, time.monotonic() - begin


def _cells(body, name, library):
    """Cells by type, without children and memories; a cell that the library has no area for would vanish from the sum."""
    cells = dict(drive.count(body))
    if unknown := sorted(set(cells) - set(library.area)):
        raise YosysError(f"module {name}: {', '.join(unknown)} has no area in {library.name}")
    return cells


def _memories(dump):
    """From the dump of the memory cells. Yosys merges the read register into the memory, as in a synchronous SRAM."""
    memories = []
    for cell in re.findall(r"^ *cell \$mem_v2 .*?^ *end$", dump, re.MULTILINE | re.DOTALL):
        found = re.findall(r"parameter(?: signed)? \\(WIDTH|SIZE|RD_PORTS|WR_PORTS) (\S+)", cell)
        values = {name: _integer(value) for name, value in found}
        memories.append({
            "name": re.search(r'parameter \\MEMID "\\*([^"]*)"', cell)[1],
            "words": values["SIZE"], "bits": values["WIDTH"],
            "ports": f"{values['RD_PORTS']} read, {values['WR_PORTS']} write",
        })
    return memories


def _integer(constant):
    return int(constant.split("'")[1], 2) if "'" in constant else int(constant)
