"""The first wrong signal of a tile: reads, operands, terms, digits, products, sums and the output stage, each against what golden says.

All that is expected is listed with its cycle; the first entry that the waves contradict is the unit that broke, for what comes
after it in the pipeline only passes the error on. Within a cycle the list is in the order of the pipeline.
"""

from dataclasses import dataclass

from golden.cycles import CHANNEL_STAGES, OUTPUT_STAGES, READ_STAGES, beats, drain, layer_cycles
from sdp.config import Config
from sdp.program import Kind
from sim import expected_codes, expected_sums
from sim.expected import ARRAY, Tile, take
from sim.locate import Alone, Place
from sim.vcd import Waves

SLACK = 40
"""Cycles recorded before and after those of the tile."""
CAPTURE, CAPTURED = f"{ARRAY}.pe_0_0.capture", "core.channel.captured"


@dataclass(frozen=True)
class Wrong:
    cycle: int
    unit: str
    signal: str
    what: str
    expected: int
    actual: int


def window(config: Config, place: Place, start: int) -> tuple[int, int, int]:
    """(first cycle, last cycle, cycle in which the tile's sums are captured, about) of the layer that starts in cycle ``start``."""
    cycles = layer_cycles(config, place.layer)
    captured = start + cycles.total - cycles.drain - OUTPUT_STAGES - (cycles.tiles - 1 - place.tile) * cycles.tile
    return max(0, captured - cycles.steps * cycles.step - cycles.tile - SLACK), captured + cycles.drain + OUTPUT_STAGES + SLACK, captured


def wanted(config: Config, place: Place) -> list[str]:
    """Signals that :func:`first_wrong` reads."""
    column = place.channel % (config.block(place.layer.w4) if place.layer.kind is Kind.CONV else config.word) % config.columns
    element, lane = f"{ARRAY}.pe_{place.row}_{column}", place.channel % config.outputs
    names = [f"core.output_stage.output_lane_{lane}.{name}" for name in expected_codes.REGISTERS]
    names += [f"core.channel.channel_lane_{place.channel % config.word}.{name}" for name in ("tap", "value")]
    names += ["core.output_stage.write_address", "core.output_stage.write_mask", CAPTURED]
    names += ["core.controller.beat", "core.controller.read", "core.activations.data", "core.channel.slots", "core.convolution.weights",
              "core.convolution.weight_address"]
    names += [f"core.convolution.selector_{r}_{n}.{s}" for r in range(config.rows) for n in range(config.lanes) for s in ("codes", "term")]
    names += [take(config)[0], CAPTURE, f"{element}.sums", f"{element}.drain", f"{ARRAY}.pe_0_{column}.drain"]
    return names + [f"{element}.multiplier_{n}_{d}.{s}" for n in range(config.lanes) for d in ("low", "high") for s in ("digit", "product")]


def first_wrong(config: Config, layer: Alone, place: Place, waves: Waves, first: int, last: int, near: int) -> Wrong | None:
    """The first signal that is not what golden says; none if the waves show nothing wrong."""
    conv = layer.layer.kind is Kind.CONV
    pulses = waves.cycles(CAPTURE if conv else CAPTURED, first, last)
    if not pulses:
        return Wrong(near, "controller", "captured", "end of the tile", 1, 0)
    captured = min(pulses, key=lambda cycle: abs(cycle - near))
    tile = Tile(config, layer, place)
    end, count = captured - (CHANNEL_STAGES - READ_STAGES), tile.steps
    if conv:
        signal, lag = take(config)
        takes = [cycle - lag for cycle in waves.cycles(signal, first, captured - 2 + lag)][-tile.steps * layer.layer.budget :]
        if len(takes) < tile.steps * layer.layer.budget:
            return Wrong(captured, "controller", signal, "terms of the tile", tile.steps * layer.layer.budget, len(takes))
        # The words of a step arrive two cycles before its first term is taken.
        end, count = takes[-layer.layer.budget] - 2, tile.steps * beats(config, layer.layer.stride_w)
    arrived = waves.cycles("core.controller.beat", first, end, (1 << config.ports) - 1)[-count:]
    if len(arrived) < count:
        return Wrong(end, "controller", "core.controller.beat", "reads of the tile", count, len(arrived))
    expected_sums.reads(tile, arrived)
    low, high = expected_sums.convolution(tile, takes, captured) if conv else (expected_sums.pooling(tile, arrived, captured), 0)
    assert drain(config, layer.layer.kind, layer.layer.w4) >= tile.chunks
    expected_codes.output(tile, captured, low, high)
    for entry in sorted(tile.expected, key=lambda e: e.cycle):
        if entry.signal in waves and entry.seen(waves) != entry.value:
            return Wrong(entry.cycle, entry.unit, entry.signal, entry.what, entry.value, entry.seen(waves))
    return None
