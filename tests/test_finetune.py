"""Fine-tuning: the module computes the machine's codes, gradients pass where they should, training is repeatable and goes on where it was cut."""

import builtins
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from compiler import onnx_export, onnx_import, quantized
from compiler.weights import INT4, ONE_DIGIT, PLAIN_DIGITS, TWO_DIGITS
from examples.digits import data
from finetune import networks
from golden import output_stage, term_select
from sdp.__main__ import main
from sdp.config import NAMED, VARIANTS
from sim import flow
from tests.test_onnx_export import IMAGES, everything, trained

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"
CONFIG = NAMED["small"]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed, which fine-tuning needs: pip install -e '.[finetune]'")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, split = tmp_path_factory.mktemp("digits"), data.load()
    for name, count in (("train", 192), ("calibration", 48)):
        part = split["calibration"]
        np.savez(folder / f"{name}.npz", x=part.images[:count], y=part.labels[:count])
    return folder


def command(files, out, *options):
    return ["finetune", str(DIGITS), "--train", str(files / "train.npz"), "--calibration", str(files / "calibration.npz"), "--out", str(out), *options]


@pytest.fixture(scope="module")
def start():
    modes = {"stem": (8, False), "side": (3, True), "joined": (4, True), "bounded": (5, True), "y": (16, False)}
    return trained(everything(), IMAGES, modes)


@pytest.fixture
def moved(torch, start):
    """A module some way off its start, so that no number is a special one."""
    from finetune.model import Model

    model, generator = Model(start, CONFIG), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def codes_of(model, dtype):
    found = model.to(dtype)(model.encode(IMAGES).to(dtype))
    return {name: tensor.detach().permute(0, 2, 3, 1).numpy() for name, tensor in found.items()}


def test_it_begins_as_the_network_that_it_was_given(torch, start):
    from finetune.model import Model

    again = Model(start, CONFIG).quantized()
    for wanted, seen in zip(start.layers, again.layers):
        np.testing.assert_array_equal(wanted.multiplier / 2.0**wanted.shift, seen.multiplier / 2.0**seen.shift, wanted.name)
        for name in ("weights", "bias", "clamp", "in_scale", "out_scale"):
            np.testing.assert_array_equal(getattr(wanted, name), getattr(seen, name), f"{wanted.name} {name}")


def test_codes_are_those_of_the_machine(torch, moved):
    """In double precision all; in single, which training uses, a sum of many products may come out on the other side of a tie."""
    made = moved.quantized()
    wanted = quantized.run(made, made.encode(IMAGES), CONFIG.group)
    single, double = codes_of(moved, torch.float32), codes_of(moved, torch.float64)
    for name in wanted:
        np.testing.assert_array_equal(double[name], wanted[name], name)
        assert (single[name] != wanted[name]).mean() < 1e-3, name


def test_every_layer_rounds_as_the_machine_does(torch, moved):
    """Each layer on the machine's own codes, in single precision: at most one code off, and only where the exact value is within 1e-3 of a tie."""
    from finetune import ste

    made, rng = moved.quantized(), np.random.default_rng(3)
    layer = made.layers[3]
    sums = rng.integers(-20000, 20000, (50, 40, 1, 20))
    residual = rng.integers(-128, 128, sums.shape)
    exact = ((sums + layer.bias) * layer.multiplier + residual * layer.residual_multiplier) / 2.0**layer.shift
    wanted = quantized.finish(layer, sums, {layer.residual: residual})

    def channels_first(array):
        return torch.tensor(np.moveaxis(array, 3, 1).astype(np.float32))

    factor, ratio = (torch.tensor(np.asarray(number) / 2.0**layer.shift, dtype=torch.float32) for number in (layer.multiplier, layer.residual_multiplier))
    seen = ste.requantized(channels_first(sums), torch.tensor(layer.bias.astype(np.float32)), factor, channels_first(residual), ratio, *layer.clamp,
                           layer.ties_even)
    off = np.abs(np.moveaxis(seen.numpy(), 1, 3) - wanted)
    assert off.max() <= 1 and (np.abs(exact % 1 - 0.5)[off > 0] < 1e-3).all()
    assert len(np.unique(wanted)) > 100


