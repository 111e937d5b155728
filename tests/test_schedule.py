"""The compiler's programs: memory, weights, loads, and the golden machine's codes against the integer executor's."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import memory, onnx_import, packing, schedule
from compiler.network import Conv, Network, NetworkError, Pool
from compiler.quantize import calibrate, quantize
from compiler.quantized import run
from golden.machine import Machine
from golden.weights import W4_VALUES, unpack
from sdp import encoding
from sdp.config import NAMED, VARIANTS
from sdp.program import Layer, Load, Opcode

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


def conv(rng, name, source, inputs, outputs, kernel=3, **more):
    pad = kernel // 2
    return Conv(name=name, input=source, weight=rng.normal(size=(outputs, inputs, kernel, kernel)) / kernel, bias=rng.normal(size=outputs),
                pad=(pad,) * 4, **more)


@st.composite
def networks(draw):
    """Residual networks with strides, shortcuts and pooling, of a few small layers."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = (draw(st.integers(3, 7)), draw(st.integers(3, 7)), draw(st.sampled_from([1, 3, 9, 14])))
    nodes = [conv(rng, "stem", "x", shape[2], draw(st.integers(1, 30)), draw(st.sampled_from([1, 3])), relu=draw(st.booleans()))]
    for at in range(draw(st.integers(1, 3))):
        source, channels = nodes[-1].name, network_of(nodes, shape).shapes()[nodes[-1].name][2]
        relu = draw(st.booleans())
        match draw(st.sampled_from(["identity", "shortcut", "plain", "max"])):
            case "identity":
                nodes.append(conv(rng, f"a{at}", source, channels, draw(st.integers(1, 30)), relu=True))
                nodes.append(conv(rng, f"b{at}", f"a{at}", len(nodes[-1].bias), channels, relu=relu, residual=source))
            case "shortcut":
                outputs, stride = draw(st.integers(1, 30)), (2, draw(st.sampled_from([1, 2])))
                nodes.append(conv(rng, f"a{at}", source, channels, outputs, stride=stride, relu=True))
                nodes.append(conv(rng, f"s{at}", source, channels, outputs, 1, stride=stride))
                nodes.append(conv(rng, f"b{at}", f"a{at}", outputs, outputs, relu=relu, residual=f"s{at}"))
            case "plain":
                nodes.append(conv(rng, f"a{at}", source, channels, draw(st.integers(1, 30)), relu=relu))
            case "max":
                nodes.append(Pool(name=f"m{at}", input=source, kind="max", kernel=(3, 2), stride=(2, 1), pad=(1, 0, 1, 1)))
    height, width, channels = network_of(nodes, shape).shapes()[nodes[-1].name]
    nodes.append(Pool(name="avg", input=nodes[-1].name, kind="avg", kernel=(height, width), stride=(1, 1)))
    nodes.append(conv(rng, "y", "avg", channels, 5, 1))
    return network_of(nodes, shape)


def network_of(nodes, shape):
    return Network(name="n", input="x", input_shape=shape, nodes=tuple(nodes))


def quantized(network, config, seed=0, count=3):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, *network.input_shape))
    modes = {node.name: (int(rng.integers(1, 2 * config.group + 1)), bool(rng.integers(2))) for node in network.nodes}
    result = quantize(calibrate(network, images), config, modes)
    return result, result.encode(images)


def assert_machine_agrees(network, codes, config):
    compiled = schedule.compile(network, config)
    network = compiled.network
    expected = run(network, codes, config.group)
    machine = Machine(config, len(codes))
    machine.run(compiled.setup())
    for trace in (True, False, True):
        found = compiled.unpack(machine.run(compiled.frame(codes, trace)).outputs, trace)
        assert list(found) == ([layer.name for layer in network.layers] if trace else [network.layers[-1].name])
        for name, value in found.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    return compiled


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from(["tiny", "small"]))
def test_machine_computes_what_the_executor_does(network, name):
    config = dataclasses.replace(NAMED[name], weight_words=2048, activation_words=2048, scale_words=512)
    assert_machine_agrees(*quantized(network, config), config)


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from([48, 60, 90, 160]), st.sampled_from([5, 12, 30, 128]))
def test_weights_that_do_not_stay(network, weights, scales):
    """Loaded per image, in parts, beside the computation, but never over what the running layer reads: the machine would raise."""
    config = dataclasses.replace(NAMED["tiny"], weight_words=weights, scale_words=scales)
    result, codes = quantized(network, config)
    try:
        assert_machine_agrees(result, codes, config)
    except NetworkError as error:
        assert "the memories have" in str(error)


@settings(max_examples=60, deadline=None)
@given(networks(), st.sampled_from([64, 128, 256]))
def test_tensors_never_overlap_live_ones(network, depth):
    config = dataclasses.replace(NAMED["tiny"], activation_words=depth)
    shapes, half = network.shapes(), depth // 2
    steps = [memory.Step(output="x"), *(memory.Step(output=n.name, input=n.input, residual=n.residual) for n in network.nodes)]
    words = {name: schedule.tensor_words(config, shape) for name, shape in shapes.items()}
    try:
        places = memory.allocate(steps, words, depth)
    except memory.AllocationError as error:
        assert f"each of its halves has {half}" in str(error)
        return
    owner = {address: "x" for address in range(places["x"].base, places["x"].end)}
    for step in steps[1:]:
        sources = [source for source in (step.input, step.residual) if source is not None]
        for source in sources:
            place = places[source]
            assert all(owner[address] == source for address in range(place.base, place.end)), f"{step.output} reads {source}, which is gone"
        out = places[step.output]
        assert out.base % config.ports == 0 and out.base // half == (out.end - 1) // half
        assert not set(range(out.base, out.end)) & set(range(places[step.input].base, places[step.input].end))
        if step.residual is not None:
            residual = places[step.residual]
            assert residual.base // half != places[step.input].base // half
            assert out.base == residual.base or out.end <= residual.base or residual.end <= out.base
        owner |= {address: step.output for address in range(out.base, out.end)}


