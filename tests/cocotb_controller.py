"""Reads and steps of random layers in every cycle, against the nested loops of tests.layers."""

import math

import cocotb

from golden import cycles
from hw.controller import beat_layout, step_layout
from hw.types import layer_layout, read_layout
from sdp.program import Error, Kind
from tests import layers
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()
QUEUE = CONFIG.rows // CONFIG.ports


def schedule(layer):
    """{cycle after start: (beat, step or None)}: when each beat is issued, by the rules of golden.cycles."""
    pooling = layer["kind"] is not Kind.CONV
    operands = 1 if pooling else QUEUE * math.gcd(layer["stride_w"], CONFIG.ports)
    length = 1 if pooling else max(layer["budget"], operands)
    drain = cycles.drain(CONFIG, layer["kind"], bool(layer["w4"]))
    now, tile_before, issued = cycles.START_STAGES + QUEUE, -(10**9), {}
    for address, first, last, beats in layers.steps(CONFIG, layer):
        assert len(beats) == operands
        for n, beat in enumerate(beats):
            at, complete = now + n, n == operands - 1
            if complete and last:
                at = max(at, tile_before + drain)  # waits for the output stage
                tile_before = at
                now = at - n
            issued[at] = (beat, (address, first, last) if complete else None)
        now += length
    return issued


async def start(bench, layer):
    bits = pack(layer_layout(CONFIG), {k: int(v) for k, v in layer.items()})
    await bench.cycle(start=1, layer=bits)
    return bench.now


