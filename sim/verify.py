"""A compiled network on the simulated hardware, image by image, against the golden machine: every code, every cycle."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from compiler.schedule import Compiled
from golden.cycles import layer_cycles
from golden.machine import Machine
from sdp import UserError
from sdp.encoding import encode
from sdp.program import Layer
from sim.compare import differences
from sim.harness import Harness

BATCH = 64
"""Images that the golden machine computes at once: bounds its memory."""


class LogError(UserError, ValueError):
    """A network of more layers than the machine's log holds: their cycles could not be compared one by one."""


@dataclass
class LayerReport:
    """One layer of the network, all its parts; cycles per image.

    ``mismatches`` counts output codes, over all images; it stays 0 where outputs were not stored.
    """

    name: str
    cycles_model: int = 0
    cycles_rtl: int = 0
    terms: int = 0
    empty: int = 0
    mismatches: int = 0


@dataclass
class Verification:
    """``codes``: the golden machine's outputs of the last layer, (images, h, w, c); ``cycles``: of one image's whole program.

    ``problems``: sentences, one per image that differs in codes, cycles or counters; empty when all is equal.
    """

    images: int
    layers: list[LayerReport]
    codes: np.ndarray
    cycles: int
    problems: list[str] = field(default_factory=list)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)


def verify(compiled: Compiled, harness: Harness, codes: np.ndarray, *, trace: bool = False,
           progress: Callable[[int, int, int], None] | None = None) -> Verification:
    """Run ``codes`` (images, h, w, c) on the RTL and on the golden machine.

    ``trace`` stores and compares the output of every layer, otherwise the last one's. Cycles are compared for every layer and image.
    Raises ``HazardError`` or ``ProgramError`` if the golden machine rejects the program.
    """
    config = compiled.config
    setup = encode(config, compiled.setup())
    # Part after part as it runs, with the name of the layer that it belongs to.
    parts = [part.layer.name for part in compiled.parts]
    reports = {name: LayerReport(name) for name in dict.fromkeys(parts)}
    program = compiled.frame(codes[:1], trace)
    for name, command in zip(parts, (c for c in program if isinstance(c, Layer)), strict=True):
        reports[name].cycles_model += layer_cycles(config, command).total
    if len(parts) > config.log_layers:
        raise LogError(f"the network runs {len(parts)} layers, the layer log of {config.name!r} holds {config.log_layers}")
    result = Verification(len(codes), list(reports.values()), np.zeros(0), 0)
    frames = [encode(config, compiled.frame(image, trace)) for image in codes]
    got = harness.run([setup, *frames], progress)
    if not got[0].ok:
        result.problems.append(f"setup: {got[0].error.name}")
    outputs = []
    for begin in range(0, len(codes), BATCH):
        batch = codes[begin : begin + BATCH]
        golden = Machine(config, len(batch))
        golden.run(setup)
        expected = golden.run(compiled.frame(batch, trace))
        wanted = compiled.unpack(expected.outputs, trace)
        outputs.append(next(reversed(wanted.values())))
        for image in range(len(batch)):
            run = got[1 + begin + image]
            found = differences(config, run, expected, image)
            if found:
                result.problems.append(f"image {begin + image}: {'; '.join(found)}")
            if len(run.outputs) == expected.outputs[image].size:
                seen = compiled.unpack(np.frombuffer(run.outputs, dtype=np.uint8).reshape(-1, config.word), trace)
                for name, tensor in seen.items():
                    reports[name].mismatches += int((tensor != wanted[name][image]).sum())
            else:
                reports[parts[-1]].mismatches += expected.outputs[image].size
    first = got[1]
    for name, entry in zip(parts, first.layers):
        reports[name].cycles_rtl += entry["cycles"]
        reports[name].terms += entry["terms"]
        reports[name].empty += entry["empty"]
    result.codes, result.cycles = np.concatenate(outputs), first.cycles
    return result