@pytest.mark.parametrize("name", ["tiny", "small"])
@pytest.mark.parametrize("w4", [False, True])
def test_packed_words_unpack_to_the_weights(name, w4):
    config, rng = NAMED[name], np.random.default_rng(3)
    weights = rng.choice(W4_VALUES, (3, 2, 20, 23)) if w4 else rng.integers(-127, 128, (3, 2, 20, 23))
    network, _ = quantized(network_of([conv(rng, "y", "x", 20, 23)], (4, 4, 20)), config)
    layer = dataclasses.replace(network.layers[0], weights=weights.astype(np.int16), w4=w4, kernel=(3, 2))
    high, low = unpack(config, packing.weight_words(config, layer, slice(0, 23)))
    channel_words, block = -(-20 // config.word), config.block(w4)
    for ky, kx, source, target in np.ndindex(*weights.shape):
        word = target // block * 6 * channel_words + (ky * 2 + kx) * channel_words + source // config.word
        column, slot = target % block, source % config.word
        if w4:
            found = (low if column < config.columns else high)[word, column % config.columns, slot]
        else:
            found = 16 * high[word, column, slot] + low[word, column, slot]
        assert found == weights[ky, kx, source, target]
    assert len(high) == packing.weight_count(config, layer, 23) == -(-23 // block) * 6 * channel_words
    assert np.count_nonzero(high) + np.count_nonzero(low) <= 2 * weights.size


def weight_loads(commands):
    return [c.tag if isinstance(c, Layer) else (c.address, c.data.shape[-2], c.sync) for c in commands
            if isinstance(c, Layer) or (isinstance(c, Load) and c.opcode is Opcode.LOAD_WEIGHTS)]


@pytest.mark.parametrize("depth, expected", [
    # All of the layers stay; a layer has 27 words, the last one 36.
    (90, ["a", "b", "y"]),
    # Side by side at both ends of the memory, the last layer in parts of at most half of it.
    (80, [(53, 27, False), "a", (0, 27, False), "b", (44, 36, False), "y"]),
    (60, [(33, 27, False), "a", (0, 27, False), "b", (33, 27, False), "y", (0, 18, False), "y"]),
    # Not side by side: what the running layer reads waits for its end.
    (40, [(13, 27, False), "a", (0, 13, False), (13, 14, True), "b", (27, 13, False), (4, 23, True), "y"]),
])
def test_weights_arrive_beside_the_computation(depth, expected):
    rng, config = np.random.default_rng(0), dataclasses.replace(NAMED["tiny"], weight_words=depth)
    nodes = [conv(rng, "a", "x", 12, 12, relu=True), conv(rng, "b", "a", 12, 12, relu=True), conv(rng, "y", "b", 12, 20, relu=True)]
    network = quantize_w8(network_of(nodes, (4, 4, 12)), config)
    codes = network.encode(rng.normal(size=(2, 4, 4, 12)))
    compiled = assert_machine_agrees(network, codes, config)
    assert weight_loads(compiled.frame(codes[0])) == expected


def quantize_w8(network, config):
    return quantize(calibrate(network, np.random.default_rng(0).normal(size=(3, *network.input_shape))), config)


def test_digits_on_every_configuration():
    network = onnx_import.read(DIGITS)
    images = np.random.default_rng(0).integers(0, 17, (4, 8, 8, 1)) / 16
    for config in (NAMED | VARIANTS).values():
        for budget, w4 in ((2 * config.group, False), (3, True)):
            result = quantize(calibrate(network, images), config, {node.name: (budget, w4) for node in network.nodes})
            compiled = assert_machine_agrees(result, result.encode(images), config)
            commands = compiled.frame(result.encode(images)[0])
            assert encoding.decode(config, encoding.encode(config, commands))
            assert sum(compiled.macs.values()) == sum(layer.macs for layer in result.layers)


@pytest.mark.parametrize("channels, sizes, message", [
    (24, dict(activation_words=16), r"^layer 'a': one output pixel needs 20 words of its input and 2 or more of its output in activation memory, "
     r"which has 16 for both$"),
    (12, dict(weight_words=8), r"^layer 'a': 12 output channels need 27 words of weights and 12 of scales, the memories have 8 and 128$"),
    (12, dict(reduction=96), r"^layer 'a': each output sums over 108 codes, the accumulators of 'tiny' hold 96$"),
])
def test_what_does_not_fit_is_said_in_one_sentence(channels, sizes, message):
    config = dataclasses.replace(NAMED["tiny"], **sizes)
    network = quantize_w8(network_of([conv(np.random.default_rng(0), "a", "x", channels, 12)], (4, 4, channels)), config)
    with pytest.raises(NetworkError, match=message):
        schedule.compile(network, config)
