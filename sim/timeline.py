"""Where a program loses or gains cycles, all codes being right: the layer, and the first pulse of its loops in another cycle than golden has it."""

from dataclasses import dataclass
from pathlib import Path

from golden.cycles import CAPTURE_STAGES, CHANNEL_STAGES, OUTPUT_STAGES, READ_STAGES, SELECT_STAGES, START_STAGES, beats, layer_cycles
from golden.machine import Machine
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, Kind, Layer
from sim import locate
from sim.expected import take
from sim.harness import Harness
from sim.signals import CAPTURE, CAPTURED, Wrong
from sim.vcd import Waves
from sim.verify import cut

STEP, ACTIVE, DONE = "core.controller.step", "core.active", "core.output_stage.done"
BUSY = "core.engine_busy"
SPAN = 2_000
"""Cycles that are recorded at once."""
SLACK = 40
"""Cycles after the last one that is due."""
MASKS = {STEP: 1}
"""Of signals that are more than a pulse: the bit that is."""


@dataclass(frozen=True)
class Pulse:
    cycle: int
    unit: str
    signal: str
    what: str


def pulses(config: Config, layer: Layer, start: int) -> list[Pulse]:
    """All of a layer that starts in cycle ``start``, in the order of the pipeline within a cycle."""
    c, conv, (taken, lag) = layer_cycles(config, layer), layer.kind is Kind.CONV, take(config)
    reads = beats(config, layer.stride_w) if conv else 1
    found, ends = [], start + 1 + START_STAGES + config.rows // config.ports + reads - 1 + READ_STAGES - 1
    for tile in range(c.tiles):
        # The last step of a tile waits for the drain of the tile before; the others do not.
        first = ends if not tile else ends + c.step
        last = first + (c.steps - 1) * c.step if not tile else ends + c.tile
        for step in range(c.steps):
            cycle = last if step == c.steps - 1 else first + step * c.step
            found.append(Pulse(cycle, "controller", STEP, f"operands of step {step} of tile {tile} of {c.tiles}"))
            if conv:
                found += [Pulse(cycle + SELECT_STAGES + n + lag, "convolution unit", taken, f"term {n} of step {step} of tile {tile}") for n in range(layer.budget)]
        ends = last
        captured = last + (SELECT_STAGES + layer.budget - 1 + SELECT_STAGES + CAPTURE_STAGES - 1 if conv else CHANNEL_STAGES - READ_STAGES)
        found.append(Pulse(captured, "convolution unit" if conv else "channel unit", CAPTURE if conv else CAPTURED, f"end of tile {tile} of {c.tiles}"))
        found += [Pulse(captured + 1 + n, "drain", ACTIVE, f"chunk {n} of tile {tile} of {c.tiles}") for n in range(c.drain)]
    found.append(Pulse(captured + c.drain + OUTPUT_STAGES - 1, "output stage", DONE, "end of the layer"))
    order = {signal: at for at, signal in enumerate((STEP, taken, CAPTURE, CAPTURED, ACTIVE, DONE))}
    return sorted(found, key=lambda pulse: (pulse.cycle, order[pulse.signal]))


def signals(config: Config, layer: Layer) -> list[str]:
    return [STEP, *((take(config)[0], CAPTURE) if layer.kind is Kind.CONV else (CAPTURED,)), ACTIVE, DONE]


def first_off(config: Config, expected: list[Pulse], layer: Layer, waves: Waves, first: int, last: int) -> Wrong | None:
    """The first pulse in cycles ``first`` ... ``last`` that is missing, or that nothing calls for; none if all is as it should be."""
    units = {pulse.signal: pulse.unit for pulse in expected}
    found = []
    for at, signal in enumerate(name for name in signals(config, layer) if name in waves):
        due = {pulse.cycle: pulse.what for pulse in expected if pulse.signal == signal and first <= pulse.cycle <= last}
        seen = set(waves.cycles(signal, first, last, MASKS.get(signal, -1)))
        for cycle in sorted(seen ^ due.keys())[:1]:
            what = due.get(cycle) or "nothing is due"
            found.append((cycle, at, Wrong(cycle, units[signal], signal, what, int(cycle in due), int(cycle in seen))))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


@dataclass(frozen=True)
class Departure:
    """The first layer, by program and number, that takes or starts in other cycles than it should.

    ``what``: "cycles" or "start"; ``wrong``: the first pulse that differs, if it was looked for and found.
    """

    program: int
    index: int
    layer: Layer
    what: str
    expected: int
    actual: int | None
    wrong: Wrong | None = None


def find(config: Config, harness: Harness, programs: list[list[Command]], path: Path | None) -> Departure | None:
    """What takes other cycles than it should; none if no layer does. ``path``: of the waves; without it signals are not looked at."""
    # No part runs more layers than the log holds.
    parts = [(number, part) for number, program in enumerate(programs) for part in cut(config, program)]
    machine = Machine(config)
    expected = [machine.run(part) for _, part in parts]
    got = harness.run([encode(config, part) for _, part in parts])
    before = dict.fromkeys(range(len(programs)), 0)
    for at, ((number, part), wanted, run) in enumerate(zip(parts, expected, got)):
        for index, (layer, entry) in enumerate(zip(wanted.layers, run.layers)):
            if entry["cycles"] != layer.cycles:
                wrong = _within(config, harness, locate.alone(config, [part for _, part in parts], at, index), path) if path else None
                return Departure(number, before[number] + index, layer.layer, "cycles", layer.cycles, entry["cycles"], wrong)
        if run.cycles != wanted.cycles and path and (found := _start(config, harness, part, wanted, path)):
            index, seen = found
            layer = wanted.layers[index]
            return Departure(number, before[number] + index, layer.layer, "start", layer.start, seen)
        before[number] += len(wanted.layers)
    return None


def _first(count: int, wrong) -> int:
    """The first of ``count`` places for which ``wrong`` holds, where it holds from one on, what is late stays late; else the last."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if wrong(middle) else (middle + 1, high)
    return low


def _within(config: Config, harness: Harness, layer: locate.Alone, path: Path) -> Wrong | None:
    expected, stream = pulses(config, layer.layer, layer.start), encode(config, layer.commands)
    windows = [(first, first + SPAN - 1) for first in range(layer.start, expected[-1].cycle + SLACK, SPAN)]

    def look(at):
        harness.run([stream], waves=(path, 0, *windows[at]))
        return first_off(config, expected, layer.layer, Waves(path, signals(config, layer.layer)), *windows[at])

    return look(_first(len(windows), look))


def _start(config: Config, harness: Harness, program: list[Command], expected, path: Path) -> tuple[int, int | None] | None:
    """(number of the first layer that starts too late or too early, the cycle in which it starts, none if nowhere near)."""
    stream = encode(config, program)

    def seen(at):
        """The cycle before the one in which the engine is busy first."""
        start = expected.layers[at].start
        harness.run([stream], waves=(path, 0, max(0, start - SLACK), start + SPAN))
        waves = Waves(path, [BUSY])
        return next((cycle for cycle in range(max(0, start - SLACK) + 1, start + SPAN)
                     if waves.value(BUSY, cycle + 1) and not waves.value(BUSY, cycle)), None)

    at = _first(len(expected.layers), lambda at: seen(at) != expected.layers[at].start) if expected.layers else 0
    return (at, found) if expected.layers and (found := seen(at)) != expected.layers[at].start else None
