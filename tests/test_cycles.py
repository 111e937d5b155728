"""The cycle formula: its shape here; that it equals the hardware, in the tests of the units and of the machine."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import cycles
from sdp.config import CONFIGS, NAMED
from sdp.program import Kind, Layer
from sim.random_layer import build, draw
from tests.sizes import UNIT

PIPELINE = 2 + 3 + 2 + 1 + 7  # start, read, select, capture, output, as golden.cycles describes them


def layers(seed, config=UNIT):
    return next(c for c in build(config, [draw(config, seed)]) if isinstance(c, Layer))


def test_depths():
    assert cycles.START_STAGES + cycles.READ_STAGES + cycles.SELECT_STAGES + cycles.CAPTURE_STAGES + cycles.OUTPUT_STAGES == PIPELINE


@pytest.mark.parametrize("ports, expected", [(1, [1, 1, 1, 1]), (2, [1, 2, 1, 2]), (4, [1, 2, 1, 4]), (8, [1, 2, 1, 4])])
def test_beats_are_the_bank_conflicts_of_a_strip(ports, expected):
    config = dataclasses.replace(NAMED["medium"], rows=16, ports=ports)
    for stride, factor in enumerate(expected, start=1):
        banks = [p * stride % ports for p in range(ports)]
        assert max(map(banks.count, banks)) == factor
        assert cycles.beats(config, stride) == 16 // ports * factor


def reference(config, layer):
    """Cycle by cycle over tiles: when a tile's reads end, when its drain may begin."""
    queue = config.rows // config.ports
    conv = layer.kind is Kind.CONV
    steps = layer.kernel_h * layer.kernel_w * (layer.in_words if conv else 1)
    if conv:
        operands = cycles.beats(config, layer.stride_w)
        budget, step = layer.budget, max(layer.budget, operands)
        strips = layer.out_h * -(-layer.out_w // config.ports)
        tiles = -(-layer.out_channels // (config.columns * (1 + layer.w4))) * -(-strips // queue)
        drain = config.rows * config.columns * (1 + layer.w4) // config.outputs
        depth = 3 + 2 + budget - 1 + 2  # loaded, first and last term multiplied, sums captured, drained
    else:
        operands, step, depth, drain = 1, 1, 5, config.word // config.outputs
        tiles = -(-layer.out_channels // config.word) * layer.out_h * layer.out_w
    now, last_read, drain_ends = 2 + queue, None, None  # header register, constants, queue
    for _ in range(tiles):
        # The last read of a tile follows the one before it by no less than a drain.
        last = now + (steps - 1) * step + operands - 1
        if last_read is not None:
            last = max(last, last_read + drain)
        last_read = last
        begins = last + depth
        assert drain_ends is None or begins >= drain_ends
        drain_ends = begins + drain
        now = last + step - operands + 1
    return drain_ends + cycles.OUTPUT_STAGES - 1


@pytest.mark.parametrize("config", [UNIT, NAMED["small"], NAMED["large"]], ids=lambda c: c.name)
def test_formula_equals_schedule(config):
    for seed in range(150):
        layer = layers(seed, config)
        assert cycles.layer_cycles(config, layer).total == reference(config, layer), f"seed {seed}: {layer}"


@given(st.integers(0, 10**6))
def test_linear_in_the_budget(seed):
    """Beyond the operands' beats and the drain, a term more per group costs a cycle per step."""
    layer = dataclasses.replace(layers(seed), kind=Kind.CONV, in_words=4, in_tail=12, kernel_h=8)
    totals = [cycles.layer_cycles(UNIT, dataclasses.replace(layer, budget=k)) for k in range(1, 2 * UNIT.group + 1)]
    for k in range(cycles.beats(UNIT, layer.stride_w), 2 * UNIT.group):
        before, after = totals[k - 1], totals[k]
        if before.steps * before.step >= before.drain:
            assert after.total - before.total == after.steps * after.tiles
    assert all(a.total <= b.total for a, b in zip(totals, totals[1:]))


@given(st.integers(0, 10**6))
def test_data_does_not_matter_but_sizes_do(seed):
    layer = layers(seed)
    total = cycles.layer_cycles(UNIT, layer).total
    other = dataclasses.replace(layer, in_tail=1, in_signed=not layer.in_signed, residual=not layer.residual, shift=3, weight_base=1, in_h=99, in_w=77,
                                pad_top=0, pad_left=0, out_base=0, in_base=0)
    assert cycles.layer_cycles(UNIT, other).total == total
    if layer.kind is Kind.CONV:
        twice = dataclasses.replace(layer, out_channels=2 * -(-layer.out_channels // UNIT.block(layer.w4)) * UNIT.block(layer.w4))
        assert cycles.layer_cycles(UNIT, twice).tiles == 2 * cycles.layer_cycles(UNIT, layer).tiles


def test_slots_and_utilization():
    layer = Layer(kind=Kind.CONV, in_base=0, in_plane=64, in_h=6, in_w=6, in_words=2, in_tail=12, out_base=512, out_plane=64, out_h=6, out_w=6,
                  out_channels=10, kernel_h=3, kernel_w=3, budget=5, pad_top=1, pad_left=1)
    # 2 blocks of 5 channels, 36 pixels in tiles of 6, 18 steps of 5 cycles, 6 rows x 3 lanes
    assert cycles.term_slots(UNIT, layer) == 2 * 6 * 18 * 5 * 6 * 3
    timing = cycles.layer_cycles(UNIT, layer)
    assert (timing.step, timing.steps, timing.tiles, timing.drain, timing.tile) == (5, 18, 12, 30, 90)
    macs = 36 * 10 * 9 * 24
    # Every multiplier is busy but for the fixed cycles and the last drain.
    assert cycles.utilization(UNIT, layer, macs) == pytest.approx(12 * 90 / (12 * 90 + 30 + timing.fixed))
    assert cycles.utilization(UNIT, dataclasses.replace(layer, w4=True, out_channels=20), 2 * macs) == pytest.approx(12 * 90 / (12 * 90 + 60 + timing.fixed))
    assert cycles.term_slots(UNIT, dataclasses.replace(layer, kind=Kind.MAX)) == 0


@pytest.mark.parametrize("name, w4, budget, per_cycle", [
    ("small", False, 16, 64), ("small", True, 4, 512), ("int4-small", True, 8, 256), ("int4-small", False, 16, 64), ("int8-small", False, 8, 64),
    ("int16-small", False, 8, 16)])
def test_utilization_is_of_the_products_that_an_array_makes_per_cycle(name, w4, budget, per_cycle):
    """256 multipliers of 4 x 4 bits, or what they are worth: 256 small products per cycle, 64 of 8 x 8 bits, 16 of 16 x 16."""
    config = CONFIGS[name]
    layer = Layer(kind=Kind.CONV, in_base=0, in_plane=64, in_h=8, in_w=8, in_words=4, in_tail=16, out_base=512, out_plane=64, out_h=8, out_w=8, out_channels=64,
                  kernel_h=3, kernel_w=3, budget=budget, w4=w4, pad_top=1, pad_left=1)
    timing, macs = cycles.layer_cycles(config, layer), 64 * 64 * 64 * 9
    assert cycles.utilization(config, layer, macs) == pytest.approx(macs / per_cycle / timing.total)
    assert timing.tiles * timing.steps * timing.step * per_cycle == macs
