"""Tensors code by code in the drain's order: what is written, and when, is golden.sensitivity_predictor.predict of them."""

import json
import os

import cocotb
import numpy as np

from golden.sensitivity_predictor import REGIONS_MAX, predict
from hw.sensitivity_predictor import SensitivityPredictor, settings_layout
from hw.types import layer_layout
from sdp.config import Config
from sdp.program import REGION_H_MAX, REGION_W_MAX, Kind
from tests.bench import SEED, Bench, generator, pack

CONFIG = Config(**json.loads(os.environ["SIZES"]))
OUTPUTS, WORD, LATENCY = CONFIG.outputs, CONFIG.word, SensitivityPredictor.latency


def tensor(numbers, rng, shape, signed, threshold):
    """Codes (h, w, channels) whose sums come near the threshold, or are extreme, or random."""
    low, high = (-128, 127) if signed else (0, 255)
    kind = rng.randrange(4)
    if kind == 0:
        return np.full(shape, rng.choice((low, high)))
    if kind == 1:
        return numbers.choice([threshold, *(min(max(t, low), high) for t in (threshold - 1, threshold + 1, -threshold))], shape).clip(low, high)
    if kind == 2:
        return np.full(shape, min(threshold, high)) - (numbers.random(shape) < 0.01)
    return numbers.integers(low, high + 1, shape)


def chunks(kind, channels, h, w):
    """(y, x, first channel) in the order in which the drain writes them."""
    block = CONFIG.block(False) if kind is Kind.CONV else WORD
    for first in range(0, channels, block):
        for y in range(h):
            for x in range(w):
                yield from ((y, x, c) for c in range(first, min(first + block, channels), OUTPUTS))


