"""Energy of what is not in the shell, OLAccel and Eyeriss, and of a plain 16-bit array: by hand, and Eyeriss beside the power of the chip."""

import dataclasses
import math
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import built, energy, energy_models, int16, report, static
from compare.layer import ModeLayer
from compiler import quantize
from examples.digits import data
from examples.digits.demo import MODEL
from golden import eyeriss, eyeriss_published, olaccel, olaccel_cycles
from golden.eyeriss_traffic import counts
from golden.machine import Machine
from sdp.config import NAMED
from sdp.program import Kind
from sim import flow
from synth.energy import CONSTANTS, PARTS, Bounded, Constants

PE = tomllib.loads(CONSTANTS.read_text())["pe"]
SMALL, FIGURES = NAMED["small"], Constants("published")
close = pytest.approx


def whole(found):
    """The published parts add up."""
    assert found["total"]["value"] == close(sum(found[part] for part in PARTS)) and found["total"]["low"] < found["total"]["value"] < found["total"]["high"]
    return found


# Eyeriss


def test_new_constants_follow_from_published_ones():
    for bound in ("value", "low", "high"):
        assert PE["16x4"][bound] == close(math.sqrt(PE["4"][bound] * PE["16"][bound]), abs=5e-4)
    assert (PE["eyeriss"]["value"], PE["eyeriss"]["low"]) == (PE["16"]["value"], PE["16"]["low"])
    assert PE["eyeriss"]["high"] == close(eyeriss_published.picojoules("VGG-16"), abs=5e-3)


@pytest.mark.parametrize("network, factor", [("AlexNet", 2.8), ("VGG-16", 4.7)])
def test_eyeriss_beside_the_power_of_the_chip(network, factor):
    """Its energy is measured without DRAM, at 65 nm, its clock in it; the model is at 45 nm and has no clock: the document states by how much it is below."""
    batch, layers = eyeriss_published.PUBLISHED[network]
    found = whole(energy_models.of_eyeriss([layer for layer, _ in layers], batch)["published"])
    chip = eyeriss_published.TOTALS[network].power * eyeriss_published.TOTALS[network].cycles / batch  # mW times ms, so uJ
    modelled = found["array"] + found["activations"] + found["weights"]
    assert chip / modelled == close(factor, abs=0.05)
    assert modelled * PE["eyeriss"]["low"] / PE["eyeriss"]["value"] < chip < modelled * (PE["eyeriss"]["high"] + 0.005) / PE["eyeriss"]["value"]
    assert found["dram"] == close(eyeriss_published.TOTALS[network].dram * 8 * 15 / batch, rel=0.13)  # MB at 15 pJ per bit
    assert " and ".join(("2.8 (AlexNet)", "4.7 times that (VGG-16")) in report.ASSUMPTIONS


def test_eyeriss_by_hand():
    """Register file 1, neighbour 2, buffer 6 MACs; a filter passes the buffer twice and comes from DRAM once per load."""
    layer = dataclasses.replace(eyeriss_published.PUBLISHED["AlexNet"][1][2][0], zeros=0.5, out_zeros=0.25)
    c, found = counts(layer, 4, eyeriss.search(layer, 4, True)), energy_models.of_eyeriss([layer, layer])["published"]
    mac, word, images = 0.947e-6, 16 * 15e-6, 4 / 2
    assert found["array"] * images == close(mac * (c.macs - c.gated + c.rf + 2 * c.array))
    assert found["weights"] * images == close(mac * 12 * c.dram_filters)
    assert found["activations"] * images == close(mac * 6 * (c.buffer + c.fills - 2 * c.dram_filters))
    assert found["dram"] * images == close(word * c.dram) and found["scales"] == 0
    assert (found["total"]["value"] - found["resident"]) * images == close((word + 6 * mac) * c.dram_filters)
    assert found["registers"] * images == close(mac * (c.rf + 2 * c.array)) and found["registers"] < found["array"]
    whole(found)


def test_zeros_are_those_of_the_float_network():
    network, images = flow.read(MODEL), data.load()["test"].images[:4]
    layers, tensors = {layer.name: layer for layer in energy_models.with_zeros(network, images)}, network.run(images)
    nodes = [node for node in network.nodes if node.name in layers]
    assert len(layers) == len(nodes) > 3 and any(layer.zeros > 0.1 for layer in layers.values())
    for node in nodes:
        shares = [float((tensors[name] == 0).mean()) for name in (node.input, node.name)]
        assert [layers[node.name].zeros, layers[node.name].out_zeros] == close(shares)


# OLAccel


def weights(channels=16):
    """Of 16 input channels: channel 0 has one outlier, channel 1 two; 17 chunk cycles, so 17 chunks of 80 bits."""
    found = np.ones((1, 1, 16, channels), dtype=np.int16)
    found[0, 0, 0, 3], found[0, 0, 1, [2, 5]] = 100, (50, -60)
    return found


