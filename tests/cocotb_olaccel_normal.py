"""Tiles through OLAccel's normal group: sums of golden.olaccel, in the very cycles of golden.olaccel_cycles."""

import cocotb
import numpy as np

from golden.olaccel import LANES, chunk_cycles, encode_chunks, split_weights
from golden.olaccel_cycles import LATENCY, group_cycles
from hw.olaccel_lanes import MSBS, WeightChunk, sums_layout
from hw.olaccel_normal import ACTIVATION_BITS
from tests.bench import SEED, Bench, generator, pack, unpack
from tests.cocotb_olaccel_stimulus import random_chunks

SUMS = sums_layout(ACTIVATION_BITS, 24)


class Buffers:
    """Weight chunks and MSBs as the group asks for them; pointers count up as chunks with several outliers come by."""

    def __init__(self):
        self.asked, self.msbs = 0, {}

    def chunk(self, weights) -> int:
        """The 80 bits of 16 codes."""
        fields, msbs = encode_chunks(weights[None])
        pointer = 0
        if len(msbs):
            self.asked += 1
            pointer = 1 + self.asked % 255
            self.msbs[pointer] = pack(MSBS, msbs[0].tolist())
        one = {name: values[0].tolist() for name, values in fields.items()}
        return pack(WeightChunk, {**one, "pointer": pointer})


def packed(activations) -> int:
    return sum((int(value) & (1 << ACTIVATION_BITS) - 1) << ACTIVATION_BITS * i for i, value in enumerate(activations))


async def run(dut, tiles, idle=0.0):
    """``tiles``: lists of chunks (activations (16,), weights (16 activations, 16 lanes)). ``idle``: how often there is nothing to load."""
    rng, buffers, bench = generator("idle", idle), Buffers(), Bench(dut)
    await bench.begin(activations=0, load=0, first=0, last=0, weights=0, msbs=0)
    chunks = [(activations, weights, n == 0, n == len(tile) - 1) for tile in tiles for n, (activations, weights) in enumerate(tile)]
    cycles = [sum(group_cycles(activations, chunk_cycles(weights)[:, 0]) for activations, weights in tile) for tile in tiles]
    ends = (np.cumsum(cycles) + LATENCY).tolist()
    wanted = [sum(activations @ weights for activations, weights in tile).tolist() for tile in tiles]
    loaded, held, left, weights, reads, done, begun = 0, None, [], 0, 0, 0, None
    msbs = rng.getrandbits(64)
    while done < len(tiles):
        offer = loaded < len(chunks) and rng.random() >= idle
        activations, _, first, last = chunks[loaded] if offer else (np.zeros(LANES, dtype=int), None, rng.randrange(2), rng.randrange(2))
        await bench.cycle(load=int(offer), activations=packed(activations), first=int(first), last=int(last), weights=weights, msbs=msbs)
        where = f"cycle {bench.now}, tile {done}, seed {SEED}"
        assert bench.now < 100_000
        msbs = rng.getrandbits(64)
        if bench["fetch"]:
            assert bench["channel"] == left.pop(0), where
            weights = buffers.chunk(held[bench["channel"]])
        if bench["fetch_msbs"]:
            msbs, reads = buffers.msbs[bench["pointer"]], reads + 1
        if bench["done"]:
            assert unpack(SUMS, bench["sums"]) == wanted[done], where
            assert idle or bench.now - begun == ends[done], f"{where}: {bench.now - begun} cycles, not {ends[done]}"
            done += 1
        if offer and bench["ready"]:
            begun = bench.now if begun is None else begun
            assert not left, where
            held, left, loaded = chunks[loaded][1], np.flatnonzero(activations).tolist(), loaded + 1
    for _ in range(5):
        await bench.cycle(load=0)
        assert not bench["done"] and not bench["fetch"] and not bench["fetch_msbs"]
    assert reads == buffers.asked, "MSBs read in vain"
    return reads


def tiles_of(rng, count):
    return [[random_chunks(rng, 15 if rng.random() < 0.8 else -8) for _ in range(rng.integers(1, 7))] for _ in range(count)]


@cocotb.test()
async def tiles_without_a_gap(dut):
    assert await run(dut, tiles_of(np.random.default_rng(SEED), 40)) > 255, "not every pointer was used"


@cocotb.test()
async def tiles_with_an_idle_source(dut):
    await run(dut, tiles_of(np.random.default_rng(SEED + 1), 15), idle=0.3)
    await run(dut, tiles_of(np.random.default_rng(SEED + 2), 8), idle=0.9)


@cocotb.test()
async def extremes(dut):
    """Largest sums of either sign, each with one and with two cycles; chunks of zeros at both ends of a tile; one outlier in each lane."""
    full, none = np.full(LANES, 15), np.zeros(LANES, dtype=int)
    tiles = [[(np.full(LANES, value), np.full((LANES, LANES), weight))] for value in (15, -8, -16, 1) for weight in (-128, 119, -8, 7, 0)]
    single = np.where(np.eye(LANES, dtype=int) > 0, -128, 7)
    assert (chunk_cycles(single) == 1).all() and (split_weights(single)[0] != 0).sum() == LANES
    tiles += [[(full, single)], [(none, single)], [(none, single), (full, single)], [(full, single), (none, np.full((LANES, LANES), 119))],
              [(np.eye(LANES, dtype=int)[15], single[::-1])], [(none, single), (none, single)]]
    await run(dut, tiles)
