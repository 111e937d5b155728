"""Chunks of random layers, against the nested loops of tests.layers."""

import cocotb

from golden import cycles
from hw.drain import chunk_layout
from hw.types import layer_layout
from sdp.program import Error, Kind
from tests import layers
from tests.bench import SEED, Bench, config, generator, pack, unpack

CONFIG = config()


async def start(bench, layer):
    await bench.cycle(layer=pack(layer_layout(CONFIG), {k: int(v) for k, v in layer.items()}), captured=0, start=1)
    assert bench["active"] == 0
    await bench.cycle(start=0)


@cocotb.test()
async def random_layers(dut):
    rng = generator()
    bench = Bench(dut)
    await bench.begin(start=0, layer=0, captured=0)
    for n in range(40):
        kind = rng.choice((Kind.CONV, Kind.CONV, *Kind))
        layer = layers.header(rng, CONFIG, kind)
        where = f"layer {n}: {layer}, seed {SEED}"
        length = cycles.drain(CONFIG, kind, bool(layer["w4"]))
        await start(bench, layer)
        tiles = layers.chunks(CONFIG, layer)
        captured_before = False
        for number, tile in enumerate(tiles):
            assert sum(map(len, tile)) == length
            if not captured_before:
                for _ in range(rng.choice((0, 0, 2))):
                    await bench.cycle(captured=0)
                    assert (bench["active"], bench["shift"], bench["fault"]) == (0, 0, 0), where
                await bench.cycle(captured=1)
                assert bench["active"] == 0
            # The next tile may be captured in the last cycle of this one, no earlier.
            captured_before = number + 1 < len(tiles) and rng.random() < 0.7
            for r, row in enumerate(tile):
                for c, expected in enumerate(row):
                    last = r == len(tile) - 1 and c == len(row) - 1
                    await bench.cycle(captured=int(last and captured_before))
                    at = f"cycle {bench.now}, tile {number}, row {r}, chunk {c}, {where}"
                    assert bench["active"] == 1, at
                    chunk = unpack(chunk_layout(CONFIG), bench["chunk"])
                    assert {name: chunk[name] for name in expected} == expected, at
                    assert bench["shift"] == int(kind is Kind.CONV and c == len(row) - 1), at
                    assert bench["fault"] == 0, at
        await bench.cycle(captured=0)
        assert (bench["active"], unpack(chunk_layout(CONFIG), bench["chunk"])["done"]) == (0, 0), where


@cocotb.test()
async def faults(dut):
    """Output, residual or scales past their memory: in the cycle of the first chunk that is."""
    bench = Bench(dut)
    await bench.begin(start=0, layer=0, captured=0)
    act, half, ports = CONFIG.activation_words, CONFIG.activation_words // 2, CONFIG.ports
    pixels = 2 * ports + 1
    good = {"kind": Kind.SUM, "out_h": 1, "out_w": pixels, "out_channels": 1, "out_plane": ports, "out_base": 0, "residual_base": half,
            "residual": 1, "scale_base": 0, "clamp_high": 255}
    cases = [
        ({}, None, 0),
        ({"out_base": act - 2 * ports}, 2 * ports, Error.ADDRESS),
        ({"out_base": act - 2 * ports, "residual": 0}, 2 * ports, Error.ADDRESS),
        ({"residual_base": act - 2 * ports}, 2 * ports, Error.ADDRESS),
        ({"residual_base": half - 2 * ports}, 2 * ports, Error.ADDRESS),
        ({"residual_base": half - 2 * ports, "residual": 0}, None, 0),
        ({"scale_base": CONFIG.scale_words - 1}, None, 0),
        ({"scale_base": CONFIG.scale_words - 1, "out_channels": CONFIG.outputs + 1, "out_plane": 4 * ports}, 0, Error.SCALE_ADDRESS),
        ({"out_channels": CONFIG.word + 1, "out_plane": act}, 0, Error.ADDRESS),
    ]
    for changes, pixel, error in cases:
        layer = {**good, **changes}
        if layer["out_channels"] > CONFIG.outputs and CONFIG.outputs == CONFIG.word and error is Error.SCALE_ADDRESS:
            continue
        await start(bench, layer)
        seen, number = [], 0
        for tile in layers.chunks(CONFIG, layer):
            await bench.cycle(captured=1)
            for row in tile:
                for chunk in row:
                    await bench.cycle(captured=0)
                    at = (number, chunk["index"], chunk["write"])
                    if bench["fault"]:
                        seen.append((at, bench["fault"]))
                number += 1
        if error:
            (first, _, write), code = seen[0]
            assert write == 1 and code == error, f"{changes}: {seen}"
            assert first == pixel or changes.get("out_channels", 0) > 1, f"{changes}: {seen}"
        else:
            assert not seen, f"{changes}: {seen}"
