"""Passes: tiles, copies and what the host keeps in between; the golden machine's codes against the integer executor's."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import fusion, schedule, tiling
from compiler.network import Conv, NetworkError, Pool, identity
from compiler.passes import Compute, Deliver, Fetch, timing
from compiler.quantized import run
from compiler.resident import COPY, copy_of
from compiler.tile import needs
from golden.machine import Machine
from sdp.config import NAMED
from sdp.encoding import decode, encode
from sdp.program import Kind
from sim.compare import differences
from sim.harness import Harness
from tests import large
from tests.test_schedule import conv, network_of, networks, quantized

TINY = dataclasses.replace(NAMED["tiny"], activation_words=64)


def depthwise(rng, name, source, channels, kernel=3, **more):
    weight = rng.normal(size=(channels, 1, kernel, kernel)) / kernel
    return Conv(name=name, input=source, weight=weight, bias=rng.normal(size=channels), pad=(kernel // 2,) * 4, depthwise=True, **more)


@st.composite
def stacks(draw):
    """Depthwise and pointwise layers with additions of any two tensors that fit."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = (draw(st.integers(3, 8)), draw(st.integers(3, 8)), draw(st.sampled_from([4, 13, 24])))
    nodes, last = [], "x"
    for at in range(draw(st.integers(1, 5))):
        shapes = network_of(nodes, shape).shapes()
        channels, name = shapes[last][2], f"n{at}"
        match draw(st.sampled_from(["depthwise", "pointwise", "add", "add"])):
            case "depthwise":
                nodes.append(depthwise(rng, name, last, channels, stride=(draw(st.integers(1, 2)), 1), relu=draw(st.booleans())))
            case "pointwise":
                nodes.append(conv(rng, name, last, channels, draw(st.sampled_from([channels, 9])), 1, relu=draw(st.booleans())))
            case "add":
                other = draw(st.sampled_from([other for other, found in shapes.items() if found == shapes[last]]))
                nodes.append(identity(name, last, residual=other, relu=draw(st.booleans())))
        last = name
    return network_of(nodes, shape)


