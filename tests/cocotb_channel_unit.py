"""Windows of random words: maxima, sums and weighted sums as golden.channel_unit says."""

import cocotb
import numpy as np
from amaranth import signed as signed_shape
from amaranth.lib import data

from golden.channel_unit import depthwise, pool
from golden.term_select import to_signed
from hw.channel_unit import SUM_BITS, ChannelUnit
from hw.controller import beat_layout, step_layout
from hw.types import layer_layout, slot_layout, word_layout
from sdp.config import KERNEL_MAX
from sdp.program import Kind
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
RESULT = data.ArrayLayout(signed_shape(SUM_BITS), CONFIG.word)
WORD = word_layout(CONFIG)
SLOTS = data.ArrayLayout(slot_layout(CONFIG), CONFIG.word)


def slots(weights):
    """A word of weight memory for these bytes; the digits' fifth bits mean nothing here and are set at random."""
    bits = CONFIG.array_kind.digit_bits

    def digit(nibble, fifth):
        coded = nibble & 15 | (fifth & 1) << 4
        return {"magnitude": coded & (1 << bits - 1) - 1, "negative": coded >> bits - 1 & 1}

    return pack(SLOTS, [{"low": digit(w, w), "high": digit(w >> 4, w >> 1)} for w in weights])


def golden(taps, inside, kind, signed, weights):
    """A window as an image of one row; what is not inside is past its end."""
    values = to_signed(np.array(taps, dtype=np.uint8), signed)[np.array(inside)]
    if not len(values):
        return [0] * CONFIG.word
    if kind is Kind.DEPTHWISE:
        return depthwise(values[None, None], np.array(weights)[np.array(inside)][None], (1, 1), (0, 0), (1, 1)).ravel().tolist()
    return pool(values[None, None], kind is Kind.MAX, (1, len(values)), (1, 1), (0, 0), (1, 1)).ravel().tolist()


async def window(bench, taps, inside, weights, gaps, rng, check, weighted):
    for n, (word, is_inside) in enumerate(zip(taps, inside)):
        while rng.random() < gaps:
            await bench.cycle(
                step=0, ahead=0, slots=rng.getrandbits(SLOTS.size),
                beat=pack(beat_layout(CONFIG), {"inside": rng.randrange(2)}), word=rng.getrandbits(8 * CONFIG.word))
            check()
            assert bench["weight_enable"] == 0
        # The address of the weights goes out a cycle before they are needed.
        await bench.cycle(step=0, ahead=pack(step_layout(CONFIG), {"valid": 1, "weight_address": n % CONFIG.weight_words}))
        check()
        assert bench["weight_enable"] == weighted and bench["weight_address"] == n % CONFIG.weight_words
        # The memory gives zero outside of the image.
        await bench.cycle(
            step=pack(step_layout(CONFIG), {"valid": 1, "first": int(n == 0), "last": int(n == len(taps) - 1)}),
            beat=pack(beat_layout(CONFIG), {"inside": int(is_inside), "rows": 1}), word=pack(WORD, word if is_inside else [0] * CONFIG.word),
            slots=slots(weights[n]), ahead=0)
        check()


@cocotb.test()
async def windows(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(layer=0, beat=0, step=0, word=0, ahead=0, slots=0)
    for kind in (Kind.MAX, Kind.SUM, Kind.DEPTHWISE):
        for signed in (False, True):
            for gaps in (0.0, 0.3):
                await bench.cycle(step=0, layer=pack(layer_layout(CONFIG), {"kind": kind, "in_signed": int(signed)}))
                results, ends, captures, shown = [], [], [], []

                def check():
                    if bench.now - 1 in captures:
                        shown.append(unpack(RESULT, bench["result"]))
                    elif shown:
                        assert unpack(RESULT, bench["result"]) == shown[-1], f"cycle {bench.now}, seed {SEED}"
                    if bench["captured"]:
                        captures.append(bench.now)

                for n in range(25):
                    length = rng.choice((1, 1, 2, 3, 9))
                    low, high = rng.choice(((0, 255), (128, 255), (0, 5), (126, 130)))
                    taps = [[rng.randint(low, high) for _ in range(CONFIG.word)] for _ in range(length)]
                    inside = [rng.random() < 0.7 for _ in taps] if n % 5 else [n % 2 == 0] * length
                    weights = [[rng.randint(-128, 127) for _ in range(CONFIG.word)] for _ in taps]
                    await window(bench, taps, inside, weights, gaps, rng, check, kind is Kind.DEPTHWISE)
                    ends.append(bench.now)
                    results.append(golden(taps, inside, kind, signed, weights))
                for _ in range(ChannelUnit.latency + 2):
                    await bench.cycle(step=0)
                    check()
                assert captures == [end + ChannelUnit.latency for end in ends], f"{kind}, seed {SEED}"
                assert shown == results, f"{kind}, signed {signed}, seed {SEED}"


@cocotb.test()
async def largest_windows(dut):
    rng = generator(1)
    bench = Bench(dut)
    await bench.begin(layer=0, beat=0, step=0, word=0, ahead=0, slots=0)
    taps = KERNEL_MAX**2
    for kind, signed, byte, weight in ((Kind.SUM, False, 255, 1), (Kind.SUM, True, 128, 1), (Kind.DEPTHWISE, False, 255, -128), (Kind.DEPTHWISE, True, 128, -128)):
        total = taps * weight * (byte - 256 * signed)
        await bench.cycle(layer=pack(layer_layout(CONFIG), {"kind": kind, "in_signed": int(signed)}), step=0)
        await window(bench, [[byte] * CONFIG.word] * taps, [True] * taps, [[weight] * CONFIG.word] * taps, 0, rng, lambda: None, kind is Kind.DEPTHWISE)
        for _ in range(ChannelUnit.latency):
            await bench.cycle(step=0)
        assert bench["captured"] == 1
        await bench.cycle()
        assert unpack(RESULT, bench["result"]) == [total] * CONFIG.word


@cocotb.test()
async def steps_of_a_convolution_are_not_its_own(dut):
    bench = Bench(dut)
    await bench.begin(layer=pack(layer_layout(CONFIG), {"kind": Kind.CONV}), beat=0, step=0, word=0, ahead=0, slots=0)
    before = bench["result"]
    for _ in range(5):
        await bench.cycle(step=pack(step_layout(CONFIG), {"valid": 1, "first": 1, "last": 1}), beat=pack(beat_layout(CONFIG), {"inside": 1}), word=0x77)
        assert bench["captured"] == 0 and bench["result"] == before
