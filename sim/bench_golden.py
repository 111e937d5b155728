"""Speed of the golden model: the machine and the integer model against onnxruntime's float network, the same images on the same computer."""

import functools
import math
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from compiler.quantize import calibrate, quantize
from compiler.schedule import Compiled
from compiler.sensitivity import convolutions
from golden.machine import Machine
from sdp.config import Config
from sim import accuracy, data, flow
from sim.networks import SHARED

BATCH = 64
"""Images at once, of all three: bounds their memory."""
BLOCK = 16 * BATCH
"""Images after which it is the next one's turn: what else runs on the computer slows all of them."""
BUDGET = 5
NETWORK, DATA, PREPROCESS = "resnet20_cifar10", "cifar10", "cifar10-resnet20"


def compiled(model: str | Path, images: np.ndarray, config: Config) -> Compiled:
    """The network as it is used: few terms and one digit per weight, all of both in the first and the last layer. Nothing is searched."""
    calibration = calibrate(flow.read(model), images)
    names = convolutions(quantize(calibration, config))
    modes = {name: (min(BUDGET, 2 * config.group), True) for name in names} | {name: (2 * config.group, False) for name in (names[0], names[-1])}
    return flow.compile(quantize(calibration, config, modes), config)


def runners(model: str | Path, program: Compiled) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name: functions from images (n, h, w, c) to outputs (n, classes), floats or codes."""
    return {"onnxruntime, float": accuracy.onnx_runner(model)[0],
            "integer model": functools.partial(flow.logits, program.network, config=program.config),
            "golden machine": functools.partial(machine, program)}


def machine(program: Compiled, images: np.ndarray) -> np.ndarray:
    """Output codes (n, outputs) of the golden machine, for images (n, h, w, c)."""
    frame = program.run_golden(Machine(program.config, len(images)), program.network.encode(images))
    return frame.codes[program.network.layers[-1].name].reshape(len(images), -1)


def peak(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """MiB that Python and NumPy hold at most at a time while this runs, beyond what they held before."""
    tracemalloc.start()
    try:
        run(images)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def measure(model: str | Path, program: Compiled, images: np.ndarray, console: Console) -> list[dict]:
    """A dictionary for each of :func:`runners`; ``ratio``: of its time to onnxruntime's. Codes of machine and integer model must be equal."""
    functions = runners(model, program)
    seconds, found = dict.fromkeys(functions, 0.0), {name: [] for name in functions}

    def run(name, part, progress=None):
        return accuracy.batches(functions[name], part, BATCH, progress, processes=not name.startswith("onnx"))

    for name in functions:
        run(name, images[:BLOCK])  # whatever is made once
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {name: bar.add_task(name, total=len(images)) for name in functions}
        for begin in range(0, len(images), BLOCK):
            for name in functions:
                start = time.perf_counter()
                found[name].append(run(name, images[begin : begin + BLOCK], lambda done: bar.advance(tasks[name], done)))
                seconds[name] += time.perf_counter() - start
    reference = seconds["onnxruntime, float"]
    if not np.array_equal(np.concatenate(found["integer model"]), np.concatenate(found["golden machine"])):
        raise AssertionError("the golden machine and the integer model differ")
    return [{"what": name, "images": len(images), "batch": BATCH, "seconds": round(taken, 3), "ratio": round(taken / reference, 2),
             "peak_mib": None if name.startswith("onnx") else round(peak(functions[name], images[:BATCH]), 1)} for name, taken in seconds.items()]


def golden_speed(config: Config, console: Console, shared: Path = SHARED, limit: int | None = None) -> list[dict] | None:
    """The table of ``make bench`` for ResNet-20, none where it is missing."""
    model, values = shared / "networks" / NETWORK / "model.onnx", shared / "data" / DATA
    if not model.is_file():
        console.print("golden model: skipped: no ../shared")
        return None
    network = flow.read(model)
    shape, rule = network.input_shape, data.preprocessing(PREPROCESS)
    calibration = data.load(values / "calib.npz", shape, rule, limit=BATCH, what="calibration data", labels_optional=True)
    program = compiled(model, calibration.images, config)
    classes = math.prod(network.shapes()[network.nodes[-1].name])
    test = data.load(values / "test.npz", shape, rule, classes=classes, limit=limit, what="test data")
    rows = measure(model, program, test.images, console)
    table = Table(title=f"{NETWORK} on {config.name}, {len(test):,} images, {BATCH} at once", title_justify="left")
    for column in ("what", "seconds", "images/s", "times onnxruntime", "peak memory, MiB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        memory = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        table.add_row(row["what"], f"{row['seconds']:.1f}", f"{row['images'] / row['seconds']:,.0f}", f"{row['ratio']:.2f}", memory)
    console.print(table)
    return rows
