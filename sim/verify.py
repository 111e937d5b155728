"""A compiled network on the simulated hardware, image by image, against the golden machine: every code, every cycle.

A frame may be several programs, see :mod:`compiler.passes`. What one of them loads comes from the golden machine, so each is checked on
its own, and all of them run without waiting for each other's results.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from compiler.schedule import Compiled
from golden.cycles import layer_cycles
from golden.machine import Machine, Result
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, End, Layer, Load
from sim.compare import differences
from sim.harness import Harness

BATCH = 64
"""Images at once, at most."""
MEMORY = 1 << 28
"""Bytes of tensors at once, on the host of the golden machine."""


@dataclass
class LayerReport:
    """One layer of the network, all its parts and tiles; cycles per image.

    ``mismatches`` counts output codes, over all images; it stays 0 where outputs were not stored. ``cycles_rtl``, ``terms`` and ``empty``
    are those in the machine's log: of all layers where outputs are stored, else of as many as the log of one program holds.
    """

    name: str
    cycles_model: int = 0
    cycles_rtl: int = 0
    terms: int = 0
    empty: int = 0
    mismatches: int = 0


@dataclass
class Verification:
    """``codes``: the golden machine's outputs of the last layer, (images, h, w, c); ``cycles``: of all programs of one image.

    ``problems``: sentences, one per image and program that differ in codes, cycles or counters; empty when all is equal.
    """

    images: int
    layers: list[LayerReport]
    codes: np.ndarray
    cycles: int
    problems: list[str] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)


def cut(config: Config, program: list[Command]) -> list[list[Command]]:
    """The program as several, one after the other, none with more layers than the log holds. Memories stay what they are in between."""
    parts, layers = [[]], 0
    for command in program:
        if isinstance(command, Layer) and layers and layers % config.log_layers == 0:
            parts[-1].append(End())
            parts.append([])
        layers += isinstance(command, Layer)
        parts[-1].append(command)
    return parts


@dataclass(frozen=True, eq=False)
class Program:
    """One of a frame's programs, for a batch of images: the pass that it belongs to, names of its layers, what golden says."""

    step: int
    layers: list[str]
    commands: list[Command]
    expected: Result

    def stream(self, config: Config, image: int) -> bytes:
        return encode(config, [replace(command, data=command.data[image]) if isinstance(command, Load) and command.data.ndim == 3 else command
                               for command in self.commands])


def batch_of(compiled: Compiled, trace: bool) -> int:
    """Images at once."""
    count = sum(output.count(compiled.config) for output in compiled.outputs(trace)) * compiled.config.word
    return max(1, min(BATCH, MEMORY // count))


def expected(compiled: Compiled, codes: np.ndarray, trace: bool) -> tuple[list[Program], dict[str, np.ndarray]]:
    """The programs of a frame for the images ``codes`` (n, h, w, c), and the codes of all layers that it stores."""
    machine, found = Machine(compiled.config, len(codes)), []
    machine.run(compiled.setup())
    steps = iter(enumerate(compiled.passes))

    def execute(commands):
        step, one = next(steps)
        names = iter([item.part.layer.name for item in one.layers])
        results = []
        for part in cut(compiled.config, commands) if trace else [commands]:
            results.append(machine.run(part))
            found.append(Program(step, list(islice(names, len(results[-1].layers))), part, results[-1]))
        return Result(np.concatenate([result.outputs for result in results], axis=1))

    return found, compiled.run(execute, codes, trace).codes


def verify(compiled: Compiled, harness: Harness, codes: np.ndarray, *, trace: bool = False,
           progress: Callable[[int, int, int], None] | None = None) -> Verification:
    """Run ``codes`` (images, h, w, c) on the RTL and on the golden machine.

    ``trace`` stores and compares the output of every layer, otherwise the last one's, or what the passes exchange. Cycles are compared for
    every layer and image. ``progress``: called with images done, images, cycles simulated since.

    Raises ``HazardError`` or ``ProgramError`` if the golden machine rejects the program.
    """
    config, setup = compiled.config, encode(compiled.config, compiled.setup())
    reports = {part.layer.name: LayerReport(part.layer.name) for part in compiled.parts}
    for step in compiled.passes:
        for item in step.layers:
            reports[item.part.layer.name].cycles_model += layer_cycles(config, item.command).total
    result, outputs, size = Verification(len(codes), list(reports.values()), np.zeros(0), 0), [], batch_of(compiled, trace)
    for begin in range(0, len(codes), size):
        batch = codes[begin : begin + size]
        programs, wanted = expected(compiled, batch, trace)
        outputs.append(wanted[compiled.network.layers[-1].name])

        def done(index, count, cycles):
            if progress:
                progress(begin + index // len(programs), len(codes), cycles)

        first, *got = harness.run([setup, *(program.stream(config, image) for image in range(len(batch)) for program in programs)], done)
        if not begin:
            _count(config, reports, programs, got)
            result.cycles = sum(run.cycles for run in got[: len(programs)])
            result.problems += [] if first.ok else [f"setup: {first.error.name}"]
        for image in range(len(batch)):
            runs = got[image * len(programs) :][: len(programs)]
            result.problems += [f"image {begin + image}: {text}" for text in _compare(compiled, reports, programs, runs, wanted, image, trace)]
    result.codes = np.concatenate(outputs)
    return result


def _count(config, reports, programs, runs) -> None:
    """Cycles and terms of the first image's layers, from the log."""
    for program, run in zip(programs, runs):
        for name, entry in zip(program.layers[-config.log_layers :], run.layers):
            reports[name].cycles_rtl += entry["cycles"]
            reports[name].terms += entry["terms"]
            reports[name].empty += entry["empty"]


def _compare(compiled, reports, programs, runs, wanted, image, trace) -> list[str]:
    """What differs for one image of a batch, a sentence per program; wrong codes are counted in ``reports``."""
    texts, stored = [], [[] for _ in compiled.passes]
    for number, (program, run) in enumerate(zip(programs, runs, strict=True)):
        if found := differences(compiled.config, run, program.expected, image):
            texts.append((f"program {number} of {len(programs)}: " if len(programs) > 1 else "") + "; ".join(found))
        right, seen = program.expected.outputs[image], np.frombuffer(run.outputs, dtype=np.uint8).reshape(-1, compiled.config.word)
        if len(seen) != len(right):
            reports[program.layers[-1]].mismatches += right.size
            seen = right
        stored[program.step].append(seen)
    for name, tensor in compiled.gather([np.concatenate(parts) for parts in stored], trace).items():
        reports[name].mismatches += int((tensor != wanted[name][image]).sum())
    return texts
