"""Weights fitted to what a layer reads: the solution, its rounding, both in a layer."""

import dataclasses

import numpy as np
import pytest

from compiler import correction, rounding
from compiler.calibration import calibrate
from compiler.network import Conv, Network
from compiler.quantize import quantize
from compiler.quantized import run
from compiler.weights import ONE_DIGIT, alphabet, nearest, weight_scales
from golden.weights import allowed
from sdp.config import NAMED, VARIANTS

CONFIG = NAMED["small"]


@pytest.fixture
def data():
    """Correlated inputs and weights."""
    rng = np.random.default_rng(0)
    inputs = (rng.normal(size=(4000, 24)) @ rng.normal(size=(24, 24)) + 3).astype(np.float32)
    return inputs, rng.normal(size=(24, 6))


def test_solve_finds_what_made_the_data(data):
    inputs, weight = data
    found = rounding.solve(inputs, inputs @ weight + 5, np.zeros_like(weight), rounding.hessian_of(inputs), 1e-6)
    np.testing.assert_allclose(found, weight, atol=0.05)


def test_solve_keeps_weights_without_data():
    weight = np.ones((4, 2))
    inputs = np.zeros((10, 4), dtype=np.float32)
    np.testing.assert_allclose(rounding.solve(inputs, np.zeros((10, 2)), weight, rounding.hessian_of(inputs), 0.1), weight)


@pytest.mark.parametrize("config", [CONFIG, VARIANTS["small-plain"]], ids=lambda c: c.name)
@pytest.mark.parametrize("w4", [False, True])
def test_feedback_beats_the_nearest(data, config, w4):
    inputs, weight = data
    letters = alphabet(config, w4)
    hessian, scale = rounding.hessian_of(inputs), weight_scales(weight.T, letters)

    def error(codes):
        off = codes * scale - weight
        return float((off * (hessian @ off)).sum())

    codes = rounding.feedback(weight, hessian, scale, letters)
    assert error(codes) < 0.8 * error(nearest(weight / scale, letters))
    assert np.isin(codes, allowed(config, w4)).all()


def test_feedback_without_correlation_is_the_nearest(data):
    weight = data[1]
    scale = weight_scales(weight.T, ONE_DIGIT)
    np.testing.assert_array_equal(rounding.feedback(weight, np.eye(24), scale, ONE_DIGIT), nearest(weight / scale, ONE_DIGIT))


@pytest.fixture
def network():
    rng = np.random.default_rng(3)

    def conv(name, source, inputs, outputs, **more):
        weight = (rng.normal(size=(outputs, inputs, 3, 3)) / np.sqrt(9 * inputs)).astype(np.float32)
        return Conv(name=name, input=source, weight=weight, bias=rng.normal(size=outputs).astype(np.float32) / 4, pad=(1,) * 4, **more)

    return Network(name="n", input="x", input_shape=(8, 8, 16), nodes=(
        conv("a", "x", 16, 16, relu=True), conv("b", "a", 16, 16, residual="a", relu=True), conv("y", "b", 16, 10)))


def test_each_step_lowers_the_error_of_a_network(network):
    """On images that nothing was fitted to."""
    rng = np.random.default_rng(4)
    mix = rng.normal(size=(16, 16))
    images = np.maximum(rng.normal(size=(96, 8, 8, 16)) @ mix, 0).astype(np.float32)
    calibration, test = calibrate(network, images[:64]), images[64:]
    plain = quantize(calibration, CONFIG, {node.name: (4, True) for node in network.nodes})
    wanted, errors = network.run(test)["y"], []
    for options in (dict(correct=False), dict(correct=True), dict(weights="fitted")):
        found = correction.correct(plain, calibration, CONFIG, **options)
        errors.append(np.square(found.decode(run(found, found.encode(test), CONFIG.group)["y"]) - wanted).mean())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.85 * errors[1]


def test_weights_that_came_as_integers_stay(network):
    codes = np.random.default_rng(5).integers(-127, 128, (16, 16, 3, 3))
    scale = np.full(16, 0.002)
    own = dataclasses.replace(network.nodes[0], weight=(codes * scale[:, None, None, None]).astype(np.float32), weight_scale=scale)
    network = dataclasses.replace(network, nodes=(own, *network.nodes[1:]))
    calibration = calibrate(network, np.random.default_rng(6).random((16, 8, 8, 16)).astype(np.float32))
    for budget in (4, 16):
        found = correction.correct(quantize(calibration, CONFIG, {"a": (budget, False)}), calibration, CONFIG, weights="fitted").layers[0]
        np.testing.assert_array_equal(found.weights, codes.transpose(2, 3, 1, 0))
        if budget == 16:
            np.testing.assert_allclose(found.multiplier / 2**found.shift, scale * found.in_scale / found.out_scale, rtol=1e-4)