@pytest.mark.parametrize("ties_even", [False, True])
@pytest.mark.parametrize("low", [0, -128])
def test_ties(torch, ties_even, low):
    from finetune import ste

    sums = np.arange(-9, 10)
    wanted = output_stage.requantize(sums, 0, 1, 1, low, 127, ties_even=ties_even)
    image, one = torch.tensor(sums, dtype=torch.float32).reshape(1, 1, 1, -1), torch.ones(1)
    seen = ste.requantized(image, 0 * one, one / 2, None, torch.zeros(()), low, 127, ties_even)
    np.testing.assert_array_equal(seen.flatten().numpy(), wanted)


def test_the_selection_is_the_golden_one_and_what_it_keeps_has_gradients(torch):
    from finetune import ste

    values = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 5, 4)).astype(np.float32)).requires_grad_()
    masked = ste.select(values, 3, 8)
    wanted, _ = term_select.select(values.detach().permute(0, 2, 3, 1).numpy().astype(np.int16), 3, 8)
    np.testing.assert_array_equal(masked.detach().permute(0, 2, 3, 1).numpy(), wanted)
    gradient = torch.randn(masked.shape)
    masked.backward(gradient)
    assert torch.equal(values.grad, gradient * (masked != 0)) and 0 < (masked != 0).float().mean() < 0.5


def test_gradients_are_those_of_the_line_through_the_steps(torch):
    """Requantization against PyTorch's own gradient of the clamp, every operand."""
    from finetune import ste

    generator = torch.Generator().manual_seed(1)
    sums, residual = (torch.randn((4, 3, 5, 5), generator=generator) * 40 for _ in range(2))
    operands = [tensor.double().requires_grad_() for tensor in
                (sums, torch.tensor([3.0, -2.0, 0.0]), torch.tensor([2.0, 1.0, 0.5]), residual, torch.tensor(0.75))]
    weigh = torch.randn(sums.shape, generator=generator).double()
    (ste.requantized(*operands, -60, 50, True) * weigh).sum().backward()
    seen, operands = [one.grad for one in operands], [one.detach().clone().requires_grad_() for one in operands]
    s, b, f, r, ratio = operands
    (((s + b[:, None, None]) * f[:, None, None] + r * ratio).clamp(-60, 50) * weigh).sum().backward()
    for one, other in zip(seen, operands):
        torch.testing.assert_close(one, other.grad)


def test_weights_outside_of_their_range_are_let_go(torch):
    from finetune import ste

    for letters, expected, gradient in ((ONE_DIGIT, [-15, -15, 9, 15, 15], [0, 1, 1, 1, 0]), (INT4, [-8, -8, 7, 7, 7], [0, 0, 0, 0, 0])):
        weights = torch.tensor([-40.0, -15.0, 9.4, 15.0, 31.0], requires_grad=True)
        codes = ste.nearest(weights, letters)
        assert codes.tolist() == expected
        codes.sum().backward()
        assert weights.grad.tolist() == gradient


def test_weights_may_be_what_the_array_has(torch, start):
    """Of the machine with plain digits; of a depthwise layer bytes there, too."""
    from finetune.arithmetic import Terms

    layers = {layer.name: layer for layer in start.layers}
    for config, expected in ((CONFIG, (ONE_DIGIT, TWO_DIGITS)), (VARIANTS["small-plain"], (INT4, PLAIN_DIGITS))):
        letters = Terms(config).letters
        assert (letters(layers["side"]), letters(layers["stem"])) == expected and letters(layers["deep"]) is TWO_DIGITS


