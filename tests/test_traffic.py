"""What moves: the closed formulas against loops over every access, and the machine's counters against the formulas."""

import dataclasses
import itertools
import random

import numpy as np
import pytest

from compiler import schedule
from compiler.network import identity
from golden import traffic
from golden.machine import Machine
from golden.traffic import Traffic
from sdp.config import NAMED
from sdp.encoding import encode
from sdp.program import End, Kind, Layer, Load, Opcode, Store
from sdp.registers import BY_NAME, TRAFFIC
from sim.compare import differences
from sim.harness import Harness
from sim.random_layer import build, draw
from tests import layers
from tests.sizes import ALL
from tests.test_schedule import conv, network_of, quantized

TINY = NAMED["tiny"]


def walk(config, layer: Layer) -> Traffic:
    """Output pixel by output pixel, tap by tap, word by word, as a person would read the layer; tiles from their size in pixels."""
    counts = dict.fromkeys(("operand_reads", "channel_reads", "residual_reads", "result_writes", "array_weight_reads", "depthwise_weight_reads", "scale_reads"), 0)
    conv, weighted = layer.kind is Kind.CONV, layer.kind in (Kind.CONV, Kind.DEPTHWISE)
    size = config.columns * (1 + layer.w4) if conv else config.word
    span, length = (config.ports, config.rows // config.ports) if conv else (1, 1)
    for _ in range(0, layer.out_channels, size):
        strips = 0
        for y in range(layer.out_h):
            for x in range(layer.out_w):
                strips += x % span == 0
                for ky, kx, _ in itertools.product(range(layer.kernel_h), range(layer.kernel_w), range(layer.in_words if conv else 1)):
                    row, column = y * layer.stride_h + ky - layer.pad_top, x * layer.stride_w + kx - layer.pad_left
                    if 0 <= row < layer.in_h and 0 <= column < layer.in_w:
                        counts["operand_reads" if conv else "channel_reads"] += 1
        while strips > 0:
            strips -= length
            words = weighted * layer.kernel_h * layer.kernel_w * (layer.in_words if conv else 1)
            # Ten bits per slot: those of one column, `word` slots, take 10 * word of the 8 * word bits of a beat.
            counts["array_weight_reads" if conv else "depthwise_weight_reads"] += words * (-(-config.columns * 10 // 8) if conv else 2)
            # The drain walks all pixels and channels that a tile has room for.
            counts["scale_reads"] += span * length * size // config.outputs * config.scale_beats
    for _ in range(layer.out_h * layer.out_w):
        for _ in range(0, layer.out_channels, config.outputs):
            counts["result_writes"] += 1
            counts["residual_reads"] += layer.residual
    return Traffic(**counts)


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.name)
@pytest.mark.parametrize("kind", Kind)
def test_formulas_are_the_loops(config, kind):
    rng = random.Random(f"{config.name} {kind}")
    for _ in range(40):
        header = layers.header(rng, config, kind)
        layer = Layer(**header)
        found = traffic.layer_traffic(config, layer)
        assert found == walk(config, layer), layer
        # The order of accesses that the controller's and the drain's tests are made of says the same.
        steps, chunks = layers.steps(config, header), [chunk for tile in layers.chunks(config, header) for row in tile for chunk in row]
        reads = sum(address is not None for *_, beats in steps for _, _, accesses in beats for address in accesses.values())
        assert found.operand_reads + found.channel_reads == reads
        assert found.weight_reads == len(steps) * {Kind.CONV: config.weight_beats, Kind.DEPTHWISE: 2}.get(kind, 0)
        assert (found.scale_reads // config.scale_beats, found.result_writes) == (len(chunks), sum(chunk["write"] for chunk in chunks))


@pytest.mark.parametrize("config", [TINY, NAMED["small"]], ids=lambda config: config.name)
def test_streams_are_counted_in_beats(config):
    for seed in range(20):
        program = build(config, [draw(config, seed), draw(config, seed + 50)])
        stream, result = encode(config, program), Machine(config).run(program)
        assert result.traffic == traffic.program_traffic(config, program)
        assert result.traffic.beats_in == len(stream) // config.word and result.traffic.beats_out == result.outputs.shape[1] == result.traffic.store_reads
        loaded = {opcode: sum(c.data.size for c in program if isinstance(c, Load) and c.opcode is opcode) for opcode in Opcode}
        assert result.traffic.load_writes * config.outputs == loaded[Opcode.LOAD_ACTIVATIONS]
        assert result.traffic.weight_writes * config.word == loaded[Opcode.LOAD_WEIGHTS]
        assert result.traffic.scale_writes * config.word == loaded[Opcode.LOAD_SCALES]
        assert sum(traffic.shares(config, program), Traffic()) == result.traffic


def test_traffic_of_a_compiled_network_needs_no_image():
    """Several programs per frame: what sizes alone say is what an image's programs move."""
    rng = np.random.default_rng(1)
    nodes = [conv(rng, "a", "x", 24, 24, stride=(2, 1), relu=True), identity("s", "a", residual="a", relu=True), conv(rng, "y", "s", 24, 9, 1)]
    network, codes = quantized(network_of(nodes, (22, 30, 24)), TINY, count=1)
    compiled = schedule.compile(network, TINY)
    assert len(compiled.passes) > 1
    results = compiled.run_golden(Machine(TINY), codes).results
    assert [traffic.program_traffic(TINY, program) for program in compiled.commands()] == [result.traffic for result in results]
    data = [(step.traffic, result.traffic) for step, result in zip(compiled.passes, results)]
    assert all(out == moved.beats_out and into < moved.beats_in for (into, out), moved in data)


def test_shares():
    """Loads belong to the next layer, what is stored to the one before."""
    layer = next(c for c in build(TINY, [draw(TINY, 3)]) if isinstance(c, Layer))
    load = Load(opcode=Opcode.LOAD_SCALES, address=0, data=np.zeros((5, TINY.scale_beats * TINY.word), dtype=np.uint8))
    store = Store(address=0, count=7, tail=1)
    own = traffic.command_traffic(TINY, layer)
    loaded, stored, ended = (traffic.command_traffic(TINY, c) for c in (load, store, End()))
    assert (loaded.scale_writes, stored.store_reads, stored.beats_out, ended) == (5 * TINY.scale_beats, 7, 7, Traffic(beats_in=1))
    assert traffic.shares(TINY, [load, layer, load, store, layer, load, store, End()]) == [loaded + own + stored, loaded + own + loaded + stored + ended]
    assert traffic.shares(TINY, [load, store, End()]) == []


def test_bits():
    config = NAMED["small"]
    moved = Traffic(operand_reads=1, channel_reads=2, residual_reads=3, store_reads=4, result_writes=5, load_writes=6, array_weight_reads=70, depthwise_weight_reads=2,
                    weight_writes=80, scale_reads=27, scale_writes=6, beats_in=11, beats_out=12)
    assert moved.counters() == dict(zip(TRAFFIC, (10, 11, 72, 80, 27, 6, 11, 12)))
    # Words of 128 bits, parts of 8 codes, weights of 1,280 bits in 10 beats, scales of 384 bits in 3.
    assert traffic.moved_bits(config, moved) == {
        "activations": (1280, 704), "weights": (7 * 1280 + 2 * 128, 8 * 1280), "scales": (9 * 384, 2 * 384), "dram": (11 * 128, 12 * 128)}
    assert Traffic(beats_in=2**32 + 5).counters()["beats_in"] == 5
    assert all(BY_NAME[name].access == "r" for name in TRAFFIC)


def test_any_counter_that_differs_is_named():
    stream = encode(TINY, build(TINY, [draw(TINY, 1)]))
    expected, [got] = Machine(TINY).run(stream), Harness(TINY).run([stream])
    assert differences(TINY, got, expected) == []
    for name, value in expected.traffic.counters().items():
        wrong = dataclasses.replace(got, traffic=got.traffic | {name: value + 1})
        assert differences(TINY, wrong, expected) == [f"{name} {value + 1}, expected are {value}"]
