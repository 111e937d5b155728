"""Bytes to sign and magnitude, rows, strips and the channels' tail."""

import cocotb
import numpy as np
from amaranth.lib import data

from golden.term_select import to_signed
from hw.controller import beat_layout
from hw.types import Code, word_layout
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
WORDS = data.ArrayLayout(word_layout(CONFIG), CONFIG.ports)
CODES = data.ArrayLayout(data.ArrayLayout(Code, CONFIG.word), CONFIG.rows)


def values(codes):
    return [[(-1 if c["negative"] else 1) * (16 * c["high"] + c["low"]) for c in row] for row in codes]


@cocotb.test()
async def random_beats(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(beat=0, words=0, signed=0, tail=CONFIG.word)
    rows = [None] * CONFIG.rows
    every_byte = [*range(256)] * 2
    for n in range(500):
        strip, ports = rng.randrange(CONFIG.rows // CONFIG.ports), rng.getrandbits(CONFIG.ports)
        tail, is_tail, signed = rng.randint(1, CONFIG.word), rng.randrange(2), rng.randrange(2)
        words = [[rng.choice((rng.randrange(256), every_byte[n % 512], 0x80)) for _ in range(CONFIG.word)] for _ in range(CONFIG.ports)]
        await bench.cycle(beat=pack(beat_layout(CONFIG), {"rows": ports, "strip": strip, "tail": is_tail, "inside": rng.randrange(2)}),
                          words=pack(WORDS, words), signed=signed, tail=tail)
        actual = values(unpack(CODES, bench["codes"]))
        for row, expected in enumerate(rows):
            assert expected is None or actual[row] == expected, f"cycle {bench.now}, row {row}, seed {SEED}"
        for port in range(CONFIG.ports):
            if ports >> port & 1:
                codes = to_signed(np.array(words[port], dtype=np.uint8), bool(signed)).tolist()
                rows[strip * CONFIG.ports + port] = [c if i < tail or not is_tail else 0 for i, c in enumerate(codes)]
    assert None not in rows
