"""Quantization: encodings of weights, scales, the integer executor against plain loops, corrections, the search for budgets."""

from pathlib import Path

import numpy as np
import pytest

from compiler import budget, correction, onnx_import, schedule
from compiler.calibration import RANGES, masked_scale
from compiler.network import Conv, Network, Pool, identity
from compiler.quantize import activation_scale, calibrate, fit_shift, nearest, quantize, weight_scales
from compiler.quantized import Packing, logits, run
from compiler.weights import INT4, ONE_DIGIT, PLAIN_DIGITS, TWO_DIGITS
from examples.digits import data
from golden import term_select
from golden.weights import W4_VALUES, allowed
from sdp.config import NAMED, VARIANTS
from sdp.program import Kind
from tests import onnx_models, test_onnx_quantized

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"
CONFIG, PLAIN = NAMED["small"], VARIANTS["small-plain"]


@pytest.fixture(scope="module")
def split():
    return data.load()


@pytest.fixture(scope="module")
def calibration(split):
    return calibrate(onnx_import.read(DIGITS), split["calibration"].images[:128])


def small_network(rng) -> Network:
    def conv(name, source, inputs, outputs, kernel=3, **more):
        pad = kernel // 2
        weight = rng.normal(size=(outputs, inputs, kernel, kernel)) / kernel
        return Conv(name=name, input=source, weight=weight, bias=rng.normal(size=outputs), pad=(pad,) * 4, **more)

    return Network(name="n", input="x", input_shape=(7, 6, 3), nodes=(
        conv("a", "x", 3, 9, relu=True), conv("b", "a", 9, 20, stride=(2, 2)),
        conv("c", "a", 9, 20, 1, stride=(2, 2), residual="b", relu=True),
        Pool(name="m", input="c", kind="max", kernel=(3, 3), stride=(1, 1), pad=(1, 1, 1, 1)), conv("d", "m", 20, 20, residual="m"),
        Pool(name="v", input="d", kind="avg", kernel=(4, 3), stride=(1, 1)), conv("y", "v", 20, 5, 1)))


def by_loops(layer, image, residual) -> np.ndarray:
    """One image through a layer in Python integers, with nothing taken from ``golden``."""
    out = np.zeros(layer.out_shape, dtype=int)
    for y, x, channel in np.ndindex(*layer.out_shape):
        seen = []
        for ky, kx in np.ndindex(*layer.kernel):
            row, column = y * layer.stride[0] + ky - layer.pad[0], x * layer.stride[1] + kx - layer.pad[1]
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                seen.append((image[row, column], ky, kx))
        if layer.kind is Kind.DEPTHWISE:
            value = sum(int(codes[channel]) * int(layer.weights[ky, kx, channel]) for codes, ky, kx in seen)
        elif layer.kind is Kind.CONV:
            value = sum(int(c) * int(w) for codes, ky, kx in seen for c, w in zip(codes, layer.weights[ky, kx, :, channel]))
        else:
            value = (max if layer.kind is Kind.MAX else sum)(int(codes[channel]) for codes, _, _ in seen)
        value = (value + int(layer.bias[channel])) * int(layer.multiplier[channel])
        value += int(residual[y, x, channel]) * layer.residual_multiplier if residual is not None else 0
        rounded = (abs(value) + 2 ** (layer.shift - 1)) // 2**layer.shift * (1 if value > 0 else -1)
        out[y, x, channel] = min(max(rounded, layer.clamp[0]), layer.clamp[1])
    return out


@pytest.mark.parametrize("w4", [False, True])
def test_executor_against_loops(w4):
    rng = np.random.default_rng(2)
    network = small_network(rng)
    images = rng.normal(size=(4, 7, 6, 3))
    quantized = quantize(calibrate(network, images), CONFIG, {n.name: (2 * CONFIG.group, w4) for n in network.nodes})
    codes = quantized.encode(images)
    tensors = run(quantized, codes, CONFIG.group) | {"x": quantized.pack(codes)}
    for layer in quantized.layers:
        residual = tensors[layer.residual][0] if layer.residual else None
        np.testing.assert_array_equal(tensors[layer.name][0], by_loops(layer, tensors[layer.input][0], residual), err_msg=layer.name)
    real = network.run(images)
    for name in real.keys() - {"x"}:
        error = np.abs(quantized.decode(tensors[name], name) - real[name])
        assert error.mean() < (0.15 if w4 else 0.02) * np.abs(real[name]).max(), name