def assert_in_range_and_apart(compiled):
    """Every word that is read exists, and is one of the tensor that it should be: no live one is ever written over."""
    config = compiled.config
    half, numbers = config.activation_words // 2, {}

    def number(name):
        return numbers.setdefault(name, len(numbers) + 1)

    def words(base, plane, count, pixels):
        """One row per channel word."""
        at = base + np.arange(count)[:, None] * plane + np.arange(pixels)
        assert 0 <= at.min() and at.max() < config.activation_words
        return at

    for step in compiled.passes:
        owner = np.zeros(config.activation_words, dtype=int)
        for item in step.items:
            match item:
                case Fetch():
                    assert item.address % config.ports == 0
                    owner[words(item.address, 0, 1, item.box.count(config))] = number(item.box.tensor)
                case Compute():
                    layer, command = item.part.layer, item.command
                    count = -(-command.out_channels // config.word)
                    source = words(command.in_base, command.in_plane, command.in_words if layer.kind is Kind.CONV else count,
                                   command.in_h * command.in_w)
                    assert (owner[source] == number(layer.input)).all(), f"{step.name}: {layer.input} is gone"
                    if command.residual:
                        residual = words(command.residual_base, command.out_plane, count, command.out_h * command.out_w)
                        assert (owner[residual] == number(layer.residual)).all(), f"{step.name}: {layer.residual} is gone"
                        assert len(np.unique(residual // half)) == len(np.unique(source // half)) == 1
                        assert residual[0, 0] // half != source[0, 0] // half
                    target = words(command.out_base, command.out_plane, count, command.out_h * command.out_w)
                    assert not np.isin(target, source).any()
                    owner[target] = number(layer.name)
                case Deliver():
                    at = words(item.address, item.box.plane(config), len(item.box.words), item.box.pixels)
                    assert (owner[at] == number(item.box.tensor)).all(), f"{step.name}: {item.box.tensor} is gone"


def assert_passes_agree(network, codes, config):
    """All codes that reach the host, all cycles, and the streams of every pass given the tensors of the whole frame."""
    compiled = schedule.compile(network, config)
    expected = run(compiled.network, codes, config.group)
    assert_in_range_and_apart(compiled)
    for trace in (True, False):
        frame = compiled.run_golden(Machine(config, len(codes)), codes, trace)
        assert set(frame.codes) == ({layer.name for layer in compiled.network.layers} if trace else {o.name for o in compiled.outputs()})
        assert compiled.network.layers[-1].name in frame.codes
        for name, value in frame.codes.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert [result.cycles for result in frame.results] == [step.cycles for step in compiled.passes]
    machine, one = Machine(config), {name: tensor[0] for name, tensor in frame.tensors.items()}
    machine.run(compiled.setup())
    for stream, step, result in zip(compiled.programs(one), compiled.passes, frame.results):
        assert len(decode(config, stream)) > 1
        np.testing.assert_array_equal(machine.run(stream).outputs[0], result.outputs[0], err_msg=step.name)
    return compiled


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks() | stacks(), st.sampled_from([32, 64, 128]), st.sampled_from([60, 160, 2048]), st.sampled_from([12, 512]))
def test_tiles_compute_what_the_executor_does(network, depth, weights, scales):
    config = dataclasses.replace(TINY, activation_words=depth, weight_words=weights, scale_words=scales)
    result, codes = quantized(network, config, count=2)
    try:
        assert_passes_agree(result, codes, config)
    except NetworkError as error:
        assert re.search(r"the memories have|one output pixel needs \d+ words of its input", str(error))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks() | stacks())
def test_tiles_on_small(network):
    config = dataclasses.replace(NAMED["small"], activation_words=64)
    assert_passes_agree(*quantized(network, config, count=2), config)


def test_what_fits_is_one_program():
    rng = np.random.default_rng(0)
    nodes = [depthwise(rng, "d", "x", 20), conv(rng, "p", "d", 20, 20, 1, residual="x"), identity("y", "p", residual="d", relu=True)]
    network, codes = quantized(network_of(nodes, (5, 4, 20)), NAMED["tiny"])
    compiled = assert_passes_agree(network, codes, NAMED["tiny"])
    assert len(compiled.passes) == 1 and [layer.name for layer in compiled.network.layers] == ["d", "p", "y"]
    assert compiled.unpack(Machine(NAMED["tiny"]).run([*compiled.setup()[:-1], *compiled.frame(codes[0])]).outputs)["y"].shape == (1, 5, 4, 20)


def test_a_tensor_that_is_added_to_itself_is_copied():
    network, codes = quantized(network_of([identity("y", "x", residual="x")], (5, 4, 20)), NAMED["tiny"])
    compiled = assert_passes_agree(network, codes, NAMED["tiny"])
    assert [layer.name for layer in compiled.network.layers] == ["y" + COPY, "y"]


def test_an_odd_circle_of_halves_is_copied_not_cut():
    """x, a and b are added in all three pairs; there are two halves."""
    rng = np.random.default_rng(0)
    nodes = [conv(rng, "a", "x", 8, 8), conv(rng, "b", "x", 8, 8), identity("ax", "a", residual="x"), identity("bx", "b", residual="x"),
             identity("ab", "a", residual="b"), identity("s", "ax", residual="bx"), identity("y", "s", residual="ab")]
    network, codes = quantized(network_of(nodes, (4, 4, 8)), NAMED["tiny"])
    compiled = assert_passes_agree(network, codes, NAMED["tiny"])
    assert len(compiled.passes) == 1
    assert sum(layer.name.endswith(COPY) for layer in compiled.network.layers) == 1


@pytest.mark.parametrize("signed", [False, True])
def test_copies_change_no_code(signed):
    network, _ = quantized(network_of([identity("y", "x", residual="x")], (16, 16, 1)), NAMED["tiny"])
    copy, layer = copy_of(dataclasses.replace(network.layers[0], residual_signed=signed))
    codes = np.arange(256).reshape(1, 16, 16, 1).astype(np.int16) - (128 if signed else 0)
    one = dataclasses.replace(network, layers=(dataclasses.replace(copy, input=network.input),))
    np.testing.assert_array_equal(run(one, codes, 4)[copy.name], codes)
    assert layer.residual == copy.name


def test_the_cheapest_of_the_timed_tilings_is_taken():
    config = dataclasses.replace(TINY, activation_words=128)
    network, _ = quantized(network_of([conv(np.random.default_rng(0), "y", "x", 24, 60)], (12, 10, 24)), config)
    layer, chosen = network.layers[0], tiling.make(config, network.layers[0])
    every = {found: timing(config, tiling.weave(config, tiling.jobs(config, layer, found))) for found, _ in tiling.Space(config, layer).all()}
    assert len(every) > 20
    assert chosen.cycles <= 1.05 * min(every.values()), "the estimate ranks badly"
    assert "tiles of" in chosen.name


def test_a_strided_window_of_one_pixel_loads_no_more_than_it_reads():
    network, _ = quantized(network_of([conv(np.random.default_rng(0), "y", "x", 24, 24, 1, stride=(2, 3))], (9, 10, 24)), TINY)
    step = tiling.make(TINY, network.layers[0])
    assert sum(len(item.box.words) * item.box.pixels for item in step.loads) == 2 * 5 * 4


def test_tiles_of_padding_alone_are_refused():
    network, _ = quantized(network_of([conv(np.random.default_rng(0), "y", "x", 4, 4)], (4, 4, 4)), TINY)
    layer = dataclasses.replace(network.layers[0], out_shape=(20, 4, 4))
    with pytest.raises(NetworkError, match=r"^layer 'y': a tile of rows 10 ... 11 and columns 0 ... 3 sees nothing but padding"):
        needs(TINY, tiling.parts_of_size(layer, 4)[0], range(10, 12), range(4))


def test_a_frame_of_several_passes_is_no_single_program():
    network, codes = quantized(network_of([conv(np.random.default_rng(0), "y", "x", 12, 12)], (9, 9, 12)), TINY)
    compiled = schedule.compile(network, TINY)
    assert len(compiled.report()) == len(compiled.passes) == 1
    again = dataclasses.replace(network.layers[0], name="z", input="y")
    compiled = schedule.compile(dataclasses.replace(network, layers=(network.layers[0], again)), TINY)
    with pytest.raises(NetworkError, match=r"^network 'n' is 2 programs per frame on 'tiny', not one$"):
        compiled.frame(codes[0])


def test_fusing_keeps_a_tensor_on_the_chip_if_all_its_readers_want_one_box_of_it():
    rng, config = np.random.default_rng(0), dataclasses.replace(TINY, activation_words=256)
    nodes = [depthwise(rng, "d", "x", 9), conv(rng, "p", "d", 9, 9, 1), conv(rng, "q", "p", 9, 9, 1, residual="p"), depthwise(rng, "e", "p", 9)]
    network, codes = quantized(network_of(nodes, (20, 20, 9)), config, count=1)
    d, p, q, e = network.layers
    assert fusion.make(config, (d, p, q), {"q"}, 1 << 30) is None, "input and residual are one"
    assert fusion.spans((p, q, e), 0, range(4)) is None, "nothing reads q"
    assert fusion.spans((p, dataclasses.replace(e, residual="p")), 0, range(4)) is None, "a halo for one reader only"
    assert [(span.out, span.inside) for span in fusion.spans((d, p, e), 0, range(4, 8))] == [
        (range(3, 9), range(2, 10)), (range(3, 9), range(3, 9)), (range(4, 8), range(3, 9))]
    compiled = assert_passes_agree(network, codes, config)
    assert any("fused" in step.name for step in compiled.passes)


def test_fusing_saves_traffic_where_layers_are_short():
    network = large.mobilenet(NAMED["large"].group)
    fused = schedule.compile(network, NAMED["large"])
    apart = [tiling.make(NAMED["large"], layer) for layer in network.layers]
    assert sum(step.cycles for step in fused.passes) < 0.85 * sum(step.cycles for step in apart)
    assert sum(sum(step.traffic) for step in fused.passes) < 0.6 * sum(sum(step.traffic) for step in apart)


def test_passes_on_the_hardware():
    """Tiles, halos, fused layers, depthwise layers and additions: every code, cycle and counter of the RTL is the golden machine's."""
    rng, config = np.random.default_rng(1), NAMED["tiny"]
    nodes = [conv(rng, "a", "x", 24, 24, stride=(2, 1), relu=True), conv(rng, "b", "a", 24, 24, residual="a"),
             Pool(name="m", input="b", kind="max", kernel=(3, 2), stride=(2, 1), pad=(1, 0, 1, 1)), identity("s", "m", residual="m", relu=True),
             depthwise(rng, "d", "s", 24), conv(rng, "y", "d", 24, 9, 1)]
    network, codes = quantized(network_of(nodes, (22, 30, 24)), config, count=1)
    compiled = assert_passes_agree(network, codes, config)
    assert len(compiled.passes) > 2
    frame = compiled.run_golden(Machine(config), codes)
    streams = compiled.programs({name: tensor[0] for name, tensor in frame.tensors.items()})
    setup, *runs = Harness(config).run([encode(config, compiled.setup()), *streams])
    assert setup.ok
    for step, run_, expected in zip(compiled.passes, runs, frame.results, strict=True):
        assert not differences(config, run_, expected), step.name


@pytest.mark.parametrize("made, config", [
    # `small` holds the weights of no 16 channels of 3x3x512, nor their sums.
    (lambda: large.resnet18(8, widths=(64, 128, 256, 256)), NAMED["small"]),
    (lambda: large.resnet18(8), dataclasses.replace(NAMED["small"], reduction=4608, weight_words=1024)),
    (lambda: large.mobilenet(8), NAMED["small"]),
])
def test_networks_of_224_pixels(made, config):
    network = made()
    codes = np.random.default_rng(0).integers(0, 256, (1, *network.input_shape)).astype(np.int16)
    compiled = schedule.compile(network, config)
    assert_in_range_and_apart(compiled)
    frame = compiled.run_golden(Machine(config), codes)
    expected = run(compiled.network, codes, config.group)
    for name, value in frame.codes.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
        assert len(np.unique(value)) > 3
    assert sum(result.cycles for result in frame.results) == sum(step.cycles for step in compiled.passes)


def test_a_reduction_that_no_accumulator_holds_is_said_in_one_sentence():
    with pytest.raises(NetworkError, match=r"^layer 's3b0': each output sums over 4608 codes, the accumulators of 'small' hold 2304$"):
        schedule.compile(large.resnet18(8), dataclasses.replace(NAMED["small"], reduction=2304))
