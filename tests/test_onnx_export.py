"""Integers to an ONNX file and back: every code, scale and mode is kept, and any runtime computes the same."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from compiler import correction, onnx_export, onnx_import, quantized
from compiler.calibration import calibrate
from compiler.network import Conv, Network, NetworkError, Pool, identity
from compiler.onnx_file import MODES
from compiler.quantize import quantize
from compiler.sensitivity import convolutions
from sdp.config import NAMED, VARIANTS
from sim import flow
from tests.onnx_models import runtime

CONFIG = NAMED["small"]
IMAGES = np.random.default_rng(31).normal(size=(12, 9, 8, 3)).astype(np.float32)


def everything(seed: int = 31) -> Network:
    """Every kind of layer: shallow input, uneven padding, residuals, signed tensors, upper bounds, depthwise, pooling, an addition of its own."""
    rng = np.random.default_rng(seed)

    def conv(name, source, inputs, outputs, kernel=3, pad=None, depthwise=False, **more):
        pad = (kernel // 2,) * 4 if pad is None else pad
        weight = rng.normal(size=(outputs, 1 if depthwise else inputs, kernel, kernel)) / kernel / (1 if depthwise else inputs) ** 0.5
        return Conv(name=name, input=source, weight=weight.astype(np.float32), bias=rng.normal(size=outputs).astype(np.float32) / 4, pad=pad,
                    depthwise=depthwise, **more)

    return Network(name="everything", input="x", input_shape=(9, 8, 3), nodes=(
        conv("stem", "x", 3, 20, pad=(0, 1, 1, 1), stride=(2, 1), relu=True), conv("side", "stem", 20, 20, 1),
        conv("deep", "stem", 20, 20, depthwise=True, relu=True, clip=0.75), conv("joined", "deep", 20, 20, residual="side", relu=True),
        Pool(name="most", input="joined", kind="max", kernel=(3, 3), stride=(1, 1), pad=(1, 1, 1, 1)),
        Pool(name="mean", input="side", kind="avg", kernel=(3, 2), stride=(1, 1), pad=(1, 0, 1, 1)),
        identity("sum", "mean", residual="most"), conv("bounded", "sum", 20, 9, clip=0.5), Pool(name="wide", input="bounded", kind="avg", kernel=(1, 5), stride=(1, 1)),
        conv("y", "wide", 9, 5, 4, pad=(0, 0, 0, 0))))


def trained(network: Network, images, modes) -> quantized.QuantizedNetwork:
    calibration = calibrate(network, images)
    return onnx_export.standard(correction.correct(quantize(calibration, CONFIG, modes), calibration, CONFIG, weights="fitted"), CONFIG)


@pytest.fixture(scope="module", params=range(4))
def made(request):
    network = everything(request.param)
    modes = {"stem": (8, False), "side": (3, True), "joined": (4, True), "bounded": (5, True), "y": (16, False)}
    network = trained(network, IMAGES, modes)
    # Codes that no rule for scales would choose: training may end there.
    joined = next(layer for layer in network.layers if layer.name == "joined")
    weights = joined.weights.copy()
    weights[..., 0] = np.sign(weights[..., 0])
    return network.replace(dataclasses.replace(joined, weights=weights)), modes


@pytest.fixture
def path(made, tmp_path):
    onnx_export.save(made[0], tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_every_number_comes_back(made, path):
    network, modes = made
    read = onnx_import.read(path)
    assert read.modes == modes and read.name == "everything" and read.input_shape == (9, 8, 3)
    again = flow.choose(read, IMAGES[:2], None, CONFIG, max_loss=1.0).sdp
    assert [layer.name for layer in again.layers] == [layer.name for layer in network.layers]
    for wanted, seen in zip(network.layers, again.layers):
        for field in dataclasses.fields(wanted):
            one, other = getattr(wanted, field.name), getattr(seen, field.name)
            if field.name.endswith("scale"):
                assert (one is None) == (other is None) and (one is None or np.allclose(one, other, rtol=1e-6, atol=0)), (wanted.name, field.name)
            else:
                assert np.array_equal(one, other), (wanted.name, field.name)
    assert again.input_limits == network.input_limits == (-128, 127) and again.packing == network.packing is not None
    seen, wanted = (quantized.run(one, one.encode(IMAGES), CONFIG.group) for one in (again, network))
    for name in wanted:
        np.testing.assert_array_equal(seen[name], wanted[name], name)
        assert len(np.unique(wanted[name])) > 4, name


def test_a_runtime_computes_the_same(made, path):
    """With all terms: the selection is the machine's own. onnxruntime rounds in single precision, so a code may differ by one."""
    whole = dataclasses.replace(made[0], layers=tuple(dataclasses.replace(layer, budget=2 * CONFIG.group) for layer in made[0].layers))
    wanted = quantized.logits(whole, IMAGES, CONFIG.group)
    assert np.abs(runtime(path, IMAGES) - wanted).max() < 1.01 * whole.layers[-1].out_scale
    assert len(np.unique(wanted)) > 10