def test_weights_of_one_digit_are_the_nearest():
    values = np.random.default_rng(0).uniform(-40, 40, 2000)
    found = nearest(values, ONE_DIGIT)
    assert set(found.tolist()) <= set(W4_VALUES.tolist())
    np.testing.assert_array_equal(np.abs(found - values), np.abs(W4_VALUES[:, None] - values).min(axis=0))


@pytest.mark.parametrize("letters, most", [(TWO_DIGITS, 127), (PLAIN_DIGITS, 119)])
def test_weights_of_two_digits_use_the_range(letters, most):
    weight = np.random.default_rng(0).normal(size=(6, 50))
    codes = nearest(weight / weight_scales(weight, letters)[:, None], letters)
    assert (np.abs(codes).max(axis=1) == most).all()


@pytest.mark.parametrize("letters, peak", [(ONE_DIGIT, 15), (INT4, 7)])
def test_scale_of_one_digit_beats_the_peak(letters, peak):
    weight = np.random.default_rng(0).standard_t(3, size=(6, 300))

    def error(scale):
        return np.square(weight - nearest(weight / scale[:, None], letters) * scale[:, None]).sum(axis=1)

    assert (error(weight_scales(weight, letters)) <= error(np.abs(weight).max(axis=1) / peak)).all()


