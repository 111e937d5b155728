"""DRQ's array beside a source that heeds ``stall``, a weight memory and a drain: sums, and the cycle of every capture, as golden.drq_array has them."""

import json
import os

import cocotb
import numpy as np
from amaranth.lib import data

from golden.drq_array import READ_STAGES, SLOW, Array
from golden.weights import encode_digit
from hw.controller import beat_layout, step_layout
from hw.types import layer_layout, sums_layout, word_layout
from sdp.config import Config
from sdp.program import Kind
from tests.bench import SEED, Bench, generator, pack, unpack

CONFIG = Config(**json.loads(os.environ["SIZES"]))
ROWS, WORD, CHANNELS = CONFIG.rows, CONFIG.word, 2 * CONFIG.columns
WORDS = data.ArrayLayout(word_layout(CONFIG), 1)
DRAIN = data.ArrayLayout(sums_layout(CONFIG), CONFIG.columns)


def weight_bits(digits):
    """A word of weight memory: digits are (high, low) x output channels x codes, each -8 ... 7, which is more than weights of 8 bits need."""
    high, low = encode_digit(digits, 4)
    return int.from_bytes((high << 4 | low).reshape(2, CONFIG.columns, WORD).transpose(1, 2, 0).tobytes(), "little")


class Layer:
    """Random operands: ``steps[t]`` steps in tile ``t``; ``masks(numbers, pixel, shape)`` draws who is sensitive."""

    def __init__(self, numbers, steps, masks, extreme=False, tail=WORD, signed=False, inside=1.0):
        self.signed, self.tail, self.tiles = signed, tail, []
        for tile, count in enumerate(steps):
            self.tiles.append([])
            for step in range(count):
                codes = np.full((ROWS, WORD), 255 - 127 * signed) if extreme else numbers.integers(0, 256, (ROWS, WORD))
                digits = np.full((2, CHANNELS, WORD), -8) if extreme else numbers.integers(-8, 8, (2, CHANNELS, WORD))
                address = int(numbers.integers(CONFIG.weight_words))
                inner = numbers.random(ROWS) < inside
                self.tiles[-1].append({
                    "codes": codes * inner[:, None], "digits": digits, "inside": inner, "ends": bool(step % 2), "address": address,
                    "masks": masks(numbers, (tile * 7 + step) * ROWS + np.arange(ROWS)[:, None], np.arange(WORD)) * np.ones((ROWS, WORD), dtype=bool),
                })

    def operands(self, step):
        """(code values, masks) that count."""
        codes, kept = step["codes"], np.arange(WORD) < (self.tail if step["ends"] else WORD)
        values = np.where(codes > 127, codes - 256, codes) if self.signed else codes
        return values * kept, step["masks"] & kept & step["inside"][:, None]

    def sums(self, tile):
        """What the drain shows of each pixel."""
        total = np.zeros((ROWS, CHANNELS), dtype=int)
        for step in self.tiles[tile]:
            (values, masks), (high, low) = self.operands(step), step["digits"]
            top = np.sign(values) * (abs(values) >> 4)
            total += (values * masks) @ (16 * high + low).T + 256 * ((top * ~masks) @ high.T)
        return [pack(DRAIN, [{"low": row[c], "high": row[CONFIG.columns + c]} for c in range(CONFIG.columns)]) for row in total.tolist()]


