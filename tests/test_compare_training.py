"""Fine-tuning of rivals: the module computes the codes of their integer models, gradients pass where they should, unknown things are refused."""

import json

import numpy as np
import pytest
from rich.console import Console

from compare import cases, drq, static, store, training
from compare.method import METHODS, Fitted, Point
from compare.training import Course, of_method
from compiler import correction
from compiler.calibration import calibrate
from compiler.onnx_export import standard
from sdp.config import NAMED
from sim import data
from tests.test_quantize import small_network

CONFIG = NAMED["small"]
MODES = {
    "static": (static.Static(CONFIG), dict(zip("abcdy", [(8, 4), (4, 8), (4, 4), (4, 4), (8, 8)]))),
    "drq": (drq.Drq(CONFIG), dict(zip("abcdy", [0, 40, 40, 60, 0]))),
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed, which fine-tuning needs: pip install -e '.[finetune]'")


@pytest.fixture(scope="module")
def starts():
    rng = np.random.default_rng(2)
    calibration = calibrate(small_network(rng), rng.standard_t(4, size=(40, 7, 6, 3)).astype(np.float32))
    images = rng.standard_t(4, size=(9, 7, 6, 3)).astype(np.float32)
    return {name: standard(correction.correct(arithmetic.network(calibration, modes), calibration, CONFIG, weights="fitted", arithmetic=arithmetic), CONFIG)
            for name, (arithmetic, modes) in MODES.items()}, images


def moved(torch, start, kind):
    """A module some way off its start."""
    from finetune.model import Model

    model, generator = Model(start, CONFIG, kind(CONFIG)), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("name", MODES)
def test_codes_are_those_of_the_integer_model(torch, starts, name):
    """In double precision, all of them, after every parameter has moved."""
    from compare import seen

    (networks, images), arithmetic = starts, MODES[name][0]
    model = moved(torch, networks[name], {"static": seen.Static, "drq": seen.Drq}[name])
    made = model.quantized()
    wanted = arithmetic.run(made, images)
    found = model.to(torch.float64)(model.encode(images).to(torch.float64))
    for layer in made.layers:
        np.testing.assert_array_equal(found[layer.name].detach().permute(0, 2, 3, 1).numpy(), wanted[layer.name], layer.name)


def test_weights_stay_in_their_alphabets(torch, starts):
    from compare import seen

    made = moved(torch, starts[0]["static"], seen.Static).quantized()
    for layer in made.layers:
        if hasattr(layer, "mode"):
            low, high = (-8, 7) if layer.mode[1] == 4 else (-127, 127)
            assert low <= layer.weights.min() and layer.weights.max() <= high and layer.weights.max() > high // 2


def test_gradients(torch):
    """Through rounding to four bits inside of their range; to sensitive codes and high nibbles alike, not to both at once."""
    from compare import seen

    codes = torch.tensor([[[[0.0, 3.0, 60.0, 64.0, 200.0]]]], requires_grad=True)
    seen._Narrowed.apply(codes, 2, 15).sum().backward()
    assert codes.grad.flatten().tolist() == [1, 1, 1, 0, 0]
    codes = torch.tensor([[[[200.0, 20.0]]]], requires_grad=True)
    sensitive, rest = seen._Masked.apply(codes, 100, (1, 1))
    assert sensitive.flatten().tolist() == [200, 0] and rest.flatten().tolist() == [0, 16]
    (3 * sensitive + 5 * rest).sum().backward()
    assert codes.grad.flatten().tolist() == [3, 5]


def test_the_cheapest_points_are_trained(torch, tmp_path):
    """Two of three points, once: what is there is not trained again; the report holds what the networks do."""
    from finetune.train import Settings

    case, console = cases.load("digits"), Console(quiet=True)
    training, rest = (data.Data(case.calibration.images[part], case.calibration.labels[part]) for part in (slice(0, 96), slice(96, 160)))
    course = Course(case, training, rest, Settings(epochs=1, batch=32, rate=0.02, augment=False), 100.0)
    arithmetic, calibration = static.Static(CONFIG), calibrate(case.network, case.calibration.images[:64])
    inner = dict.fromkeys(("block1_a", "block1_b", "block2_a", "block2_b"), (4, 4))
    points = [Point(arithmetic.network(calibration, modes), modes, 0.0, 0.0, 0.0, 4.0, 4.0) for modes in ({}, {"block1_b": (8, 4)}, inner)]
    source = store.Stored("x", Fitted(arithmetic, points, 0, [], {}))
    path = of_method(course, "static", source, tmp_path / "a", console)
    report, stored = json.loads(path.read_text()), store.load(tmp_path / "a", METHODS["static"])
    assert [point["modes"] for point in report["points"]] == [{name: list(mode) for name, mode in point.modes.items()} for point in points[1:]]
    for before, after, entry in zip(points[1:], stored.fitted.points, report["points"], strict=True):
        assert any(not np.array_equal(a.weights, b.weights) for a, b in zip(before.network.layers, after.network.layers) if a.weights is not None)
        for network, key in ((after.network, "top1"), (standard(before.network, CONFIG), "top1_before")):
            found = arithmetic.logits(network, case.test.images).reshape(len(case.test), -1).argmax(axis=1)
            assert entry[key] == pytest.approx(100 * (found == case.test.labels).mean(), abs=0.01)
        assert len(entry["curve"]) == 2 and 1 <= entry["ideal"] <= 4
    # Cut after the first: the rest follows, and is the same.
    del stored.fitted.points[1:], stored.fitted.effort["points"][1:]
    stored.fitted.effort["points"][0]["seconds"] = "kept"
    store.write(tmp_path / "b", METHODS["static"], stored, {})
    again = json.loads(of_method(course, "static", source, tmp_path / "b", console).read_text())
    assert [entry["seconds"] == "kept" for entry in again["points"]] == [True, False]
    for entry in (*report["points"], *again["points"]):
        del entry["seconds"]
    assert again == report


@pytest.mark.parametrize("options, message", [
    (("--method", "olaccel"), "compare: --method: there is no training for 'olaccel', only for sdp, static, drq\n"),
    (("--network", "digits"), "compare: --network: 'digits' has no images to train on beside those of calibration\n"),
    (("--network", "x"), "compare: there is no network 'x', only "),
    (("--network", "resnet8_mlperftiny"), "compare: there are no networks of 'sdp' in "),
])
def test_what_cannot_be_trained(tmp_path, capsys, options, message):
    assert training.main(["--out", str(tmp_path), *options]) == 1
    assert capsys.readouterr().err.startswith(message) and not list(tmp_path.iterdir())
