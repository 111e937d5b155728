"""Rows through one element of Eyeriss: psums of golden.eyeriss_element, and its cycles when nothing is late."""

import os

import cocotb
import numpy as np

from golden.eyeriss_element import cycles, rows
from tests.bench import SEED, Bench, generator

FRACTION = 8


def word(value) -> int:
    return int(value) & 0xFFFF


async def run(dut, cases, idle=0.0, late=0.0):
    """``cases``: (ifmaps, filters, psums, step). ``idle``, ``late``: how often there is no ifmap, no psum."""
    rng, bench = generator("idle", idle, late), Bench(dut)
    # What zeros save does not show in a port, and only Icarus keeps what is inside.
    inside = os.environ["SIMULATION"] == "icarus"
    await bench.begin(window=1, step=1, filters=1, start=0, filter=0, filter_valid=0, ifmap=0, ifmap_valid=0, psum=0, psum_valid=0)
    for ifmaps, filters, psums, step in cases:
        window, count = filters.shape
        wanted = [word(value) for value in rows(ifmaps, filters, psums, step, FRACTION).ravel()]
        await bench.cycle(start=1, window=window, step=step, filters=count, ifmap_valid=0, psum_valid=0)
        for value in filters.ravel():
            await bench.cycle(start=0, filter=word(value), filter_valid=1)
            # Filters may come with pauses.
            if idle and rng.random() < idle:
                await bench.cycle(filter=rng.getrandbits(16), filter_valid=0)
        taken, added, found, begun, multiplied = 0, 0, 0, bench.now, 0
        incoming = psums.ravel()
        while found < len(wanted):
            ifmap, psum = taken < len(ifmaps) and rng.random() >= idle, added < len(incoming) and rng.random() >= late
            await bench.cycle(start=0, filter_valid=0, filter=rng.getrandbits(16), ifmap_valid=int(ifmap), ifmap=word(ifmaps[taken]) if ifmap else rng.getrandbits(16),
                              psum_valid=int(psum), psum=word(incoming[added]) if psum else rng.getrandbits(16))
            where = f"cycle {bench.now}, psum {found}, seed {SEED}"
            assert bench.now - begun < 50_000, f"{where}: hangs"
            taken += ifmap and bench["ifmap_ready"]
            added += psum and bench["psum_ready"]
            multiplied += inside and int(dut.eyeriss_element.multiplier.enable.value)
            if bench["out_valid"]:
                assert bench["out"] == wanted[found], f"{where}: {bench['out']}, not {wanted[found]}"
                found += 1
        if not idle and not late:
            # Before the first product come the words of its window, and a cycle that sees them all there.
            spent = bench.now - begun - window - 2
            assert spent == cycles(window, count, step, len(psums)), f"{where}: {spent} cycles, not {cycles(window, count, step, len(psums))}"
        if inside:
            at = np.arange(len(psums))[:, None] * step + np.arange(window)
            assert multiplied == count * np.count_nonzero(ifmaps[at]), "a zero was multiplied, or another word not once"
        assert added == len(incoming) and taken == len(ifmaps)
        for _ in range(4):
            await bench.cycle(ifmap_valid=0, psum_valid=0)
            assert not bench["out_valid"] and not bench["psum_ready"]


def case(rng, window, filters, step, windows, zeros=0.5, most=32767):
    ifmaps = np.where(rng.random(window + (windows - 1) * step) < zeros, 0, rng.integers(-1 - most, most + 1, window + (windows - 1) * step))
    return ifmaps, rng.integers(-1 - most, most + 1, (window, filters)), rng.integers(-32768, 32768, (windows, filters)), step


def sizes(rng, count):
    for _ in range(count):
        window = int(rng.integers(1, 13))
        filters = int(rng.integers(1, 224 // window + 1 if window > 9 else 25))
        yield window, filters, int(rng.integers(1, window + 1)), int(rng.integers(1, 6))


@cocotb.test()
async def rows_in_time(dut):
    rng = np.random.default_rng(SEED)
    corners = [(1, 1, 1, 6), (12, 18, 1, 3), (12, 18, 12, 3), (9, 24, 3, 4), (2, 1, 1, 9), (2, 1, 2, 9), (12, 1, 11, 4), (11, 16, 4, 3)]
    assert all(window * filters <= 224 for window, filters, *_ in corners)
    await run(dut, [case(rng, *size, zeros) for size in [*corners, *sizes(rng, 12)] for zeros in (0, 0.6)])


@cocotb.test()
async def late_ifmaps_and_psums(dut):
    rng = np.random.default_rng(SEED + 1)
    for idle, late in ((0.4, 0), (0, 0.4), (0.3, 0.5), (0.9, 0.1), (0.1, 0.9)):
        await run(dut, [case(rng, *size) for size in sizes(rng, 3)], idle, late)


@cocotb.test()
async def extremes(dut):
    """Largest products of either sign, zeros only, small numbers whose products the cut takes to 0 or -1."""
    rng = np.random.default_rng(SEED + 2)
    cases = [(np.full(7, ifmap), np.full((4, 3), weight), rng.integers(-32768, 32768, (4, 3)), 1)
             for ifmap in (-32768, 32767, 0, 1) for weight in (-32768, 32767, -1, 255, 256, 0)]
    await run(dut, [*cases, *(case(rng, 5, 4, 2, 4, 0.2, 40) for _ in range(4)), case(rng, 6, 5, 2, 5, 1)])
