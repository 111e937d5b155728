"""From words read to sums: steps as the controller gives them, weights as the memory does; of whatever array the configuration has."""

import cocotb
import numpy as np
from amaranth.lib import data

from golden import cycles
from golden.arrays import in_order, operands
from golden.term_select import to_signed
from golden.weights import FORMATS, pack_slots
from hw.controller import beat_layout, step_layout
from hw.types import layer_layout, sums_layout, word_layout
from sdp.program import Kind
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
WORDS = data.ArrayLayout(word_layout(CONFIG), CONFIG.ports)
DRAIN = data.ArrayLayout(sums_layout(CONFIG), CONFIG.columns)
STRIPS = CONFIG.rows // CONFIG.ports


class Unit:
    """The unit with its weight memory; what happens is noted with its cycle."""

    def __init__(self, dut, weights):
        self.bench, self.weights, self.standing = Bench(dut), weights, 0
        self.captured, self.reads, self.terms, self.slots, self.drained = [], [], [], [], []

    async def cycle(self, **inputs):
        """What is drained is looked at in the cycles with ``shift``."""
        bench = self.bench
        await bench.cycle(**{"beat": 0, "step": 0, "shift": 0, "weights": self.standing, **inputs})
        if bench["captured"]:
            self.captured.append(bench.now)
        if bench["weight_enable"]:
            self.reads.append((bench.now, bench["weight_address"]))
            self.standing = self.weights[bench["weight_address"]]
        terms, slots = bench["terms"], bench["slots"]
        assert slots in (0, CONFIG.rows * CONFIG.lanes) and terms <= slots
        if slots:
            self.terms.append(terms)
            self.slots.append(bench.now)
        if inputs.get("shift"):
            self.drained.append(unpack(DRAIN, bench["drain"]))