class Shell:
    """What stands around the unit while a layer runs: a source that heeds ``stall``, a weight memory, a drain that takes the tiles one by one.

    ``bubbles``: how often the source does not read though it may; ``slow``: cycles that a row of the drain may take beyond one. What happens is
    noted with its cycle, counted from the first in which a word could be read.
    """

    def __init__(self, bench, rng, layer, bubbles, slow):
        self.bench, self.rng, self.layer, self.bubbles, self.start = bench, rng, layer, bubbles, bench.now + 1
        self.header = pack(layer_layout(CONFIG), {"kind": Kind.CONV, "in_signed": int(layer.signed), "in_tail": layer.tail})
        # Pixels (tile, step, pixel) to be read, and those on their way.
        self.source = [(tile, step, n) for tile, steps in enumerate(layer.tiles) for step in range(len(steps)) for n in range(ROWS)]
        self.issued, self.coming, self.weights = 0, [None] * READ_STAGES, 0
        # For each tile the cycles that its rows take to drain; what is left of the present one: (what the row shows, its last cycle).
        self.drains = [[1 + rng.randint(0, slow) for _ in range(ROWS)] for _ in layer.tiles]
        self.draining = []
        self.arrivals, self.reads, self.captured, self.terms, self.slots, self.stalls = [], [], [], 0, 0, 0

    def beat(self, tile, number, n):
        step = self.layer.tiles[tile][number]
        return {
            "beat": pack(beat_layout(CONFIG), {"rows": 1, "strip": n, "tail": int(step["ends"]), "inside": int(step["inside"][n])}),
            "step": pack(step_layout(CONFIG), {"valid": int(n == ROWS - 1), "first": int(number == 0), "last": int(number == len(self.layer.tiles[tile]) - 1),
                                               "weight_address": step["address"]}),
            "words": pack(WORDS, [step["codes"][n].tolist()]),
            "masks": sum(int(bit) << i for i, bit in enumerate(step["masks"][n])),
        }

    async def cycle(self):
        bench, now, pixel, rng = self.bench, self.bench.now + 1 - self.start, self.coming.pop(0), self.rng
        if pixel:
            self.arrivals.append(now)
            inputs = self.beat(*pixel)
        else:
            inputs = {"beat": 0, "step": 0, "words": rng.getrandbits(8 * WORD), "masks": rng.getrandbits(WORD)}
        row, shift = self.draining.pop(0) if self.draining else (None, False)
        await bench.cycle(layer=self.header, weights=self.weights, draining=int(bool(self.draining)), shift=int(shift), **inputs)
        if row is not None:
            shown = bench["drain"]
            assert shown == row, f"cycle {now}, seed {SEED}, tile {len(self.captured) - 1}: {unpack(DRAIN, shown)}, not {unpack(DRAIN, row)}"
        if bench["captured"]:
            assert not self.draining
            tile = len(self.captured)
            self.draining = [(row, n == length - 1) for row, length in zip(self.layer.sums(tile), self.drains[tile]) for n in range(length)]
            self.captured.append(now)
        if bench["weight_enable"]:
            tile, number, n = pixel
            step = self.layer.tiles[tile][number]
            assert (n, bench["weight_address"]) == (0, step["address"])
            self.weights = weight_bits(step["digits"])
            self.reads.append((tile, number))
        self.terms, self.slots, self.stalls = self.terms + bench["terms"], self.slots + bench["slots"], self.stalls + bench["stall"]
        issue = self.issued < len(self.source) and not bench["stall"] and rng.random() >= self.bubbles
        self.coming.append(self.source[self.issued] if issue else None)
        self.issued += issue

    def check(self):
        golden, terms, gap, arrivals = Array(WORD, 1), 0, 0, iter(self.arrivals)
        for steps, drain in zip(self.layer.tiles, self.drains):
            for number, step in enumerate(steps):
                work = np.zeros((ROWS, WORD + 1, 1), dtype=np.int64)
                work[:, 1:, 0] = (1 + (SLOW - 1) * self.layer.operands(step)[1]).cumsum(axis=1)
                came = [next(arrivals) for _ in range(ROWS)]
                golden.step(work, number == len(steps) - 1, gap, came if self.bubbles else None)
                terms += work[:, -1].sum()
            gap = sum(drain)
        assert self.captured == [int(cycle[0]) for cycle in golden.captured], f"seed {SEED}"
        assert (self.terms, self.slots) == (terms, golden.held[0]), f"seed {SEED}"
        assert self.reads == [(tile, number) for tile, steps in enumerate(self.layer.tiles) for number in range(len(steps))]


async def begin(dut):
    bench = Bench(dut)
    await bench.begin(layer=0, beat=0, words=0, masks=0, step=0, weights=0, draining=0, shift=0)
    return bench


async def run(dut, layers, bubbles=0.0, slow=0):
    """One layer after the other; returns the cycles of all captures of each."""
    rng, bench, captured = generator("run", bubbles, slow), await begin(dut), []
    for layer in layers:
        shell, idle = Shell(bench, rng, layer, bubbles, slow), 0
        # What could take longest: a source that pauses, four cycles for every pixel, waiting for each drain.
        limit = 200 + len(shell.source) * 4 * (SLOW + 1) + sum(map(sum, shell.drains))
        while idle < 4:
            await shell.cycle()
            assert bench.now - shell.start < limit, "it hangs"
            done = len(shell.captured) == len(layer.tiles) and not shell.draining
            idle = idle + 1 if done else 0
        shell.check()
        captured.append(shell.captured)
        cocotb.log.info(f"{len(shell.source)} pixels in {shell.captured[-1]} cycles, {shell.stalls} with stall")
    return captured