def test_the_same_network_makes_the_same_bytes(made, path, tmp_path):
    onnx_export.save(made[0], tmp_path / "again.onnx")
    assert path.read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_a_trained_network_is_not_searched(path, monkeypatch):
    monkeypatch.setattr(flow.optimizer, "optimize", None)
    found = flow.choose(onnx_import.read(path), IMAGES, None, CONFIG, max_loss=1.0)
    assert {layer.budget for layer in found.exact.layers if layer.name in convolutions(found.exact)} == {2 * CONFIG.group}
    assert not found.curve


def test_codes_that_no_type_has(made):
    low = dataclasses.replace(made[0].layers[1], clamp=(-127, 127))
    with pytest.raises(NetworkError, match="^tensor 'side': no ONNX type has the codes -127 ... 127, only int8"):
        onnx_export.export(made[0].replace(low))
    large = dataclasses.replace(made[0].layers[1], bias=made[0].layers[1].bias + (1 << 31))
    with pytest.raises(NetworkError, match="^layer 'side': biases from .* are no int32$"):
        onnx_export.export(made[0].replace(large))


@pytest.mark.parametrize("text, sentence", [
    ("{", "^n.onnx: metadata 'sdp.modes': must be a JSON object of \\[budget, w4\\] by node, but is '{'$"),
    ("[3]", "must be a JSON object"),
    ('{"nowhere": [4, true]}', "'nowhere' is no convolution of this network that sums over channels, those are bounded, joined, side, stem, y$"),
    ('{"deep": [4, true]}', "'deep' is no convolution"),
    ('{"side": [0, true]}', "^n.onnx: metadata 'sdp.modes': 'side' has \\[0, true\\], but must have a budget of at least 1 and true or false"),
    ('{"side": [4, 1]}', "'side' has \\[4, 1\\]"), ('{"side": 4}', "'side' has 4"), ('{"side": [true, true]}', "'side' has \\[true, true\\]")])
def test_metadata_that_makes_no_sense(path, tmp_path, text, sentence):
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {MODES: text})
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(NetworkError, match=sentence):
        onnx_import.read(tmp_path / "n.onnx")


def test_a_budget_that_the_configuration_does_not_have(path, tmp_path):
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {MODES: json.dumps({"side": [17, True]})})
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(flow.FlowError, match="^network 'everything': 'side' was trained for a budget of 17, 'small' has 1 ... 16"):
        flow.choose(onnx_import.read(tmp_path / "n.onnx"), IMAGES, None, CONFIG, max_loss=1.0)


def test_a_weight_that_the_array_does_not_have(path):
    """Trained for digits of five bits: no rounding may take the place of the training."""
    with pytest.raises(flow.FlowError, match=r"^network 'everything': '\w+' was trained with a weight of -?\d+, w[48] weights of 'small-plain' reach from "
                                             r"-(8 to 7|128 to 119): use a configuration with the array that it was trained for$"):
        flow.choose(onnx_import.read(path), IMAGES, None, VARIANTS["small-plain"], max_loss=1.0)