@pytest.fixture(scope="module")
def finished(torch, files, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    assert main(command(files, out, "--budget", "2", "--epochs", "8", "--rate", "0.003", "--hold", "64", "--batch", "16", "--augment", "none", "--average", "0.9")) == 0
    return out


def test_training_helps_and_the_file_holds_all_of_it(finished):
    report = json.loads((finished / "finetune.json").read_text())
    first, last = report["curve"][0], report["curve"][-1]
    assert [entry["epoch"] for entry in report["curve"]] == [*range(9)] and last["divergence"] < 0.8 * first["divergence"]
    network = onnx_import.read(finished / "digits.onnx")
    assert network.modes == {name: tuple(mode) for name, mode in report["modes"].items()}
    assert set(network.modes.values()) == {(16, True), (2, True)}
    chosen = flow.choose(network, np.zeros((2, *network.input_shape), np.float32), None, CONFIG, 1.0).sdp
    assert {layer.name: (layer.budget, layer.w4) for layer in chosen.layers if layer.name in network.modes} == network.modes


def test_the_same_bytes_again_also_after_an_interruption(finished, files, tmp_path, monkeypatch):
    from finetune import train

    options = ("--budget", "2", "--epochs", "8", "--rate", "0.003", "--hold", "64", "--batch", "16", "--augment", "none", "--average", "0.9")
    measure, calls = train.measure, []

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(train, "measure", cut)
    assert main(command(files, tmp_path, *options)) == 130
    monkeypatch.setattr(train, "measure", measure)
    assert main(command(files, tmp_path, *options)) == 0
    for name in ("digits.onnx", "finetune.json"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("average", [0.0, 0.6])
def test_what_comes_out_is_the_mean_of_the_last_parameters(torch, start, tmp_path, average):
    from finetune.model import Model
    from finetune.train import Held, Settings, train

    model, seen = Model(start, CONFIG), []

    def keep(done, total):
        seen.append([parameter.detach().clone() for parameter in model.parameters()])

    images, labels = np.tile(IMAGES, (3, 1, 1, 1)), np.zeros(3 * len(IMAGES), dtype=np.int64)

    def teacher(images):
        return np.ones((len(images), model.logits(images).shape[1]), dtype=np.float32)

    held = Held(np.concatenate([IMAGES, IMAGES]), labels[: len(IMAGES)], teacher(np.concatenate([IMAGES, IMAGES])))
    train(model, images, labels, teacher, held, Settings(epochs=2, batch=6, rate=0.05, average=average, augment=False), tmp_path / "c.pt", progress=keep)
    mean = seen[0]
    for n, parameters in enumerate(seen[1:], start=2):
        decay = min(average, 1 - 1 / n)
        mean = [decay * old + (1 - decay) * new for old, new in zip(mean, parameters)]
    found = [parameter.detach() for parameter in model.parameters()]
    torch.testing.assert_close(found, mean)
    assert all(map(torch.equal, found, seen[-1])) == (average == 0)


def test_modes_from_a_file(torch, files, tmp_path):
    (tmp_path / "modes.json").write_text('{"block1_a": [3, true], "block1_b": [5, false]}')
    assert main(command(files, tmp_path, "--modes", str(tmp_path / "modes.json"), "--epochs", "1", "--hold", "100")) == 0
    modes = onnx_import.read(tmp_path / "digits.onnx").modes
    assert modes["block1_a"] == (3, True) and modes["block1_b"] == (5, False) and modes["stem"] == (16, False)


def test_sentences(files, tmp_path, capsys, torch):
    (tmp_path / "modes.json").write_text('{"nowhere": [3, true]}')
    for options, sentence in ((("--hold", "180"), "sdp finetune: --hold 180, but must be 16 ... 176 of the 192 training images"),
                              (("--average", "1"), "sdp finetune: --average 1, but must be at least 0 and below 1"),
                              (("--budget", "17", "--hold", "64"), "a budget of 17, but 'small' has 1 ... 16"),
                              (("--modes", str(tmp_path / "modes.json"), "--hold", "64"), "'nowhere' is no convolution of this network")):
        assert main(command(files, tmp_path, *options)) == 1
        assert sentence in capsys.readouterr().err


def test_without_pytorch_one_sentence_says_what_to_do(files, tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "torch":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(command(files, tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.startswith("sdp finetune: this needs PyTorch") and "pip install" in error and error.count("\n") == 1


def test_a_search_needs_something_to_lose(files, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command(files, tmp_path, "--max-loss", "0"))
    assert stopped.value.code == 2 and "argument --max-loss: 0, but must be above 0" in capsys.readouterr().err


def test_without_the_shared_networks_there_is_nothing_to_do(tmp_path, capsys):
    assert networks.main(["--shared", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "finetune: skipped: no ../shared\n"


def test_standard_numbers_are_single_precision(start):
    for layer in onnx_export.standard(start, CONFIG).layers:
        assert np.float32(layer.in_scale) == layer.in_scale and layer.ties_even and layer.clamp[0] in (0, -128)
    assert dataclasses.replace(onnx_export.standard(start, CONFIG), layers=start.layers) == dataclasses.replace(start, layers=start.layers)