@pytest.mark.parametrize("signed, limit", [(False, 255), (True, 127)])
def test_activation_scale(signed, limit):
    rng = np.random.default_rng(0)
    # Whole numbers of steps meet values that are integers already.
    assert activation_scale(rng.integers(0, 17, 5000) / 16, signed) == pytest.approx(1 / (limit // 16 * 16), rel=1e-6)
    values = rng.uniform(-1, 1, 5000) if signed else rng.uniform(0, 1, 5000)
    assert activation_scale(values, signed) == pytest.approx(1 / limit, rel=0.03)
    assert activation_scale(np.zeros(10), signed) == 1.0


@pytest.mark.parametrize("bits", [8, 16, 31])
def test_shift_is_the_largest(bits):
    for ratio in 2.0 ** np.random.default_rng(bits).uniform(-12, 5, 200):
        shift = fit_shift(np.array([ratio, ratio / 3]), bits)
        assert round(ratio * 2**shift) < 1 << bits
        assert shift == 47 or ratio * 2 ** (shift + 1) > (1 << bits) - 2


def test_fields_are_in_range(calibration):
    for w4 in (False, True):
        network = quantize(calibration, CONFIG, {n.name: (5, w4) for n in calibration.network.nodes})
        for layer in correction.correct(network, calibration, CONFIG).layers:
            assert 1 <= layer.multiplier.min() and layer.multiplier.max() < 1 << CONFIG.scale_bits
            assert np.abs(layer.bias).max() < 1 << 31 and 1 <= layer.shift <= 47
            assert 0 <= layer.residual_multiplier < 1 << CONFIG.scale_bits


def test_packing_is_tap_major_channel_minor():
    image = np.arange(5 * 4 * 2, dtype=np.int16).reshape(1, 5, 4, 2)
    packed = Packing(kernel=(3, 2), stride=(2, 1), pad=(1, 0), out=(3, 4)).apply(image)
    for y, x, ky, kx, c in np.ndindex(3, 4, 3, 2, 2):
        row, column = 2 * y + ky - 1, x + kx
        inside = 0 <= row < 5 and column < 4
        assert packed[0, y, x, (ky * 2 + kx) * 2 + c] == (image[0, row, column, c] if inside else 0)


def test_int8_keeps_accuracy(calibration, split):
    network = quantize(calibration, CONFIG)
    assert accuracy(network, split["test"]) >= 0.985


def test_correction_lowers_the_error(calibration, split):
    network = quantize(calibration, CONFIG, {n.name: (4, True) for n in calibration.network.nodes})
    images = split["test"].images
    wanted = calibration.network.run(images)["logits"]

    def error(network):
        return np.square(network.decode(run(network, network.encode(images), CONFIG.group)["logits"]) - wanted).mean()

    assert error(correction.correct(network, calibration, CONFIG)) < 0.9 * error(network)


@pytest.mark.parametrize("seed", range(90, 96))  # of 93 a sum is three codes off: both of its addends are ties
def test_a_quantised_network_keeps_its_codes(tmp_path, seed):
    """Its own scales and weights: the integers are those that its executor rounds to, except where multipliers of 16 bits decide a tie."""
    nodes, tensors = test_onnx_quantized.network(np.uint8(0), seed=seed)
    read = onnx_import.read(onnx_models.save(tmp_path / "n.onnx", nodes, tensors))
    images = 2 * np.random.default_rng(3).normal(size=(10, *read.input_shape)).astype(np.float32)
    calibration = calibrate(read, images)
    network, real = quantize(calibration, CONFIG), read.run(images)
    assert [layer.clamp for layer in network.layers][:3] == [(0, 255), (-128, 127), (0, 255)]
    for fitted in (network, correction.correct(network, calibration, CONFIG, weights="fitted")):
        codes = fitted.encode(images)
        np.testing.assert_allclose(codes * fitted.input_scale, real[read.input], atol=1e-6)
        found = run(fitted, codes, CONFIG.group)
        steps = {name: np.abs(found[name] - np.rint(real[name] / read.codes[name].scale)) for name in found}
        # The sum has steps of 0.03: those of c1, half of those of c2. What a tie moved before it is not its own.
        steps["s"] -= steps["c1"] + 2 * steps["c2"]
        for name, own in steps.items():
            assert own.max() <= 1 and (own > 0).mean() < 0.02, name


def integers(name, source, codes, **more):
    """A convolution whose weights came as integers."""
    return Conv(name=name, input=source, weight=(codes * 0.01).astype(np.float32), bias=np.zeros(len(codes), dtype=np.float32),
                weight_scale=np.full(len(codes), 0.01), **more)


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=lambda c: c.name)
def test_integers_that_the_array_has_stay_and_others_are_rounded_like_float_weights(config):
    """``a`` ends at 119 and has -128, ``b`` is depthwise, ``c`` reaches 120, which two digits of four bits do not."""
    rng = np.random.default_rng(8)
    codes = {name: rng.integers(low, high + 1, shape) for name, low, high, shape in (
        ("a", -128, 119, (16, 16, 1, 1)), ("b", -128, 127, (16, 1, 3, 3)), ("c", -120, 120, (16, 16, 1, 1)))}
    for name, extremes in (("a", (-128, 119)), ("b", (-128, 127)), ("c", (-120, 120))):
        codes[name].flat[:2] = extremes
    network = Network(name="n", input="x", input_shape=(5, 5, 16), nodes=(
        integers("a", "x", codes["a"], relu=True), integers("b", "a", codes["b"], relu=True, depthwise=True, pad=(1,) * 4), integers("c", "b", codes["c"])))
    images = rng.normal(size=(8, 5, 5, 16)).astype(np.float32)
    quantized, real = quantize(calibrate(network, images), config), network.run(images)
    a, b, c = quantized.layers
    assert (a.weights == codes["a"].transpose(2, 3, 1, 0)).all() and (b.weights == codes["b"][:, 0].transpose(1, 2, 0)).all()
    if config is PLAIN:
        assert c.weights.max() == 119 and c.weight_scale[0] == pytest.approx(0.01 * 120 / 119, rel=1e-3)
        assert np.abs(c.weights * c.weight_scale - codes["c"].transpose(2, 3, 1, 0) * 0.01).max() <= 0.501 * c.weight_scale.max()
    else:
        assert (c.weights == codes["c"].transpose(2, 3, 1, 0)).all()
    found = run(quantized, quantized.encode(images), config.group)
    for name in "abc":
        assert np.abs(quantized.decode(found[name], name) - real[name]).mean() < 0.02 * np.abs(real[name]).max(), name
    schedule.compile(quantized, config)


@pytest.mark.parametrize("w4", [False, True])
def test_all_weights_are_some_that_the_array_has(calibration, w4):
    modes = {n.name: (PLAIN.group, w4) for n in calibration.network.nodes}
    plain = quantize(calibration, PLAIN, modes)
    for network in (plain, correction.correct(plain, calibration, PLAIN, weights="fitted")):
        for layer in network.layers:
            if layer.kind is Kind.CONV:
                assert np.isin(layer.weights, allowed(PLAIN, w4)).all() and np.abs(layer.weights).max() >= (7 if w4 else 100)
        schedule.compile(network, PLAIN)


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=lambda c: c.name)
def test_depthwise_weights_use_all_of_a_byte(config):
    weight = np.random.default_rng(1).normal(size=(9, 1, 3, 3)).astype(np.float32)
    network = Network(name="n", input="x", input_shape=(6, 5, 9), nodes=(
        Conv(name="a", input="x", weight=weight, bias=np.zeros(9, dtype=np.float32), pad=(1,) * 4, depthwise=True),))
    calibration = calibrate(network, np.random.default_rng(2).normal(size=(8, 6, 5, 9)).astype(np.float32))
    assert np.abs(quantize(calibration, config).layers[0].weights).max() == 127