async def run(dut, bench, rng, kind, shape, region, threshold, signed, wanted=True, pause=0.0):
    """One layer. What it writes is looked at bit by bit: each once, in its cycle."""
    (h, w, channels), (region_h, region_w), numbers = shape, region, np.random.default_rng(rng.getrandbits(32))
    codes = tensor(numbers, rng, shape, signed, threshold)
    masks = predict(codes[None], threshold, region_h, region_w)[0]
    down, across, _ = masks.shape
    words = -(-channels // WORD)
    pitch = across + rng.randrange(3)
    plane = down * pitch + rng.randrange(3)
    assert words * plane <= CONFIG.mask_words
    base = rng.randrange(CONFIG.mask_words - words * plane + 1)
    expected, written = {}, {}

    async def cycle(**inputs):
        await bench.cycle(**inputs)
        mask = bench["write_mask"]
        if mask:
            assert mask & mask - 1 == 0
            written[bench.now] = (bench["write_address"], mask.bit_length() - 1, bench["write_data"])

    fields = {"kind": kind, "out_h": h, "out_w": w, "out_channels": channels, "clamp_low": -128 if signed else 0, "clamp_high": 127 if signed else 255}
    await cycle(start=1, valid=0, layer=pack(layer_layout(CONFIG), fields), settings=pack(settings_layout(CONFIG), {
        "predict": int(wanted), "base": base, "plane": plane, "pitch": pitch, "threshold": threshold, "region_h": region_h, "region_w": region_w}))
    for y, x, first in chunks(kind, channels, h, w):
        while rng.random() < pause:
            await cycle(start=0, valid=0, codes=rng.getrandbits(8 * OUTPUTS))
        part = codes[y, x, first : first + OUTPUTS].tolist()
        noise = [rng.randrange(256) for _ in range(OUTPUTS - len(part))]
        await cycle(start=0, valid=1, codes=int.from_bytes(bytes(code & 255 for code in part + noise), "little"))
        ends = all((n + 1) % (1 << size) == 0 or n == length - 1 for n, size, length in ((y, region_h, h), (x, region_w, w)))
        if ends and wanted:
            i, j = y >> region_h, x >> region_w
            expected[bench.now + LATENCY] = (base + first // WORD * plane + i * pitch + j, first % WORD // OUTPUTS, masks[i, j, first : first + OUTPUTS].tolist())
    await cycle(valid=0)
    # The next layer's header may be there already.
    for _ in range(LATENCY):
        await cycle(layer=0, settings=0)
    what = f"{kind.name} {shape}, region {region}, threshold {threshold}, seed {SEED}"
    assert sorted(written) == sorted(expected), what
    for now, (address, position, bits) in expected.items():
        got = written[now]
        # What lies behind the last channel is for nobody.
        assert got[:2] == (address, position) and [bool(got[2] >> n & 1) for n in range(len(bits))] == bits, f"{what}, cycle {now}: {got}, {address}, {position}, {bits}"
    return len(expected)


async def begin(dut):
    bench = Bench(dut)
    await bench.begin(start=0, layer=0, settings=0, valid=0, codes=0)
    return bench


@cocotb.test()
async def regions_of_every_size(dut):
    """Among them such as are larger than the image, and parts of regions at its border."""
    rng, bench = generator(), await begin(dut)
    for region_h in range(REGION_H_MAX + 1):
        for region_w in range(REGION_W_MAX + 1):
            shape = rng.randint(1, 9), rng.randint(1, 19), rng.randint(1, WORD)
            await run(dut, bench, rng, Kind.CONV, shape, (region_h, region_w), rng.choice((1, 2, 17, 64, 127)), rng.random() < 0.5)


@cocotb.test()
async def many_channels(dut):
    """Several blocks, several words, none a multiple of the other; on the array and on the channel unit."""
    rng, bench = generator(1), await begin(dut)
    for kind in (Kind.CONV, Kind.MAX, Kind.SUM, Kind.DEPTHWISE):
        for channels in (1, OUTPUTS, OUTPUTS + 1, WORD, WORD + 1, 2 * WORD + OUTPUTS, 3 * CONFIG.block(False)):
            shape = rng.randint(1, 5), rng.randint(1, 6), channels
            await run(dut, bench, rng, kind, shape, (rng.randint(0, 2), rng.randint(0, 2)), rng.randint(1, 255), rng.random() < 0.5, pause=rng.choice((0, 0, 0.4)))


@cocotb.test()
async def one_chunk_per_pixel(dut):
    """The same partial sum in cycle after cycle, and with pauses of every length between."""
    rng, bench = generator(2), await begin(dut)
    for pause in (0, 0.3, 0.5, 0.7):
        for region in ((0, 0), (1, 1), (1, 3), (2, 4)):
            await run(dut, bench, rng, Kind.CONV, (5, 18, OUTPUTS), region, rng.choice((3, 100, 200)), rng.random() < 0.5, pause=pause)


@cocotb.test()
async def thresholds(dut):
    rng, bench = generator(3), await begin(dut)
    for threshold in (0, 1, 128, 255, 256):
        for _ in range(4):
            await run(dut, bench, rng, Kind.CONV, (4, 5, OUTPUTS), (rng.randint(0, 2), rng.randint(0, 2)), threshold, rng.random() < 0.5)


@cocotb.test()
async def largest_sums_and_widest_images(dut):
    rng, bench = generator(4), await begin(dut)
    for signed in (False, True):
        for _ in range(4):
            await run(dut, bench, rng, Kind.CONV, (9, 33, OUTPUTS), (REGION_H_MAX, REGION_W_MAX), 128 if signed else 255, signed)
    await run(dut, bench, rng, Kind.CONV, (2, REGIONS_MAX, OUTPUTS + 1), (0, 0), 100, False)
    await run(dut, bench, rng, Kind.CONV, (3, 2 * REGIONS_MAX - 1, OUTPUTS), (1, 1), 100, False)


@cocotb.test()
async def layers_that_want_no_masks(dut):
    rng, bench = generator(5), await begin(dut)
    for wanted in (True, False, True, False):
        count = await run(dut, bench, rng, Kind.CONV, (3, 4, WORD), (1, 1), 20, False, wanted=wanted)
        assert (count > 0) == wanted