MASKS = {
    "none": lambda numbers, pixel, channel: False,
    "all": lambda numbers, pixel, channel: True,
    "every second pixel": lambda numbers, pixel, channel: pixel % 2 == 0,
    "alternating rows": lambda numbers, pixel, channel: (pixel + channel) % 2 == 0,
    "the first row": lambda numbers, pixel, channel: channel == 0,
    "the last row": lambda numbers, pixel, channel: channel == WORD - 1,
    "a row in the middle": lambda numbers, pixel, channel: channel == WORD // 2,
    "a wave": lambda numbers, pixel, channel: channel == pixel % WORD,
    "a few": lambda numbers, pixel, channel: numbers.random((ROWS, WORD)) < 0.1,
    "half": lambda numbers, pixel, channel: numbers.random((ROWS, WORD)) < 0.5,
    "most": lambda numbers, pixel, channel: numbers.random((ROWS, WORD)) < 0.9,
}


def layers(numbers, rng, names=MASKS, most=3, **options):
    return [Layer(numbers, [rng.randint(1, most) for _ in range(rng.randint(1, 4))], MASKS[name], signed=bool(rng.randrange(2)),
                  tail=rng.randint(1, WORD), inside=rng.choice((0.7, 1.0)), **options) for name in names]


@cocotb.test()
async def eager_source_fast_drain(dut):
    await run(dut, layers(np.random.default_rng(SEED), generator()))


@cocotb.test()
async def idle_source(dut):
    await run(dut, layers(np.random.default_rng(SEED + 1), generator(1)), bubbles=0.3)


@cocotb.test()
async def slow_drain(dut):
    """Tiles of one step or two, which come faster than they drain."""
    await run(dut, layers(np.random.default_rng(SEED + 2), generator(2), most=2), slow=5)


@cocotb.test()
async def idle_source_and_slow_drain(dut):
    await run(dut, layers(np.random.default_rng(SEED + 3), generator(3), names=[*MASKS, *MASKS], most=2), bubbles=0.1, slow=3)


@cocotb.test()
async def tiles_of_one_step(dut):
    """The weights change with every step, and every step has a tile of its own."""
    numbers = np.random.default_rng(SEED + 4)
    await run(dut, [Layer(numbers, [1] * 6, MASKS[name]) for name in MASKS])


@cocotb.test()
async def largest_sums(dut):
    """As many products of the largest codes and digits as the accumulators must hold."""
    numbers = np.random.default_rng(SEED + 5)
    await run(dut, [Layer(numbers, [CONFIG.steps_max], MASKS[name], extreme=True, signed=signed) for name in ("all", "none") for signed in (False, True)])


@cocotb.test()
async def one_pixel_per_cycle(dut):
    """Where none is sensitive, neither steps nor tiles leave a gap, if a step is as long as its way through the array."""
    numbers = np.random.default_rng(SEED + 6)
    captured, = await run(dut, [Layer(numbers, [2, 1, 1, 3, 1], MASKS["none"])])
    gap = max(0, WORD - ROWS - 1)
    first = captured[0] - 2 * ROWS
    assert captured == [first + steps * ROWS + (steps - 1) // 2 * gap for steps in (2, 3, 4, 7, 8)]


@cocotb.test()
async def a_reset_in_between(dut):
    """In any state: what comes after it finds a unit like new."""
    numbers, rng = np.random.default_rng(SEED + 7), generator("reset")
    for cycles in (5, 2 * ROWS, 3 * ROWS + WORD, 5 * ROWS + 2 * WORD):
        shell = Shell(await begin(dut), rng, Layer(numbers, [1, 2, 3, 2], MASKS["half"]), 0, 2)
        for _ in range(cycles):
            await shell.cycle()
        await run(dut, [Layer(numbers, [1, 2], MASKS["a few"])])


@cocotb.test()
async def other_layers_are_not_its_own(dut):
    bench = await begin(dut)
    for kind in (Kind.MAX, Kind.SUM):
        for n in range(3 * ROWS):
            await bench.cycle(layer=pack(layer_layout(CONFIG), {"kind": kind}), words=255, masks=1, step=pack(step_layout(CONFIG), {"valid": 1, "first": 1, "last": 1}),
                              beat=pack(beat_layout(CONFIG), {"rows": 1, "strip": n % ROWS, "inside": 1}))
            assert [bench[name] for name in ("captured", "weight_enable", "stall", "slots")] == [0, 0, 0, 0]