def layer(**more):
    """A pixel beside another, 16 channels to 16, 1 x 1."""
    return ModeLayer(**{"name": "c", "kind": Kind.CONV, "input": "x", "in_shape": (1, 2, 16), "out_shape": (1, 2, 16), "weights": weights(), "bias": np.zeros(16),
                        "multiplier": np.ones(16), "shift": 0, "in_signed": False, "clamp": (0, 255), "in_scale": 1.0, "out_scale": 1.0, "mode": (30, 30)} | more)


def codes(**pixel):
    """Two pixels, the first with these codes by channel, the other one zero."""
    found = np.zeros((1, 1, 2, 16), dtype=np.int16)
    for channel, value in pixel.items():
        found[0, 0, 0, int(channel[1:])] = value
    return found


def olaccel_energy(tensors, *layers, config=SMALL):
    return whole(energy_models.of_olaccel(SimpleNamespace(run=lambda network, images: tensors), SimpleNamespace(layers=layers), next(iter(tensors.values())),
                                          config)["published"])


def read(words):
    return FIGURES.sram(words, "read").value


def write(words):
    return FIGURES.sram(words, "write").value


def test_olaccel_by_hand():
    """Three normal codes and an outlier; 32 places with an outlier take 32 * 4 + 16 + 5 bits."""
    found = olaccel_energy({"x": codes(c0=5, c1=7, c2=1, c3=200), "c": codes(c9=16)}, layer())
    # Channel 0: 16 products and one for the only outlier weight, channel 1: twice 16. The outlier: 16 of 16 x 4.
    assert found["array"] * 1e6 == close((17 + 32 + 16) * 0.120 + 16 * 0.337)
    tensor = 32 * 4 + 16 + 5
    # In, read once (one block of 16 channels); out, sent.
    assert found["activations"] * 1e6 == close(2 * tensor * (read(512) + write(512)))
    assert found["dram"] * 1e6 == close(2 * tensor * 15.0)
    # 17 chunks for both pixels, shared by six groups; one more for the outlier.
    assert found["weights"] * 1e6 == close((17 * 80 * 2 / 6 + 80) * read(SMALL.weight_words))
    assert found["scales"] * 1e6 == close(32 * 48 * read(SMALL.scale_words)) and found["resident"] == close(found["total"]["value"])


def test_olaccel_in_more_bits():
    """Two passes, one per nibble; no outliers among the codes. What is mostly large lies in 8 bits."""
    first = {"mode": (0, 30)}
    found = olaccel_energy({"x": codes(c0=0x13, c1=0x10, c2=0x05), "c": np.full((1, 1, 2, 16), 200, dtype=np.int16)}, layer(**first))
    assert found["array"] * 1e6 == close((17 + 32 + 17 + 16) * 0.120)  # high: 0, 1; low: 0, 2
    entering, leaving = 32 * 4 + 2 * (16 + 5), 32 * 8
    assert found["activations"] * 1e6 == close((entering + leaving) * (read(512) + write(512)))
    assert found["weights"] * 1e6 == close(2 * 17 * 80 * 2 / 6 * read(SMALL.weight_words))


def test_olaccel_lanes_blocks_padding_and_residuals():
    """20 output channels are two blocks, whose second one has four lanes; 20 input channels are two chunks."""
    shape = {"in_shape": (1, 2, 20), "out_shape": (1, 2, 20), "weights": np.ones((1, 1, 20, 20), dtype=np.int16), "residual": "x"}
    tensors = {name: np.repeat(codes(c0=5)[..., :1], 20, axis=3) for name in ("x", "c")}
    found = olaccel_energy(tensors, layer(**shape))
    assert found["array"] * 1e6 == close(20 * 20 * 0.120)
    entering, results = 2 * 32 * 4, 2 * 20 * 4
    reads = 2 * entering + results + results  # blocks; residual; sent
    assert found["activations"] * 1e6 == close(reads * read(512) + (entering + results) * write(512))
    assert found["weights"] * 1e6 == close(40 * 80 * 2 / 6 * read(SMALL.weight_words))


def test_olaccel_on_the_channel_unit():
    """A maximum over 1 x 2 pixels, a depthwise one with 8-bit weights."""
    place = {"in_shape": (1, 2, 16), "out_shape": (1, 1, 16), "kernel": (1, 2), "name": "c", "mode": None}
    tensors = {"x": codes(c0=5), "c": codes(c0=5)[:, :, :1]}
    pool, depthwise = (olaccel_energy(tensors, layer(**place | {"kind": kind, "weights": given})) for kind, given in
                       ((Kind.MAX, None), (Kind.DEPTHWISE, np.ones((1, 2, 16), dtype=np.int16))))
    assert pool["array"] == depthwise["array"] == close(2 * 16 * 0.298e-6) and pool["activations"] == depthwise["activations"]
    assert pool["weights"] == 0 and depthwise["weights"] * 1e6 == close(2 * 16 * 8 * read(SMALL.weight_words))


