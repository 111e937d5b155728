"""Tiles of random codes: the array's sums are those of the masked codes times the digits."""

import cocotb
import numpy as np
from amaranth.lib import data

from golden.term_select import select, sequence
from golden.weights import FORMATS, allowed
from hw.types import sums_layout, term_layout
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
TERMS = data.ArrayLayout(data.ArrayLayout(term_layout(CONFIG.group), CONFIG.lanes), CONFIG.rows)
DRAIN = data.ArrayLayout(sums_layout(CONFIG), CONFIG.columns)


def weight_bits(high, low):
    """(columns, word) digits as the port takes them: slot by slot."""
    slots = FORMATS[CONFIG.array].encode(high, low)
    return sum(int(slot) << CONFIG.slot_bits * n for n, slot in enumerate(slots.ravel()))


def term_bits(value, high, index):
    return {"magnitude": abs(value), "negative": value < 0, "high": high, "select": 1 << index}


@cocotb.test()
async def tiles(dut):
    rng = generator()
    numbers = np.random.default_rng(SEED)
    bench = Bench(dut)
    await bench.begin(terms=0, weights=0, first=0, capture=0, shift=0)
    due = []  # rows of the captured tile that have not been seen yet, head first
    for tile in range(8):
        budget = rng.randint(1, 2 * CONFIG.group)
        sums = np.zeros((2, CONFIG.rows, CONFIG.columns), dtype=int)
        first = 1
        for _ in range(rng.randint(1, 4)):
            codes = numbers.integers(-128, 256, (CONFIG.rows, CONFIG.word)).astype(np.int16) * (numbers.random((CONFIG.rows, CONFIG.word)) < 0.7)
            high, low = (numbers.choice(allowed(CONFIG, True), (CONFIG.columns, CONFIG.word)) for _ in range(2))
            masked = select(codes, budget, CONFIG.group)[0].astype(int)
            sums += masked @ low.T, masked @ high.T
            groups = codes.reshape(CONFIG.rows, CONFIG.lanes, CONFIG.group).tolist()
            terms = [[sequence(group, budget) for group in row] for row in groups]
            for n in range(budget):
                packed = pack(TERMS, [[term_bits(*lane[n]) for lane in row] for row in terms])
                # The tile before drains meanwhile, at its own pace.
                shift = int(bool(due) and rng.random() < 0.7)
                await bench.cycle(terms=packed, weights=weight_bits(high, low), first=first, capture=0, shift=shift)
                first = 0
                if due:
                    assert unpack(DRAIN, bench["drain"]) == due[0], f"tile {tile}, cycle {bench.now}, seed {SEED}"
                if shift:
                    due.pop(0)
        while due:
            await bench.cycle(terms=0, first=0, shift=1)
            assert unpack(DRAIN, bench["drain"]) == due.pop(0), f"tile {tile}, cycle {bench.now}, seed {SEED}"
        # The next tile's first terms may come in the cycle of the capture.
        await bench.cycle(terms=0, first=0, capture=1, shift=rng.randrange(2))
        due = [[{"low": int(low), "high": int(high)} for low, high in zip(*row)] for row in zip(*sums)]
    await bench.cycle(capture=0, shift=0)
    for row in due:
        for shift in (0, 1):
            await bench.cycle(shift=shift)
            assert unpack(DRAIN, bench["drain"]) == row
