"""What each rival computes, against loops over single products, and what it costs, against counting."""

import dataclasses

import numpy as np
import pytest

from compare.drq import Drq, high_nibble, in_codes, mask, masks
from compare.layer import used_share, uses
from compare.method import METHODS, ideal
from compare.olaccel import ARRAY, Olaccel
from compare.sdp import Sdp
from compare.static import Static, least_error, limit_of, narrowed
from compiler import correction
from compiler.arithmetic import convolutions
from compiler.calibration import calibrate
from compiler.quantize import quantize
from golden import drq_array
from sdp.config import NAMED
from sdp.program import Kind
from tests.test_quantize import small_network

CONFIG = NAMED["small"]
MODES = {
    "static": dict(zip("abcdy", [(8, 4), (4, 8), (4, 4), (4, 4), (8, 8)])),
    "drq": dict(zip("abcdy", [0, 40, 40, 60, 0])),
    "olaccel": dict(zip("abcdy", [(0, 30), (30, 30), (30, 60), (80, 10), (10, 30)])),
}


@pytest.fixture(scope="module")
def calibration():
    rng = np.random.default_rng(2)
    images = rng.standard_t(4, size=(40, 7, 6, 3)).astype(np.float32)
    return calibrate(small_network(rng), images)


def fitted(name, calibration, modes=None):
    arithmetic = METHODS[name].make(CONFIG)
    network = arithmetic.network(calibration, modes or MODES[name])
    return arithmetic, correction.correct(network, calibration, CONFIG, weights="fitted", arithmetic=arithmetic)


def digits(weight: int) -> tuple[int, int]:
    """(high, low), -8 ... 7 each."""
    low = (weight + 8) % 16 - 8
    return (weight - low) // 16, low