def test_olaccel_weights_that_do_not_fit():
    config = dataclasses.replace(SMALL, columns=1, outputs=1, weight_words=2)
    tensors = {"x": codes(c0=5), "c": codes()}
    roomy, tight = (olaccel_energy(tensors, layer(), config=c) for c in (dataclasses.replace(config, weight_words=5), config))
    again = 17 * 80 - 2 * 16 * 10  # 160 bits per word of one column
    assert roomy["total"]["value"] - roomy["resident"] == close((17 * 80 - 5 * 160) * (15 + write(5)) / 1e6)
    assert (tight["total"]["value"] - tight["resident"]) * 1e6 == close(again * (15 + write(2)))
    assert tight["weights"] * 1e6 == close(17 * 80 * 2 / 6 * read(2) + again * write(2))
    assert tight["dram"] * 1e6 == close(again * 15 + 2 * 32 * 4 * 15)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 16, 17, 40]), st.booleans())
def test_products_are_what_groups_take_time_for(seed, channels, signed):
    """Where all lanes have a channel a cycle is 16 products, one more for each only outlier; the outlier groups' time counts alike."""
    numbers = np.random.default_rng(seed)
    shape = 3, 3, 5, channels
    drawn = np.where(numbers.random(shape) < 0.1, numbers.integers(-128, 120, shape), numbers.integers(-8, 8, shape)).astype(np.int16)
    products, cycles = energy_models.chunk_products(drawn), olaccel.chunk_cycles(drawn)
    chunks, _ = olaccel.encode_chunks(olaccel.lanes(drawn).reshape(-1, 16))
    lanes = np.minimum(16, channels - 16 * np.arange(cycles.shape[-1]))
    assert np.array_equal(products, cycles * lanes + (chunks["msb"] != 0).reshape(cycles.shape))
    image = numbers.integers(-20 if signed else 0, 40, (2, 4, 4, 5)).astype(np.int16)
    one = layer(in_shape=(4, 4, 5), out_shape=(4, 4, channels), kernel=(3, 3), pad=(1, 1), weights=drawn, in_signed=signed)
    passes, outliers = energy_models.operands(one, image)
    work = olaccel_cycles.work(image, drawn, (1, 1), (1, 1), (4, 4), signed)
    assert olaccel_cycles.convolve(passes[0], cycles, (1, 1), (1, 1), (4, 4)).sum() == work.normal.sum()
    assert olaccel_cycles.convolve(outliers, cycles, (1, 1), (1, 1), (4, 4)).sum() == work.outlier.sum()


# A plain 16-bit array


@pytest.fixture(scope="module")
def digits():
    split = data.load()
    arithmetic = static.Static(built.machine("int8"))
    return arithmetic, arithmetic.network(quantize.calibrate(flow.read(MODEL), split["calibration"].images[:32]), {}), split["test"].images[:2]


def test_16_bits_on_the_golden_machine(digits):
    """The codes of INT8, in the time of its own machine."""
    arithmetic, network, images = digits
    config = built.machine("int16")
    compiled = built.compiled_for(network, config)
    machine = Machine(config, images=len(images))
    machine.run(compiled.setup())
    result, last = machine.run(compiled.frame(network.encode(images))), network.layers[-1].name
    assert np.array_equal(compiled.unpack(result.outputs)[last], arithmetic.run(network, images)[last])
    made = built.build(arithmetic, network, config, images)
    assert made.total == result.busy
    conv = sum(float(c) for c, command in zip(made.cycles, made.layers) if command.kind is Kind.CONV)
    macs = sum(one.macs for one in network.layers if one.kind is Kind.CONV)
    assert conv * config.nibble_multipliers >= int16.PRODUCTS * macs and config.nibble_multipliers == built.machine("int8").nibble_multipliers


def test_energy_of_16_bits(digits):
    """An element of 16 bits per multiplication; all else as for any machine in the shell."""
    arithmetic, network, images = digits
    made = built.build(arithmetic, network, built.machine("int16"), images)
    macs = sum(one.macs for one in network.layers if one.kind is Kind.CONV)
    idle = energy.inference(made, dict.fromkeys([one.name for one in network.layers], 0.0), None)
    found = int16.inference(made, network)
    for basis in ("published", "library"):
        constants = Constants(basis)
        channel = sum((constants.array(made.config, command) for command in made.layers if command.kind is not Kind.CONV), Bounded())
        array = constants.element(16) * macs + channel
        assert found[basis]["array"] * 1e6 == close(array.value)
        assert found[basis]["total"]["value"] == close(sum(found[basis][part] for part in PARTS))
        assert all(found[basis][part] == close(idle[basis][part]) for part in PARTS if part != "array")
        assert found[basis]["total"]["value"] == close(found[basis]["resident"])  # the digits' weights stay
        for bound in ("value", "low", "high"):
            assert found[basis]["total"][bound] - idle[basis]["total"][bound] == close(getattr(constants.element(16), bound) * macs / 1e6)
