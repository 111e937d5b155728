"""Networks that onnxruntime quantised run on their own integers: 500 images, every output equal, with nothing allowed for.

With scales that are powers of two this is an argument, and every code of every layer is compared: each number that onnxruntime computes
in single precision is an integer below 2**24 times a power of two, so none is ever rounded but to codes, ties to even, which is what the
output stage does. With any other scales it is a measurement: see docs/running.md.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from compiler import onnx_import, quantize, schedule
from compiler.quantized import run
from examples.digits import data
from golden.machine import Machine
from sdp.__main__ import main
from sdp.config import NAMED
from sim import flow
from sim.harness import Harness
from sim.verify import verify
from tests import quantised_models
from tests.onnx_models import node, save

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"
COUNT = 500
WIDE = dataclasses.replace(NAMED["small"], name="small-wide-scales", scale_bits=31)
"""Multipliers that hold single precision's 24 bits for every channel."""


@pytest.fixture(scope="module")
def digits():
    """(images to calibrate with, 500 images, their labels): first those that were held out from training."""
    split = data.load()
    images, labels = (np.concatenate([getattr(split["test"], name), getattr(split["train"], name)])[:COUNT] for name in ("images", "labels"))
    return split["calibration"].images[:64], images, labels


@pytest.fixture(scope="module")
def files(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    plain = quantised_models.quantise(DIGITS, digits[0], folder / "plain.onnx")
    return {"float32": plain, "powers of two": quantised_models.with_powers_of_two(plain, folder / "powers.onnx")}


def quantised(path, config, images):
    return quantize.quantize(quantize.calibrate(onnx_import.read(path), images[:8]), config)


def flat(codes):
    """Codes (n, h, w, c) in ONNX' order, (n, values)."""
    return np.moveaxis(codes, 3, 1).reshape(len(codes), -1)


def test_powers_of_two_in_every_code(files, digits):
    _, images, labels = digits
    path = files["powers of two"]
    wanted = quantised_models.runtime(path, images, optimised=False, every=True)
    by_default = quantised_models.runtime(path, images, optimised=True)
    assert (wanted[""].argmax(axis=1) == labels).mean() > 0.97
    # The narrowest multipliers that hold the ratios of all channels, and those of the configurations.
    for bits in (10, 16, 18, 31):
        config = dataclasses.replace(NAMED["small"], scale_bits=bits)
        network = quantised(path, config, images)
        assert all(layer.ties_even for layer in network.layers)
        found = run(network, network.encode(images), config.group)
        last = network.layers[-1].name
        np.testing.assert_array_equal(flat(found[last]), wanted[""])
        np.testing.assert_array_equal(flat(found[last]), by_default[""])
        compared = 0
        for layer in network.layers:
            if layer.name in wanted:
                # What a ReLU of ours leaves of codes that ONNX has before its Relu.
                np.testing.assert_array_equal(flat(found[layer.name]), wanted[layer.name].clip(*layer.clamp), err_msg=layer.name)
                compared += 1
        assert compared == len(network.layers) >= 11


def test_the_network_has_ties(files, digits):
    """Else the tests here would pass with any rounding: half away from zero is wrong in many outputs."""
    _, images, _ = digits
    config = NAMED["small"]
    network = quantised(files["powers of two"], config, images)
    codes = network.encode(images)
    away = dataclasses.replace(network, layers=tuple(dataclasses.replace(layer, ties_even=False) for layer in network.layers))
    even, away = (list(run(made, codes, config.group).values())[-1] for made in (network, away))
    assert (even != away).any(axis=(1, 2, 3)).sum() > COUNT // 4


def test_float32_scales_on_wide_multipliers(files, digits):
    _, images, labels = digits
    path = files["float32"]
    network = quantised(path, WIDE, images)
    codes = flat(run(network, network.encode(images), WIDE.group)[network.layers[-1].name])
    np.testing.assert_array_equal(codes, quantised_models.runtime(path, images, optimised=True)[""])
    assert (codes.argmax(axis=1) == labels).mean() > 0.97


def test_multipliers_are_the_single_precision_ratios(files, digits):
    """``scale * weight_scale / scale`` in single precision, in this order, with no bit lost in 31."""
    read = onnx_import.read(files["float32"])
    network = quantised(files["float32"], WIDE, digits[1])
    nodes, steps = {node.name: node for node in read.nodes}, {name: np.float32(codes.scale) for name, codes in read.codes.items()}
    for layer in network.layers:
        node = nodes[layer.name]
        if layer.weights is not None:
            ratio = steps[node.input] * node.weight_scale.astype(np.float32) / steps[node.name]
        else:
            size = np.float32(1 if node.kind == "max" else np.prod(node.kernel))
            ratio = np.full(1, steps[node.input] / (steps[node.name] * size))
        assert ratio.dtype == np.float32
        np.testing.assert_array_equal(layer.multiplier / 2.0**layer.shift, np.broadcast_to(ratio.astype(np.float64), layer.multiplier.shape))
        if layer.residual is not None:
            assert layer.residual_multiplier / 2.0**layer.shift == float(steps[node.residual] / steps[node.name])


@pytest.mark.parametrize("kind, config", [("powers of two", NAMED["small"]), ("powers of two", NAMED["tiny"]), ("float32", WIDE)],
                         ids=lambda x: getattr(x, "name", x))
def test_compiled_programs_on_the_golden_machine(files, digits, kind, config):
    _, images, _ = digits
    network = quantised(files[kind], config, images)
    compiled = schedule.compile(network, config)
    found = compiled.run_golden(Machine(config, COUNT), network.encode(images)).codes[compiled.network.layers[-1].name]
    np.testing.assert_array_equal(flat(found), quantised_models.runtime(files[kind], images, optimised=True)[""])


def test_ten_images_on_the_hardware(files, digits):
    _, images, _ = digits
    config, path = NAMED["small"], files["powers of two"]
    network = quantised(path, config, images)
    result = verify(schedule.compile(network, config), Harness(config), network.encode(images[:10]), trace=True)
    assert result.problems == [] and result.mismatches == 0
    # What the hardware equals is the golden machine's codes, and these are onnxruntime's.
    np.testing.assert_array_equal(flat(result.codes), quantised_models.runtime(path, images[:10], optimised=True)[""])


def test_a_channel_that_is_all_but_dead(tmp_path):
    """Its ratio is too small for a multiplier beside the others': what it yields, a bias, is kept, and its weights are what gives way."""
    rng = np.random.default_rng(3)
    scales = np.float32([2**-6, 2**-6 * 1.37e-5])
    tensors = {"w.q": rng.integers(-127, 128, (2, 3, 3, 3)).astype(np.int8), "w.s": scales, "s": np.float32(0.04), "z": np.int8(0),
               "b.q": np.int32([300, np.rint(50 / scales[1])]), "b.s": scales * np.float32(0.04), "t": np.float32(0.03)}
    nodes = [node("QuantizeLinear", "x s z", "x.q"), node("DequantizeLinear", "x.q s z", "xd"), node("DequantizeLinear", "w.q w.s", "w", axis=0),
             node("DequantizeLinear", "b.q b.s", "b", axis=0), node("Conv", "xd w b", "c"), node("QuantizeLinear", "c t z", "c.q"),
             node("DequantizeLinear", "c.q t z", "y")]
    path = save(tmp_path / "n.onnx", nodes, tensors, shape=("N", 3, 9, 7))
    images = rng.normal(size=(20, 9, 7, 3)).astype(np.float32)
    network = quantised(path, NAMED["small"], images)
    np.testing.assert_array_equal(network.layers[0].weights[..., 0].reshape(3, 3, 3), tensors["w.q"][0].transpose(1, 2, 0))
    codes = run(network, network.encode(images), NAMED["small"].group)[network.layers[-1].name]
    wanted = quantised_models.runtime(path, images, optimised=False)[""].reshape(len(images), 2, 7, 5)
    np.testing.assert_array_equal(codes[..., 1], wanted[:, 1])
    assert len(np.unique(wanted[:, 1])) == 1 and 60 < wanted[0, 1, 0, 0] < 70


def test_no_loss_at_all_leaves_the_integers_alone(files, digits):
    """What ``sdp run --max-loss 0`` runs."""
    _, images, _ = digits
    path, config = files["powers of two"], NAMED["small"]
    network = flow.choose(onnx_import.read(path), images[:8], None, config, 0.0).sdp
    codes = run(network, network.encode(images[:50]), config.group)[network.layers[-1].name]
    np.testing.assert_array_equal(flat(codes), quantised_models.runtime(path, images[:50], optimised=True)[""])


@pytest.mark.parametrize("loss", ["-0.5", "100.5"])
def test_a_loss_is_a_share_of_the_images(capsys, loss):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "n.onnx", "--test", "t.npz", "--calibration", "c.npz", f"--max-loss={loss}"])
    assert stopped.value.code == 2
    assert f"{loss}, but must be from 0 to 100 points" in capsys.readouterr().err