@cocotb.test()
async def random_layers(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(start=0, layer=0)
    for n in range(36):
        kind = (Kind.CONV, Kind.CONV, Kind.CONV, Kind.MAX, Kind.SUM, *Kind)[n % (5 + len(Kind))]
        layer = layers.header(rng, CONFIG, kind, stride_w=1 + n % 4 if n < 24 else None)
        where = f"layer {n}: {layer}, seed {SEED}"
        issued = schedule(layer)
        begin = await start(bench, layer) - 1
        # The address leaves in the cycle after the issue; what goes with the data is there when the data is.
        for now in range(max(issued) + 6 + layer["budget"]):
            if now:
                await bench.cycle(start=0)
            assert bench.now - begin - 1 == now
            at = f"cycle {now}, {where}"
            read = unpack(read_layout(CONFIG), bench["read"])
            beat, step = unpack(beat_layout(CONFIG), bench["beat"]), unpack(step_layout(CONFIG), bench["step"])
            (_, _, accesses), coming = issued[now - 1] if now - 1 in issued else ((0, 0, {}), None)
            ahead = unpack(step_layout(CONFIG), bench["ahead"])
            assert ahead["valid"] == (coming is not None), at
            assert coming is None or kind in (Kind.MAX, Kind.SUM) or ahead["weight_address"] == coming[0], at
            wanted = {port: address for port, address in accesses.items() if address is not None}
            assert {p: read["address"][p] for p in range(CONFIG.ports) if read["valid"] >> p & 1} == wanted, at
            assert len({a % CONFIG.ports for a in wanted.values()}) == len(wanted), f"two reads of a bank: {at}"
            if now - 2 in issued:
                (strip, tail, accesses), expected = issued[now - 2]
                assert beat["rows"] == sum(1 << p for p in accesses), at
                assert (beat["strip"], beat["tail"]) == (strip, tail), at
                if 0 in accesses:
                    assert beat["inside"] == (accesses[0] is not None), at
                assert step["valid"] == (expected is not None), at
                if expected:
                    address, first, last = expected
                    assert (step["first"], step["last"]) == (first, last), at
                    if kind not in (Kind.MAX, Kind.SUM):
                        assert step["weight_address"] == address, at
            else:
                assert beat["rows"] == 0 and step["valid"] == 0, at
            assert bench["fault"] == 0, at


def conv(**changes):
    return {"kind": Kind.CONV, "w4": 0, "budget": 1, "kernel_h": 1, "kernel_w": 1, "stride_h": 1, "stride_w": 1,
            "pad_top": 0, "pad_left": 0, "weight_base": 0, "in_base": 0, "in_plane": CONFIG.ports, "in_h": 1,
            "in_w": CONFIG.ports, "in_words": 1, "in_tail": 1, "out_h": 1, "out_w": CONFIG.ports, "out_channels": 1, "clamp_high": 255, "shift": 1, **changes}


def cases():
    act, half, ports, steps = CONFIG.activation_words, CONFIG.activation_words // 2, CONFIG.ports, CONFIG.steps_max
    yield "good", conv(), 0
    yield "last input word", conv(in_base=act - ports), 0
    yield "one past the input", conv(in_base=act - ports, in_w=ports + 1, in_plane=2 * ports, out_w=ports + 1), Error.ADDRESS
    yield "plane past the input", conv(in_words=2, in_plane=act), Error.ADDRESS
    yield "image past the input", conv(in_w=4095, in_h=4095, out_h=4095, stride_h=4), Error.ADDRESS
    yield "padding is not past the input", conv(in_base=act - ports, kernel_w=3, out_w=3), 0
    over = {"in_base": half - ports, "in_w": ports + 1, "in_plane": 2 * ports, "out_w": ports + 1}
    yield "residual: input over the middle", conv(**over, residual=1, residual_base=half), Error.ADDRESS
    yield "no residual: input over the middle", conv(**over), 0
    yield "residual: input up to the middle", conv(in_base=half - ports, residual=1, residual_base=half), 0
    yield "pooling past the input", {**conv(in_base=act - ports, in_w=ports + 1, out_w=ports + 1), "kind": Kind.MAX}, Error.ADDRESS
    fits = steps <= CONFIG.weight_words
    if fits:
        yield "longest reduction", conv(in_words=steps, in_plane=ports, in_h=1, in_w=1, out_w=1), 0 if steps * ports <= act else Error.ADDRESS
    yield "a word too many", conv(in_words=steps + 1, in_plane=ports, in_w=1, out_w=1, pad_left=1, weight_base=0), Error.REDUCTION
    yield "taps too many", conv(kernel_h=min(31, steps // 2 + 1), kernel_w=31, in_words=2, pad_top=31, pad_left=31, out_w=1), Error.REDUCTION
    yield "last weights", conv(weight_base=CONFIG.weight_words - 1), 0
    yield "weights of the next step", conv(weight_base=CONFIG.weight_words - 1, kernel_w=2), Error.WEIGHT_ADDRESS
    yield "weights of the next block", conv(weight_base=CONFIG.weight_words - 1, out_channels=CONFIG.columns + 1), Error.WEIGHT_ADDRESS
    yield "w4 needs no next block", conv(weight_base=CONFIG.weight_words - 1, out_channels=CONFIG.columns + 1, w4=1), 0
    yield "depthwise: weights of the next tap", {**conv(weight_base=CONFIG.weight_words - 1, kernel_w=2), "kind": Kind.DEPTHWISE}, Error.WEIGHT_ADDRESS
    yield "depthwise: last weights", {**conv(weight_base=CONFIG.weight_words - 2, kernel_w=2), "kind": Kind.DEPTHWISE}, 0
    yield "pooling has no weights", {**conv(weight_base=CONFIG.weight_words - 1, kernel_h=5, kernel_w=5), "kind": Kind.SUM}, 0


@cocotb.test()
async def faults(dut):
    bench = Bench(dut)
    for name, layer, error in cases():
        await bench.begin(start=0, layer=0)
        await start(bench, layer)
        seen, issued = 0, 0
        for _ in range(6000):
            await bench.cycle(start=0)
            seen = bench["fault"]
            issued += unpack(step_layout(CONFIG), bench["step"])["valid"]
            if seen or issued > 5 and error == 0 and not bench["read"] and issued >= len(layers.steps(CONFIG, layer)):
                break
            if not error and issued >= len(layers.steps(CONFIG, layer)) and not seen:
                for _ in range(4):
                    await bench.cycle()
                    seen = seen or bench["fault"]
                break
        assert seen == error, f"{name}: {layer}: fault {seen} after {issued} steps"