def static_product(layer, image):
    bits, limit = layer.mode[0], 7 if layer.in_signed else 15

    def product(y, x, c, weight):
        code = int(image[y, x, c])
        if bits == 4:
            half = 2**layer.drop / 2
            kept = min(int((abs(code) + half) // 2**layer.drop), limit) * 2**layer.drop
            code = kept if code >= 0 else -kept
        return code * weight

    return product


def drq_product(layer, image):
    rows, columns = layer.region

    def product(y, x, c, weight):
        top, left, total = y // rows * rows, x // columns * columns, 0
        for row in range(top, min(top + rows, image.shape[0])):
            for column in range(left, min(left + columns, image.shape[1])):
                total += abs(int(image[row, column, c]))
        code = int(image[y, x, c])
        if total >= layer.threshold * rows * columns:
            return code * weight
        high = abs(code) // 16 * (1 if code > 0 else -1)
        return 256 * high * digits(weight)[0]

    return product


def olaccel_product(layer, image):
    def product(y, x, c, weight):
        msb, nibble = digits(weight)
        return int(image[y, x, c]) * (16 * msb + nibble)

    return product


PRODUCTS = {"static": static_product, "drq": drq_product, "olaccel": olaccel_product}


@pytest.mark.parametrize("name", PRODUCTS)
def test_layers_against_loops(name, calibration):
    """Every product by itself, the requantization in fractions of integers."""
    arithmetic, network = fitted(name, calibration)
    tensors = arithmetic.run(network, calibration.tensors["x"][:2])
    for layer in network.layers:
        if layer.kind is not Kind.CONV:
            continue
        image, out = tensors[layer.input][1], tensors[layer.name][1]
        product, total = PRODUCTS[name](layer, image), np.zeros(layer.out_shape, dtype=int)
        for y, x, channel in np.ndindex(*layer.out_shape):
            acc = 0
            for ky, kx in np.ndindex(*layer.kernel):
                row, column = y * layer.stride[0] + ky - layer.pad[0], x * layer.stride[1] + kx - layer.pad[1]
                if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                    acc += sum(product(row, column, c, int(layer.weights[ky, kx, c, channel])) for c in range(image.shape[2]))
            value = (acc + int(layer.bias[channel])) * int(layer.multiplier[channel])
            if layer.residual:
                value += int(tensors[layer.residual][1][y, x, channel]) * layer.residual_multiplier
            rounded = (abs(value) + 2 ** (layer.shift - 1)) // 2**layer.shift * (1 if value > 0 else -1)
            total[y, x, channel] = min(max(rounded, layer.clamp[0]), layer.clamp[1])
        np.testing.assert_array_equal(out, total, err_msg=layer.name)


@pytest.mark.parametrize("name", PRODUCTS)
def test_exact_is_eight_bit(name, calibration):
    """Without fitting, close to the float network, and as close as SDP's exact mode, whose weights reach a little further."""
    arithmetic, images = METHODS[name].make(CONFIG), calibration.tensors["x"][:20]
    wanted = calibration.tensors["y"][:20].reshape(20, -1)
    error = np.abs(arithmetic.logits(arithmetic.network(calibration, {}), images) - wanted).mean()
    sdp = Sdp(CONFIG)
    assert error < 1.3 * np.abs(sdp.logits(sdp.network(calibration, {}), images) - wanted).mean()


def test_sdp_is_the_compiler(calibration):
    """Nothing but its cost is added here."""
    arithmetic, modes = Sdp(CONFIG), dict.fromkeys("abcdy", (5, True))
    one, two = arithmetic.network(calibration, modes), quantize(calibration, CONFIG, modes)
    for a, b in zip(one.layers, two.layers):
        assert (a.budget, a.w4, a.shift, a.in_scale) == (b.budget, b.w4, b.shift, b.in_scale)
        np.testing.assert_array_equal(a.weights, b.weights)
    assert ideal(arithmetic, one, calibration.tensors["x"][:1]) == pytest.approx(5 / CONFIG.group)


# Static


def test_static_codes_and_weights_have_their_bits(calibration):
    """Tensors of four bits where nobody reads them whole: b and c do not read a alone in four bits if a maximum or an addition reads their own."""
    arithmetic, network = fitted("static", calibration)
    tensors = arithmetic.run(network, calibration.tensors["x"])
    layers = {layer.name: layer for layer in network.layers}
    for name, (activations, weights) in MODES["static"].items():
        low, high = (-8, 7) if weights == 4 else (-127, 127)
        assert low <= layers[name].weights.min() and layers[name].weights.max() <= high
        seen = arithmetic.operands(layers[name], tensors[layers[name].input])
        if activations == 4:
            assert len(np.unique(seen)) <= (15 if layers[name].in_signed else 16)
            assert not (np.abs(seen) % (1 << layers[name].drop)).any()
    # Four bits for a, whose readers both take four; eight for m, which an addition reads as well.
    assert layers["a"].clamp == (0, 15) and layers["b"].drop == layers["c"].drop == 0
    assert layers["m"].clamp == (0, 255) and layers["d"].drop > 0


@pytest.mark.parametrize("signed", [False, True])
def test_narrowed(signed):
    limit = 7 if signed else 15
    assert limit_of(signed) == limit
    for drop in range(5):
        codes = np.arange(-127 if signed else 0, 128 if signed else 256, dtype=np.int16)
        found = narrowed(codes, drop, limit)
        allowed = np.array([i << drop for i in range(-limit if signed else 0, limit + 1)])
        nearest = np.abs(codes[:, None].astype(int) - allowed).min(axis=1)
        np.testing.assert_array_equal(np.abs(codes.astype(int) - found), nearest)
    assert narrowed(np.array([8, -8], dtype=np.int16), 4, 15).tolist() == [16, -16]


def test_range_of_four_bits_beats_the_peak():
    values = np.random.default_rng(1).standard_t(3, size=5000).astype(np.float32)
    values = np.abs(values)

    def error(scale):
        return np.square(values - np.minimum(np.rint(values / scale), 15) * scale).mean()

    best = min(error(scale) for scale in np.geomspace(values.max() / 1000, values.max() / 10, 500))
    assert error(least_error(values, False, True)) < 1.03 * best < 0.6 * error(values.max() / 15)
    assert least_error(np.zeros(5), False, True) == 1.0


def test_wider_ranges(calibration):
    """Of tensors that are read in four bits, no others."""
    one, other = (Static(CONFIG, wider).scaled(calibration, MODES["static"]).scales for wider in (1.0, 1.2))
    assert {name: round(other[name] / one[name], 6) for name in one} == {"x": 1.0, "a": 1.2, "b": 1.0, "c": 1.2, "m": 1.2, "d": 1.0, "v": 1.0, "y": 1.0}


def test_static_cost(calibration):
    arithmetic, network = fitted("static", calibration)
    macs = {layer.name: layer.macs for layer in network.layers}
    bits = {name: a * w / 16 for name, (a, w) in MODES["static"].items()}
    assert ideal(arithmetic, network, calibration.tensors["x"][:1]) == pytest.approx(sum(macs[n] * bits[n] for n in bits) / sum(macs[n] for n in bits))
    costs = arithmetic.costs(calibration, list("abcdy"))
    assert costs == {(name, (a, w)): macs[name] * a * w / 16 for name in "abcdy" for a in (4, 8) for w in (4, 8)}


# DRQ


@pytest.mark.parametrize("region", [(1, 1), (2, 4), (4, 4), (8, 2)])
def test_mask_against_loops(region):
    codes = np.random.default_rng(0).integers(-127, 128, size=(2, 7, 9, 3)).astype(np.int16)
    found = mask(codes, 60, region)
    for n, y, x, c in np.ndindex(*codes.shape):
        top, left = y // region[0] * region[0], x // region[1] * region[1]
        total = np.abs(codes[n, top : top + region[0], left : left + region[1], c].astype(int)).sum()
        assert found[n, y, x, c] == (total >= 60 * region[0] * region[1])


def test_high_nibble():
    codes = np.arange(-127, 256, dtype=np.int16)
    assert high_nibble(codes).tolist() == [(abs(c) // 16 * 16) * (1 if c > 0 else -1) for c in range(-127, 256)]


def test_drq_weights_are_two_digits_and_the_low_ones_help(calibration):
    arithmetic, network = fitted("drq", calibration)
    low = []
    for layer in [*network.layers, *arithmetic.network(calibration, MODES["drq"]).layers]:
        if layer.kind is Kind.CONV:
            assert layer.weights.min() >= -128 and layer.weights.max() <= 119
            low.append(np.abs(layer.weights - 16 * drq_array.split_weights(layer.weights)[0]).max())
    assert max(low) > 0
    images, wanted = calibration.tensors["x"], calibration.tensors["d"]

    def error(network):
        tensors = arithmetic.run(network, images)
        return np.square(network.decode(tensors["d"], "d") - wanted).mean()

    high_only = dataclasses.replace(network, layers=tuple(
        dataclasses.replace(layer, weights=16 * drq_array.split_weights(layer.weights)[0]) if layer.name in "bcd" else layer for layer in network.layers))
    assert error(network) < error(high_only)


def test_uses_and_shares_by_counting(calibration):
    arithmetic, network = fitted("drq", calibration)
    tensors = arithmetic.run(network, calibration.tensors["x"][:3])
    for layer in network.layers:
        if layer.kind is not Kind.CONV:
            continue
        count, sensitive = np.zeros(layer.in_shape[:2], dtype=int), 0
        marked = masks(network, tensors)[layer.name]
        for y, x in np.ndindex(*layer.out_shape[:2]):
            for ky, kx in np.ndindex(*layer.kernel):
                row, column = y * layer.stride[0] + ky - layer.pad[0], x * layer.stride[1] + kx - layer.pad[1]
                if 0 <= row < layer.in_shape[0] and 0 <= column < layer.in_shape[1]:
                    count[row, column] += 1
                    sensitive += int(marked[:, row, column].sum()) * layer.out_shape[2]
        np.testing.assert_array_equal(uses(layer), count)
        assert used_share(layer, marked) == pytest.approx(sensitive / (3 * layer.macs))
        share = sensitive / (3 * layer.macs) if layer.threshold else 1
        assert arithmetic.ideal(layer, tensors[layer.input]) == pytest.approx(layer.macs * (1 + 3 * share))


def test_higher_thresholds_cost_less(calibration):
    arithmetic, names = Drq(CONFIG, (2, 2)), convolutions(quantize(calibration, CONFIG))
    costs = arithmetic.costs(calibration, names)
    macs = {layer.name: layer.macs for layer in quantize(calibration, CONFIG).layers}
    for name in names[1:-1]:
        series = [cost for (layer, _), cost in sorted(costs.items()) if layer == name]
        assert series == sorted(series, reverse=True) and series[0] == 4 * macs[name] and series[-1] == macs[name]
    assert [mode for name, mode in costs if name in (names[0], names[-1])] == [0, 0]


def test_nominal_threshold_makes_a_tenth_sensitive(calibration):
    arithmetic, names = Drq(CONFIG, (2, 2)), convolutions(quantize(calibration, CONFIG))
    modes = arithmetic.nominal(calibration, names)
    assert modes[names[0]] == modes[names[-1]] == 0 and len({modes[name] for name in names[1:-1]}) == 1
    inner, shares = [layer for layer in arithmetic.network(calibration, {}).layers if layer.name in names[1:-1]], []
    for threshold in (modes[names[1]] - 1, modes[names[1]]):
        costs = arithmetic._threshold_costs(calibration, inner, (threshold,))
        shares.append((sum(costs.values()) / sum(layer.macs for layer in inner) - 1) / 3)
    assert shares[1] <= 0.1 < shares[0]


def test_thresholds_follow_the_scale():
    assert [in_codes(0, 1.0, 3.0), in_codes(20, 1.0, 2.0), in_codes(20, 1.0, 0.5), in_codes(1, 1.0, 100.0)] == [0, 10, 40, 1]


# OLAccel


def test_olaccel_outliers_are_as_many_as_asked(calibration):
    arithmetic, network = fitted("olaccel", calibration)
    tensors = arithmetic.run(network, calibration.tensors["x"])
    shares = {layer.name: (np.abs(tensors[layer.input]) > (7 if layer.in_signed else 15)).mean() for layer in network.layers if layer.kind is Kind.CONV}
    # The larger share of a tensor's readers counts: b and c read the same one, and d what a maximum makes of c's result.
    assert shares["b"] == shares["c"] == pytest.approx(0.03, abs=0.02) and (tensors["c"] > 15).mean() == pytest.approx(0.08, abs=0.03)
    weights = {layer.name: layer.weights for layer in network.layers if layer.weights is not None}
    outliers = {name: ((w < -8) | (w > 7)).mean() for name, w in weights.items()}
    assert outliers["d"] < 0.05 and max(outliers.values()) < 0.12 and min(w.min() for w in weights.values()) >= -128


def test_olaccel_cost_by_counting(calibration):
    """Non-zero activations times the cycles of their chunk, or the outlier group's time if that is longer."""
    arithmetic, network = fitted("olaccel", calibration)
    images = calibration.tensors["x"][:2]
    tensors = arithmetic.run(network, images)
    layer = next(layer for layer in network.layers if layer.name == "d")
    normal, outlier, codes = np.zeros(2), np.zeros(2), tensors[layer.input]
    for n, y, x, ky, kx, c in np.ndindex(2, *layer.out_shape[:2], *layer.kernel, layer.in_shape[2]):
        row, column = y + ky - layer.pad[0], x + kx - layer.pad[1]
        if not (0 <= row < layer.in_shape[0] and 0 <= column < layer.in_shape[1]) or not codes[n, row, column, c]:
            continue
        cycles = 0
        for block in range(0, layer.out_shape[2], 16):
            chunk = layer.weights[ky, kx, c, block : block + 16]
            cycles += 2 if ((chunk < -8) | (chunk > 7)).sum() > 1 else 1
        (outlier if codes[n, row, column, c] > 15 else normal)[n] += cycles
    assert arithmetic.ideal(layer, codes) == pytest.approx(16 * np.maximum(normal, ARRAY.groups * outlier).mean())
    assert Olaccel.exact == (0, 0) and arithmetic.ideal(dataclasses.replace(layer, mode=(0, 0)), codes) == 4 * layer.macs


def test_all_layers_are_offered(calibration):
    """Every mode that a search can ask for has a cost, and the exact one is the dearest of DRQ and of a static array."""
    names = convolutions(quantize(calibration, CONFIG))
    for arithmetic in (Static(CONFIG), Drq(CONFIG), Olaccel(CONFIG), Sdp(CONFIG)):
        costs = arithmetic.costs(calibration, names)
        offered = {mode for _, mode in costs}
        assert {name for name, _ in costs} == set(names) and all((name, arithmetic.exact) in costs for name in names)
        asked = {mode for group in arithmetic.uniform(names) for modes in group for mode in modes.values()}
        assert asked | set(arithmetic.probes()) <= offered
        for mode in offered:
            assert set(arithmetic.neighbours(mode)) <= offered | {(0, 0)}
        # Outliers beyond what OLAccel's groups for them can take make it slower than eight bits, and small layers of SDP are all fill.
        for name in names if isinstance(arithmetic, Static | Drq) else ():
            assert max(cost for (layer, _), cost in costs.items() if layer == name) == costs[name, arithmetic.exact]
