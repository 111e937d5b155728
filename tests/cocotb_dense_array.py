"""Tiles of random codes through the dense array: sums, captures and weight reads, as numpy has them."""

import cocotb
import numpy as np
from amaranth.lib import data

from hw.controller import beat_layout, step_layout
from hw.dense_array import dense_sums_layout, dense_weights_layout
from hw.types import layer_layout, word_layout
from sdp.program import Kind
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
WORDS = data.ArrayLayout(word_layout(CONFIG), CONFIG.ports)
DRAIN = data.ArrayLayout(dense_sums_layout(CONFIG), CONFIG.columns)
GROUP, STRIPS = CONFIG.group, CONFIG.rows // CONFIG.ports


@cocotb.test()
async def tiles(dut):
    rng, numbers = generator(), np.random.default_rng(SEED)
    bench = Bench(dut)
    memory, standing = {}, 0
    await bench.begin(layer=pack(layer_layout(CONFIG), {"kind": Kind.CONV, "in_tail": CONFIG.word - 1}), beat=0, words=0, step=0, weights=0, shift=0)

    async def cycle(**inputs):
        nonlocal standing
        await bench.cycle(**{"beat": 0, "step": 0, "shift": 0, "weights": standing, **inputs})
        if bench["weight_enable"]:
            standing = pack(dense_weights_layout(CONFIG), memory[bench["weight_address"]])
        return bench["captured"]

    for _ in range(6):
        sums, steps = np.zeros((CONFIG.rows, CONFIG.columns, 2), dtype=int), rng.randint(1, 4)
        for step in range(steps):
            codes = numbers.integers(0, 256, (CONFIG.rows, CONFIG.word))
            extreme = rng.random() < 0.3
            weights = numbers.choice([-8], (GROUP, CONFIG.columns, CONFIG.lanes, 2)) if extreme else numbers.integers(-8, 8, (GROUP, CONFIG.columns, CONFIG.lanes, 2))
            address = rng.randrange(CONFIG.weight_words)
            memory |= {address * GROUP + n: weights[n].tolist() for n in range(GROUP)}
            ends = rng.randrange(2)
            for strip in range(STRIPS):
                last_beat = strip == STRIPS - 1
                await cycle(beat=pack(beat_layout(CONFIG), {"rows": (1 << CONFIG.ports) - 1, "strip": strip, "tail": ends, "inside": 1}),
                            words=pack(WORDS, codes[strip * CONFIG.ports : (strip + 1) * CONFIG.ports].tolist()),
                            step=pack(step_layout(CONFIG), {"valid": int(last_beat), "first": int(step == 0), "last": int(step == steps - 1),
                                                            "weight_address": address}))
            used = codes & 15
            used[:, CONFIG.word - ends :] = 0
            sums += np.einsum("rlg,gclk->rck", used.reshape(CONFIG.rows, CONFIG.lanes, GROUP), weights)
            if step < steps - 1:
                # The next step's codes may come as soon as this one's last is on its way.
                for _ in range(GROUP - STRIPS + rng.choice((0, 0, 2))):
                    assert not await cycle()
        waited = 0
        while not await cycle():
            waited += 1
            assert waited < 2 * GROUP + 10
        assert waited == GROUP + 2
        for row in sums.tolist():
            await cycle(shift=1)
            assert unpack(DRAIN, bench["drain"]) == row, f"cycle {bench.now}, seed {SEED}"
