"""The memory of DRQ's masks: words in parts, as the predictor writes them; a word is read in any cycle, also beside a write."""

import json
import os

import cocotb

from sdp.config import Config
from tests.bench import SEED, Bench, generator

CONFIG = Config(**json.loads(os.environ["SIZES"]))
PARTS = CONFIG.word // CONFIG.outputs


@cocotb.test()
async def reads_and_writes(dut):
    rng, bench = generator(), Bench(dut)
    await bench.begin(write_mask=0, write_address=0, write_data=0, read_enable=0, read_address=0)
    # A few addresses, the last one among them.
    addresses = [0, 1, 2, CONFIG.mask_words // 2, CONFIG.mask_words - 1]
    words = {}
    for address in addresses:
        for part in range(PARTS):
            data = rng.getrandbits(CONFIG.outputs)
            words[address] = words.get(address, 0) | data << part * CONFIG.outputs
            await bench.cycle(write_mask=1 << part, write_address=address, write_data=data)
    expected = None
    for _ in range(400):
        read, address = rng.random() < 0.6, rng.choice(addresses)
        part, data, target = rng.randrange(PARTS + 1), rng.getrandbits(CONFIG.outputs), rng.choice([a for a in addresses if a != address])
        await bench.cycle(read_enable=int(read), read_address=address, write_mask=1 << part if part < PARTS else 0, write_address=target, write_data=data)
        if expected is not None:
            assert bench["read_data"] == expected, f"cycle {bench.now}, seed {SEED}"
        expected = words[address] if read else expected
        if part < PARTS:
            hole = (1 << CONFIG.outputs) - 1 << part * CONFIG.outputs
            words[target] = words[target] & ~hole | data << part * CONFIG.outputs
