"""Lists of outlier activations through OLAccel's outlier group, on top of given sums."""

import os

import cocotb
import numpy as np

from golden.olaccel import LANES, chunk_cycles
from hw.olaccel_lanes import sums_layout
from hw.olaccel_outlier import OutlierGroup
from tests.bench import SEED, Bench, generator, pack, unpack
from tests.cocotb_olaccel_normal import Buffers
from tests.cocotb_olaccel_stimulus import random_weights

BITS = int(os.environ["UNIT"].rsplit("_", 1)[1])
ACCUMULATOR = {8: 24, 16: 32}[BITS]
SUMS = sums_layout(BITS + 1, ACCUMULATOR)


def wrapped(values):
    half = 1 << ACCUMULATOR - 1
    return [(int(value) + half) % (2 * half) - half for value in values]


async def run(dut, tiles, idle=0.0):
    """``tiles``: (base (16,), values (entries,), weights (entries, 16))."""
    rng, buffers, bench = generator("idle", idle), Buffers(), Bench(dut)
    await bench.begin(value=0, valid=0, first=0, last=0, weights=0, msbs=0, base=0)
    entries = [(value, row, n == 0, n == len(values) - 1) for _, values, weights in tiles for n, (value, row) in enumerate(zip(values, weights))]
    ends = (np.cumsum([chunk_cycles(weights)[values != 0].sum() + (values == 0).sum() for _, values, weights in tiles]) + OutlierGroup.latency - 1).tolist()
    wanted = [wrapped(base + values @ weights) for base, values, weights in tiles]
    taken, weights, msbs, asked, reads, done, begun, started = 0, 0, 0, 0, 0, 0, 0, None
    while done < len(tiles):
        offer = taken < len(entries) and rng.random() >= idle
        value, row, first, last = entries[taken] if offer else (rng.getrandbits(BITS), None, rng.randrange(2), rng.randrange(2))
        base = pack(SUMS, wrapped(tiles[begun][0])) if begun < len(tiles) else 0
        await bench.cycle(valid=int(offer), value=int(value) & (2 << BITS) - 1, first=int(first), last=int(last), weights=weights, msbs=msbs, base=base)
        where = f"cycle {bench.now}, tile {done}, seed {SEED}"
        assert bench.now < 100_000
        begun += bench["begins"]
        if bench["done"]:
            assert unpack(SUMS, bench["sums"]) == wanted[done], where
            assert idle or bench.now - started == ends[done], f"{where}: {bench.now - started} cycles, not {ends[done]}"
            done += 1
        if bench["ready"]:
            if offer:
                started = bench.now if started is None else started
                taken += 1
                weights = buffers.chunk(row)
        else:
            assert asked, f"{where}: waits without a reason"
        asked = bench["fetch_msbs"]
        reads += asked
        msbs = buffers.msbs[bench["pointer"]] if asked else rng.getrandbits(64)
    await bench.cycle(valid=0)
    assert not bench["done"]
    assert reads == sum(chunk_cycles(weights)[values != 0].sum() - np.count_nonzero(values) for _, values, weights in tiles), "MSBs read in vain"


def tiles_of(rng, count):
    low, high = (-(1 << BITS - 1), (1 << BITS - 1) - 1) if rng.random() < 0.3 else (0, (1 << BITS) - 1)
    for _ in range(count):
        entries = int(rng.integers(1, 12))
        values = np.where(rng.random(entries) < 0.1, 0, rng.integers(low, high + 1, entries))
        yield rng.integers(-(1 << 20), 1 << 20, LANES), values, random_weights(rng, entries)


@cocotb.test()
async def lists_without_a_gap(dut):
    rng = np.random.default_rng(SEED)
    await run(dut, [tile for _ in range(6) for tile in tiles_of(rng, 12)])


@cocotb.test()
async def lists_with_an_idle_source(dut):
    await run(dut, list(tiles_of(np.random.default_rng(SEED + 1), 25)), idle=0.4)


@cocotb.test()
async def extremes(dut):
    """One entry each, so that a tile begins in every cycle, or every other."""
    rng, most = np.random.default_rng(SEED), (1 << BITS) - 1
    tiles = [(rng.integers(-(1 << 22), 1 << 22, LANES), np.array([value]), np.full((1, LANES), weight))
             for value in (most, -1 - most, 1, 0, -1) for weight in (-128, 119, -8, 7, 0)]
    await run(dut, tiles)
