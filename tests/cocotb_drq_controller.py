"""The controller with DRQ's array: the reads, masks and steps of tests.layers in their order, none issued while the array stalls, none lost."""

import json
import os

import cocotb

from golden import cycles
from hw.controller import beat_layout, mask_layout, step_layout
from hw.types import layer_layout, read_layout
from sdp.config import Config
from sdp.program import REGION_H_MAX, REGION_W_MAX
from tests import layers
from tests.bench import SEED, Bench, generator, pack, unpack

CONFIG = Config(**json.loads(os.environ["SIZES"]))


def beats(layer):
    """(address or none, strip, tail, weight address, first, last, the last beat of its step, mask address) of every beat of a convolution."""
    found = []
    for address, first, last, reads in layers.steps(CONFIG, layer):
        for n, (strip, tail, accesses) in enumerate(reads):
            found.append((accesses[0], strip, tail, address, first, last, n == len(reads) - 1, mask(layer, accesses[0])))
    return found


def mask(layer, address):
    """Where the mask of a word lies."""
    if address is None or not layer["masked"]:
        return None
    word, pixel = divmod(address - layer["in_base"], layer["in_plane"])
    y, x = divmod(pixel, layer["in_w"])
    return (layer["mask_base"] + word * layer["mask_plane"] + (y >> layer["region_h"]) * layer["mask_pitch"] + (x >> layer["region_w"])) % CONFIG.mask_words


@cocotb.test()
async def stalls(dut):
    rng, bench = generator(), Bench(dut)
    await bench.begin(start=0, layer=0, stall=0)
    for n in range(24):
        words = CONFIG.mask_words
        layer = {**layers.header(rng, CONFIG), "w4": 0, "masked": int(n % 4 != 3), "region_h": rng.randint(0, REGION_H_MAX), "region_w": rng.randint(0, REGION_W_MAX),
                 "mask_base": rng.randrange(words), "mask_plane": rng.randrange(words), "mask_pitch": rng.randrange(min(words, 9))}
        share = rng.choice((0, 0.1, 0.5, 0.9))
        due = beats(layer)
        await bench.cycle(start=1, stall=0, layer=pack(layer_layout(CONFIG), {k: int(v) for k, v in layer.items()}))
        issued, at, free = [], 0, [0] * 4
        while at < len(due) or any(free[-3:]):
            # What this cycle shows was issued one (addresses) and two cycles (what goes with the data) before.
            stall = int(rng.random() < share)
            await bench.cycle(start=0, stall=stall)
            where = f"layer {n}, beat {at}, cycle {bench.now}, seed {SEED}"
            read, masks = unpack(read_layout(CONFIG), bench["read"]), unpack(mask_layout(CONFIG), bench["mask"])
            beat, step = unpack(beat_layout(CONFIG), bench["beat"]), unpack(step_layout(CONFIG), bench["step"])
            if beat["rows"]:
                address, strip, tail, weights, first, last, ends, _ = due[at]
                assert issued[-2][0] == 0, f"issued though it stalls: {where}"
                assert (beat["inside"], beat["strip"], beat["tail"]) == (address is not None, strip, tail), where
                assert (step["weight_address"], step["first"], step["last"], step["valid"]) == (weights, first, last, ends), where
                assert issued[-1][1:] == (address, due[at][-1]), where
                at += 1
            else:
                assert not step["valid"], where
                assert not issued or issued[-1][1] is None, f"read without a beat: {where}"
            # Nothing but a stall keeps a beat away once the first has come, where the layer before has left no gap.
            if at and at < len(due) and len(issued) > 1 and not issued[-2][0]:
                assert beat["rows"], f"no beat though nothing stalls: {where}"
            issued.append((stall, read["address"][0] if read["valid"] else None, masks["address"] if masks["valid"] else None))
            free = [*free[1:], int(beat["rows"] != 0)]
            assert bench["fault"] == 0 and bench.now < 10**6, where
        assert cycles.beats(CONFIG, layer["stride_w"]) == CONFIG.rows
