"""The term selector: sequences of terms equal golden.term_select.sequence."""

import itertools
import os

import cocotb

from golden.term_select import sequence
from hw.types import Code, term_layout
from tests.bench import SEED, Bench, generator, pack, unpack

GROUP = int(os.environ["UNIT"].rsplit("_", 1)[1])
TERM = term_layout(GROUP)
BITS = {value: pack(Code, {"low": abs(value) & 15, "high": abs(value) >> 4, "negative": value < 0}) for value in range(-255, 256)}


def packed(codes):
    return sum(BITS[code] << 9 * n for n, code in enumerate(codes))


async def run(dut, groups, pause=0.0, gap=0.0):
    """``groups``: (codes, budget), one after the other; loads fall on the last take of the group before unless there is a gap."""
    rng = generator("pauses", pause, gap)
    bench = Bench(dut)
    await bench.begin(codes=0, load=0, take=0)
    # What stands on `term` in the present cycle: (codes, budget, position) or None for an empty one.
    expected, count = None, 0

    def check():
        term = unpack(TERM, bench["term"])
        if expected is None:
            assert term["magnitude"] == 0, f"cycle {bench.now}, seed {SEED}: a term without a take: {term}"
        else:
            value, high, index = expected[1]
            assert term["magnitude"] == abs(value), f"cycle {bench.now}, seed {SEED}: {expected}: {term}"
            # What else an empty term says is nobody's.
            if value:
                assert term == {"magnitude": abs(value), "negative": value < 0, "high": high, "select": 1 << index}, (
                    f"cycle {bench.now}, seed {SEED}: {expected}: {term}")

    pending = iter(groups)
    codes, budget = next(pending)
    await bench.cycle(load=1, codes=packed(codes))
    check()
    while codes is not None:
        terms = sequence(codes, budget)
        following = next(pending, (None, None))
        for n, term in enumerate(terms):
            while pause and rng.random() < pause:
                await bench.cycle(load=0, take=0, codes=rng.getrandbits(9 * GROUP))
                check()
                expected = None
            last = n == budget - 1
            separate = gap and rng.random() < gap
            load = last and following[0] is not None and not separate
            await bench.cycle(take=1, load=int(load), codes=packed(following[0]) if load else rng.getrandbits(9 * GROUP) if pause else 0)
            check()
            expected = ((codes, budget, n), term)
            count += 1
            if last and following[0] is not None and separate:
                await bench.cycle(take=0, load=1, codes=packed(following[0]))
                check()
                expected = None
        codes, budget = following
    await bench.cycle(take=0, load=0)
    check()
    expected = None
    await bench.cycle()
    check()
    return count


@cocotb.test(skip=GROUP != 2)
async def all_of_group_2(dut):
    """All pairs of magnitudes, signs at random; the whole sequence of each."""
    rng = generator()
    nibbles = range(16) if os.environ["SIMULATION"] == "verilator" else (0, 1, 2, 7, 8, 14, 15)
    magnitudes = [16 * high + low for high in nibbles for low in nibbles]
    pairs = itertools.product(magnitudes, repeat=2)
    await run(dut, [([rng.choice((a, -a)), rng.choice((b, -b))], 4) for a, b in pairs])


def hard_groups(rng):
    """Ties, zeros, extremes."""
    yield [0] * GROUP
    for value in (255, -128, 1, -1, 16, 15, 17, -127, 240, 128):
        yield [value] * GROUP
        yield [0] * (GROUP - 1) + [value]
        yield [value, *[-value] * (GROUP - 1)]
    for low, high in ((15, 16), (16, 31), (17, 33), (0x1F, 0xF1)):
        yield [low, high] * (GROUP // 2) + [low] * (GROUP % 2)
        yield [high, low] * (GROUP // 2) + [high] * (GROUP % 2)
    yield list(range(GROUP))
    yield list(range(GROUP, 0, -1))
    few = (0, 1, 1, 2, 16, 17, 32, 33, -1, -16, -17)
    for _ in range(60):
        yield [rng.choice(few) for _ in range(GROUP)]
    for _ in range(60):
        yield [rng.randint(-128, 127) if rng.random() < 0.6 else 0 for _ in range(GROUP)]
    for _ in range(60):
        yield [rng.randint(0, 255) for _ in range(GROUP)]


@cocotb.test()
async def every_budget_back_to_back(dut):
    rng = generator()
    groups = [(codes, 1 + n % (2 * GROUP)) for n, codes in enumerate([*hard_groups(rng), *hard_groups(rng)])]
    rng.shuffle(groups)
    assert await run(dut, groups) == sum(budget for _, budget in groups)


@cocotb.test()
async def whole_budget_of_hard_groups(dut):
    await run(dut, [(codes, 2 * GROUP) for codes in hard_groups(generator(1))])


@cocotb.test()
async def pauses_and_gaps(dut):
    rng = generator(2)
    groups = [(codes, rng.randint(1, 2 * GROUP)) for codes in hard_groups(rng)]
    await run(dut, groups, pause=0.4)
    await run(dut, groups, gap=0.5)
    await run(dut, groups, pause=0.2, gap=0.5)