def test_depthwise_clip_and_addition():
    """Against loops in integers: a depthwise layer, one with an upper bound, an addition of its own."""
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(9, 1, 3, 3)).astype(np.float32)
    network = Network(name="n", input="x", input_shape=(6, 5, 9), nodes=(
        Conv(name="a", input="x", weight=weight, bias=rng.normal(size=9).astype(np.float32), pad=(1,) * 4, depthwise=True, relu=True, clip=2.0),
        Conv(name="b", input="a", weight=rng.normal(size=(9, 9, 1, 1)).astype(np.float32), bias=np.zeros(9, dtype=np.float32)),
        identity("s", "b", residual="a", relu=True)))
    images = rng.normal(size=(8, 6, 5, 9)).astype(np.float32)
    calibration = calibrate(network, images)
    quantized, real = quantize(calibration, CONFIG), network.run(images)
    assert [layer.kind for layer in quantized.layers] == [Kind.DEPTHWISE, Kind.CONV, Kind.SUM] and quantized.layers[0].macs == 6 * 5 * 9 * 9
    for fitted in (quantized, correction.correct(quantized, calibration, CONFIG, weights="fitted")):
        tensors = run(fitted, fitted.encode(images), CONFIG.group) | {"x": fitted.encode(images)}
        for layer in fitted.layers:
            np.testing.assert_array_equal(tensors[layer.name][0], by_loops(layer, tensors[layer.input][0], tensors["a"][0] if layer.residual else None))
            error = np.abs(fitted.decode(tensors[layer.name], layer.name) - real[layer.name])
            assert error.mean() < 0.02 * np.abs(real[layer.name]).max(), layer.name
        assert tensors["a"].max() * fitted.layers[0].out_scale == pytest.approx(2.0, rel=0.01)


def test_logits_come_in_batches(calibration, split):
    network, images = quantize(calibration, CONFIG), split["test"].images[:37]
    together = network.decode(run(network, network.encode(images), CONFIG.group)["logits"]).reshape(37, -1)
    seen = []
    np.testing.assert_array_equal(logits(network, images, CONFIG.group, seen.append), together)
    assert sum(seen) == 37


@pytest.mark.parametrize("budget", [1, 3, 6])
def test_ranges_after_the_selection(budget):
    """The scale of least error with a budget is not that of whole codes."""
    values = np.abs(np.random.default_rng(5).standard_t(3, size=(500, 16)))

    def error(scale):
        codes = np.clip(np.rint(values / scale), 0, 255).astype(np.int16)
        return np.square(values - term_select.select(codes, budget, 8)[0] * scale).mean()

    assert error(masked_scale(values, False, budget, False, 8)) <= error(activation_scale(values, False))


@pytest.mark.parametrize("ranges", RANGES)
def test_every_rule_of_ranges(ranges, split):
    calibration = calibrate(onnx_import.read(DIGITS), split["calibration"].images[:32], ranges)
    modes = {node.name: (3, True) for node in calibration.network.nodes}
    assert (calibration.at(modes, CONFIG.group).scales != calibration.scales) == (ranges == "masked")


def test_unknown_rule():
    with pytest.raises(ValueError, match="^ranges = 'best', but must be one of peak, percentile, error, masked$"):
        calibrate(onnx_import.read(DIGITS), np.zeros((1, 8, 8, 1)), "best")


def test_search(calibration, split):
    """Within a point of float on the held-out quarter, at less than half of the time of exact 8 bit."""
    cost = {"exact": 0, "found": 0}
    found = budget.search(calibration, CONFIG, lambda layer: schedule.cycles(CONFIG, layer),
                          budget.Bound(divergence=0.01, disagreement=0.005)).best.network
    for kind, network in (("exact", quantize(calibration, CONFIG)), ("found", found)):
        cost[kind] = sum(schedule.cycles(CONFIG, layer) for layer in network.layers)
    assert cost["exact"] / cost["found"] > 2.5
    assert accuracy(found, split["test"]) >= 0.99


def accuracy(network, split) -> float:
    logits = run(network, network.encode(split.images), CONFIG.group)["logits"]
    return float((logits.reshape(len(logits), -1).argmax(axis=1) == split.labels).mean())
