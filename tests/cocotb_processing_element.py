"""One processing element, cycle by cycle."""

import cocotb
import numpy as np
from amaranth.lib import data

from golden.weights import FORMATS, allowed, decode_digit
from hw.types import sums_layout, term_layout
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
SUMS = sums_layout(CONFIG)
TERMS = data.ArrayLayout(term_layout(CONFIG.group), CONFIG.lanes)
FORM = FORMATS[CONFIG.array]
VALUES = decode_digit(np.arange(1 << FORM.byte_shift, dtype=np.uint8), FORM.byte_shift).tolist()


def bits_of(slots):
    """Bits of digits (low, high), slot by slot, as the port takes them."""
    return sum((low | high << FORM.byte_shift) << CONFIG.slot_bits * n for n, (low, high) in enumerate(slots))


@cocotb.test()
async def random_cycles(dut):
    """Every pattern of digits, also those that no compiler makes (a sign without a magnitude)."""
    rng = generator()
    bench = Bench(dut)
    await bench.begin(terms=0, slots=0, first=0, capture=0, shift=0, chain=0)
    sums, drain = {"low": 0, "high": 0}, {"low": 0, "high": 0}
    slots = [(0, 0)] * CONFIG.word
    bound = 1 << CONFIG.accumulator_bits - 1
    for _ in range(1500):
        if rng.random() < 0.2:
            slots = [(rng.randrange(len(VALUES)), rng.randrange(len(VALUES))) for _ in slots]
        terms = [{"magnitude": rng.randrange(16) * (rng.random() < 0.8), "negative": rng.randrange(2), "high": rng.randrange(2),
                  "select": 1 << rng.randrange(CONFIG.group)} for _ in range(CONFIG.lanes)]
        first, capture, shift = (int(rng.random() < p) for p in (0.1, 0.2, 0.4))
        chain = {name: rng.randrange(-bound, bound) for name in sums}
        await bench.cycle(terms=pack(TERMS, terms), slots=bits_of(slots),
                          first=first, capture=capture, shift=shift, chain=pack(SUMS, chain))
        assert unpack(SUMS, bench["drain"]) == drain, f"cycle {bench.now}, seed {SEED}"
        drain = dict(sums) if capture else chain if shift else drain
        for part, name in enumerate(("low", "high")):
            products = ((-1) ** t["negative"] * t["magnitude"] * 16 ** t["high"] * VALUES[slots[lane * CONFIG.group + t["select"].bit_length() - 1][part]]
                        for lane, t in enumerate(terms))
            sums[name] = (0 if first else sums[name]) + sum(products)


@cocotb.test()
async def largest_sums(dut):
    """As many codes of 255 times -15 (and 15), or -8 (and 7), as the accumulators are made for."""
    bench = Bench(dut)
    await bench.begin(terms=0, slots=0, first=0, capture=0, shift=0, chain=0)
    least, most = (int(value) for value in allowed(CONFIG, True)[[0, -1]])
    slots = bits_of([(VALUES.index(least), VALUES.index(most))] * CONFIG.word)
    terms = [pack(TERMS, [{"magnitude": 15, "negative": 0, "high": high, "select": 1 << CONFIG.group - 1}] * CONFIG.lanes) for high in (0, 1)]
    first = 1
    for _ in range(CONFIG.reduction // CONFIG.lanes):
        for high in (0, 1):
            await bench.cycle(terms=terms[high], slots=slots, first=first)
            first = 0
    await bench.cycle(terms=0, capture=1)
    await bench.cycle(capture=0)
    assert unpack(SUMS, bench["drain"]) == {"low": least * 255 * CONFIG.reduction, "high": most * 255 * CONFIG.reduction}