@cocotb.test()
async def layers(dut):
    rng = generator()
    numbers = np.random.default_rng(SEED)
    array, form = CONFIG.array_kind, FORMATS[CONFIG.array]
    # Every slot that means something: parts of both modes.
    addresses = min(9, CONFIG.weight_words)
    parts = [form.decode(np.arange(1 << CONFIG.slot_bits, dtype=np.uint16), w4) for w4 in (False, True)]
    slots = numbers.integers(0, 1 << CONFIG.slot_bits, (addresses, CONFIG.columns, CONFIG.word)).astype(np.uint16)
    slots[numbers.random(slots.shape) < 0.2] = form.encode(np.array([-8]), np.array([-8]))[0]
    memory = pack_slots(CONFIG, slots)
    unit = Unit(dut, {a: int.from_bytes(memory[a].tobytes(), "little") for a in range(addresses)})
    await unit.bench.begin(layer=0, beat=0, words=0, step=0, weights=0, shift=0)
    choice = list(array.budgets(CONFIG.group))
    budgets = [choice[0], choice[min(1, len(choice) - 1)], choice[-1], *(rng.choice(choice) for _ in range(6))]
    for budget in budgets:
        signed, tail, w4 = rng.randrange(2), rng.randint(1, CONFIG.word), rng.choice(array.modes)
        unit.bench._handle("layer").value = pack(layer_layout(CONFIG), {"kind": Kind.CONV, "budget": budget, "w4": int(w4), "in_signed": signed, "in_tail": tail})
        for name in ("captured", "reads", "terms", "slots", "drained"):
            getattr(unit, name).clear()
        expected_reads, expected_terms, expected_captures, expected_rows, expected_slots = [], [], [], [], []
        tiles = rng.randint(1, 3)
        last_step = -(10**6)
        for tile in range(tiles):
            sums = np.zeros((2, CONFIG.rows, CONFIG.columns), dtype=int)
            steps = rng.randint(1, 3)
            for step in range(steps):
                codes = numbers.integers(0, 256, (CONFIG.rows, CONFIG.word)).astype(np.uint8) * (numbers.random((CONFIG.rows, CONFIG.word)) < 0.6)
                ends_channels, address = rng.randrange(2), rng.randrange(addresses)
                order = [(strip, ports) for strip in range(STRIPS) for ports in beats_of(rng)]
                for n, (strip, ports) in enumerate(order):
                    last_beat = n == len(order) - 1
                    words = codes[strip * CONFIG.ports : (strip + 1) * CONFIG.ports].tolist()
                    # A step lasts `budget` cycles at least; sometimes there is a gap.
                    while last_beat and unit.bench.now + 1 < last_step + budget + rng.choice((0, 0, 3)):
                        await unit.cycle()
                    first, last = step == 0, step == steps - 1
                    await unit.cycle(
                        beat=pack(beat_layout(CONFIG), {"rows": sum(1 << p for p in ports), "strip": strip, "tail": ends_channels, "inside": 1}),
                        words=pack(WORDS, [w if p in ports else [0xEE] * CONFIG.word for p, w in enumerate(words)]),
                        step=pack(step_layout(CONFIG), {"valid": int(last_beat), "first": int(first), "last": int(last), "weight_address": address}))
                last_step = unit.bench.now
                values = to_signed(codes, bool(signed))
                if ends_channels:
                    values[:, tail:] = 0
                seen, counts = operands(CONFIG, values[None, None], budget)
                high, low = (part[slots[address]].astype(int) for part in parts[w4])
                if len(array.modes) == 1:
                    high, low = 0 * high, 16 * high + low  # one sum
                sums += seen[0, 0].astype(int) @ low.T, seen[0, 0].astype(int) @ high.T
                groups = [in_order(CONFIG, g, budget) for g in values.reshape(-1, CONFIG.group).tolist()]
                expected_terms += [sum(g[n][0] != 0 for g in groups) for n in range(budget)]
                assert sum(expected_terms[-budget:]) == counts.sum()
                expected_reads.append((last_step + 1, address))
                # Counted in the cycle after they entered the array.
                expected_slots += range(last_step + 4, last_step + 4 + budget)
            expected_captures.append(last_step - (cycles.READ_STAGES - 1) + cycles.READ_STAGES + cycles.SELECT_STAGES + budget - 1 + cycles.CAPTURE_STAGES)
            expected_rows.append([[{"low": int(low), "high": int(high)} for low, high in zip(*row)] for row in zip(*sums)])
            if tile == tiles - 1 or rng.random() < 0.5:
                for _ in range(2 * CONFIG.group + 10):
                    if len(unit.captured) <= tile:
                        # A capture outweighs a shift in its cycle.
                        await unit.cycle(shift=rng.randrange(2))
                unit.drained.clear()
                for _ in range(CONFIG.rows):
                    await unit.cycle(shift=1)
                assert unit.drained == expected_rows[tile], f"budget {budget}, tile {tile}, cycle {unit.bench.now}, seed {SEED}"
                unit.drained.clear()
        await unit.cycle()
        await unit.cycle()
        assert unit.captured == expected_captures, f"seed {SEED}"
        assert unit.reads == expected_reads, f"seed {SEED}"
        assert unit.terms == expected_terms and unit.slots == expected_slots, f"seed {SEED}"


def beats_of(rng):
    """The ports of a strip in one beat, or in several."""
    ports = list(range(CONFIG.ports))
    parts = rng.choice([n for n in (1, 2, 4) if n <= CONFIG.ports])
    return [ports[n :: parts] for n in range(parts)]


@cocotb.test()
async def pooling_steps_are_not_its_own(dut):
    bench = Bench(dut)
    await bench.begin(layer=0, beat=0, words=0, step=0, weights=0, shift=0)
    for kind in (Kind.MAX, Kind.SUM):
        await bench.cycle(layer=pack(layer_layout(CONFIG), {"kind": kind, "budget": 3}))
        for n in range(12):
            await bench.cycle(step=pack(step_layout(CONFIG), {"valid": int(n < 3), "first": 1, "last": 1}), beat=(1 << 2) - 1, words=255)
            assert (bench["captured"], bench["weight_enable"], bench["slots"]) == (0, 0, 0)
