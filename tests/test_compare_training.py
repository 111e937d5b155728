"""Fine-tuning of rivals: the module computes the codes of their integer models, gradients pass where they should, unknown things are refused."""

import numpy as np
import pytest

from compare import drq, static, training
from compiler import correction
from compiler.calibration import calibrate
from compiler.onnx_export import standard
from sdp.config import NAMED
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


@pytest.mark.parametrize("options, message", [
    (("--method", "olaccel"), "compare: --method: there is no training for 'olaccel', only for sdp, static, drq\n"),
    (("--network", "digits"), "compare: --network: the digits have no images to train on beside those of calibration\n"),
    (("--network", "x"), "compare: there is no network 'x', only "),
])
def test_what_cannot_be_trained(tmp_path, capsys, options, message):
    assert training.main(["--out", str(tmp_path), *options]) == 1
    assert capsys.readouterr().err.startswith(message) and not list(tmp_path.iterdir())
