"""Chunks of random sums: what is written is golden.output_stage.requantize of them, ``latency`` cycles later."""

import os

import cocotb
import numpy as np
from amaranth import signed
from amaranth.lib import data

from golden.output_stage import requantize
from hw.channel_unit import SUM_BITS
from hw.drain import chunk_layout
from hw.output_stage import OutputStage
from hw.types import layer_layout, sums_layout
from sdp.program import SHIFT_MAX, Kind
from tests.bench import SEED, Bench, config, generator, pack

CONFIG = config()
SUMS = data.ArrayLayout(sums_layout(CONFIG), CONFIG.columns)
POOLED = data.ArrayLayout(signed(SUM_BITS), CONFIG.word)
OUTPUTS, CHUNKS = CONFIG.outputs, CONFIG.word // CONFIG.outputs
SCALE_BITS = 32 + CONFIG.scale_bits
SHIFTS = min(SHIFT_MAX, int(os.environ.get("SHIFTS", SHIFT_MAX)))


def drawn(rng, bits):
    """A two's complement number of so many bits: extreme, small, or any."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return rng.choice((low, high, 0, -1, 1, rng.randint(low, high), rng.randint(-300, 300), rng.randint(low, high) >> rng.randrange(bits)))


def layer_of(rng, kind, shift=None):
    w4 = rng.randrange(2) if kind is Kind.CONV else 0
    wide = rng.randrange(2)
    return {"kind": kind, "w4": w4, "residual": rng.randrange(2), "residual_signed": rng.randrange(2), "ties_even": rng.randrange(2),
            "residual_multiplier": rng.choice((0, 1, (1 << CONFIG.scale_bits) - 1, rng.randrange(1 << CONFIG.scale_bits))),
            "shift": shift or rng.randint(1, SHIFTS), "clamp_low": rng.choice((-128, -127, 0)), "clamp_high": 127 if wide else rng.choice((255, 200, 0))}


async def run(dut, layers, chunks, accumulator):
    """``accumulator(rng, layer, scale)`` draws the sum of a code."""
    rng = generator("chunks")
    bench = Bench(dut)
    await bench.begin(layer=0, active=0, chunk=0, sums=0, pooled=0, scales=0, residual=0)
    memory = {"scales": {}, "residual": {}}
    due, written, distinct = {}, 0, set()
    standing = {"scales": 0, "residual": 0}

    async def cycle(**inputs):
        await bench.cycle(**inputs, **standing)
        check(bench, due, distinct)
        # The memories answer in the cycle after.
        if bench["scale_enable"]:
            standing["scales"] = sum((b & 0xFFFFFFFF | m << 32) << n * SCALE_BITS for n, (b, m) in enumerate(memory["scales"][bench["scale_address"]]))
        if bench["residual_valid"]:
            assert layer["residual"]
            standing["residual"] = int.from_bytes(bytes(memory["residual"][bench["residual_address"]]), "little")

    for layer in layers:
        await cycle(layer=pack(layer_layout(CONFIG), layer))
        digits = CONFIG.columns // OUTPUTS
        for _ in range(chunks):
            active = rng.random() < 0.85
            conv = layer["kind"] is Kind.CONV
            index = rng.randrange((digits * (1 + layer["w4"])) if conv else CHUNKS)
            position = rng.randrange(CHUNKS) if conv else index
            write, done = int(active and rng.random() < 0.8), int(active and rng.random() < 0.2)
            scale_address, residual_address = rng.randrange(CONFIG.scale_words), rng.randrange(CONFIG.activation_words)
            address = rng.randrange(CONFIG.activation_words)
            scale = memory["scales"].setdefault(scale_address, [
                (rng.randrange(-(2**31), 2**31) >> rng.randrange(32), rng.choice((
                    0, 1, (1 << CONFIG.scale_bits) - 1, rng.randrange(1 << CONFIG.scale_bits), 1 << rng.randrange(CONFIG.scale_bits))))
                for _ in range(OUTPUTS)])
            word = memory["residual"].setdefault(residual_address, [rng.choice((0, 127, 128, 255, rng.randrange(256))) for _ in range(CONFIG.word)])
            sums = [{name: drawn(rng, CONFIG.accumulator_bits) for name in ("low", "high")} for _ in range(CONFIG.columns)]
            pooled = [drawn(rng, SUM_BITS) for _ in range(CONFIG.word)]
            acc = []
            for lane in range(OUTPUTS):
                if conv:
                    column = index % digits * OUTPUTS + lane
                    names = ("high" if index >= digits else "low") if layer["w4"] else None
                    target = accumulator(rng, layer, scale[lane], word[position * OUTPUTS + lane])
                    if target is not None:
                        limit = 1 << CONFIG.accumulator_bits - 1
                        target = max(-limit, min(limit - 1, target))
                        if names:
                            sums[column][names] = target
                        else:
                            # Any split into two sums: the high digits' counts sixteen-fold.
                            high = max(-limit, min(limit - 1, (target >> 4) + rng.choice((0, 1, -1)) * rng.randrange(1 << 10)))
                            if -limit <= target - 16 * high < limit:
                                sums[column] = {"high": high, "low": target - 16 * high}
                    acc.append(sums[column][names] if names else sums[column]["low"] + 16 * sums[column]["high"])
                else:
                    acc.append(pooled[index * OUTPUTS + lane])
            inputs = {"active": int(active), "sums": pack(SUMS, sums), "pooled": pack(POOLED, pooled), "chunk": pack(chunk_layout(CONFIG), {
                "index": index, "position": position, "write": write, "address": address, "residual_address": residual_address,
                "scale_address": scale_address, "done": done})}
            if active:
                residual = np.array(word[position * OUTPUTS : position * OUTPUTS + OUTPUTS], dtype=np.uint8)
                residual = (residual.view(np.int8) if layer["residual_signed"] else residual) if layer["residual"] else np.zeros(OUTPUTS, int)
                bias, multiplier = zip(*scale)
                codes = requantize(acc, np.array(bias), np.array(multiplier), layer["shift"], layer["clamp_low"], layer["clamp_high"],
                                   residual, layer["residual_multiplier"], layer["ties_even"])
                due[bench.now + 1 + OutputStage.latency] = (write, position, address, [int(c) & 255 for c in codes], done, (layer, acc, scale))
                written += write
            await cycle(**inputs)
        for _ in range(OutputStage.latency + 1):
            await cycle(active=0, chunk=0)
    assert written > 100 and not due
    return distinct


def check(bench, due, distinct):
    if bench.now not in due:
        assert bench["write_mask"] == 0 and bench["done"] == 0, f"cycle {bench.now}, seed {SEED}: nothing is due"
        return
    write, position, address, codes, done, why = due.pop(bench.now)
    assert bench["done"] == done, f"cycle {bench.now}, seed {SEED}"
    assert bench["write_mask"] == write << position, f"cycle {bench.now}, seed {SEED}"
    if write:
        assert bench["write_address"] == address
        word = bench["write_data"].to_bytes(CONFIG.word, "little")
        actual = list(word[position * OUTPUTS : position * OUTPUTS + OUTPUTS])
        assert actual == codes, f"cycle {bench.now}, seed {SEED}: layer {why[0]}, sums {why[1]}, scales {why[2]}"
        distinct.update(codes)


@cocotb.test()
async def any_operands(dut):
    rng = generator()
    layers = [layer_of(rng, kind) for kind in Kind for _ in range(4)] + [layer_of(rng, Kind.CONV, SHIFTS)]
    await run(dut, layers, 40, lambda *_: None)


@cocotb.test()
async def codes_near_ties(dut):
    """Sums on and beside the border between two codes, most of all between the last and the first one that is clamped."""
    rng = generator(1)

    def near(rng, layer, scale, byte):
        bias, multiplier = scale
        residual = (byte - 256 if byte > 127 and layer["residual_signed"] else byte) * layer["residual"] * layer["residual_multiplier"]
        code = rng.choice((rng.randint(-130, 260), layer["clamp_high"], layer["clamp_high"] + 1, layer["clamp_low"] - 1, layer["clamp_low"] - 2))
        target = (2 * code + 1 << layer["shift"] - 1) - residual
        return target // max(multiplier, 1) - bias + rng.choice((-1, 0, 0, 1))

    layers = [{**layer_of(rng, Kind.CONV, 1 + n % 30), "clamp_low": (-128, -128, -127)[n % 3], "clamp_high": (127, 255, 200, 100)[n % 4]} for n in range(24)]
    distinct = await run(dut, layers, 40, near)
    assert len(distinct) > 60


@cocotb.test()
async def codes_on_ties(dut):
    """Sums halfway between two codes, of either sign: where the two ways to round part, and only there."""
    rng, found = generator(2), {0: 0, 1: 0}

    def tie(rng, layer, scale, byte):
        bias, multiplier = scale
        if not multiplier or multiplier & multiplier - 1 or multiplier >= 1 << layer["shift"]:
            return None
        found[layer["ties_even"]] += 1
        return (2 * rng.randint(-129, 127) + 1 << layer["shift"] - 1) // multiplier - bias

    layers = [{**layer_of(rng, Kind.CONV, 1 + n % 16), "residual": 0, "clamp_low": -128, "clamp_high": 127, "ties_even": n % 2} for n in range(32)]
    await run(dut, layers, 30, tie)
    assert min(found.values()) > 60
