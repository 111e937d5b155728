"""``sdp run`` on the digits and a tiny machine: the report's figures, the files, and sentences for what cannot be run."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from compiler import quantize
from hw import verilog
from sdp.__main__ import main
from sim import accuracy, flow, programs
from tests.onnx_models import node, save

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


@pytest.mark.parametrize("hits, count, low, high", [(0, 10, 0, 27.75), (10, 10, 72.25, 100), (50, 100, 40.38, 59.62), (872, 1000, 84.99, 89.13)])
def test_wilson_intervals(hits, count, low, high):
    found = accuracy.wilson(hits, count)
    assert found == pytest.approx((low, high), abs=0.01)


def test_batches_keep_the_order():
    seen = []
    found = accuracy.batches(lambda x: x * 2, np.arange(10.0)[:, None], 4, seen.append)
    assert list(found[:, 0]) == list(range(0, 20, 2)) and seen == [4, 4, 2]
    found = accuracy.batches(np.negative, np.arange(10.0)[:, None], 4, seen.append, processes=True)
    assert list(found[:, 0]) == list(range(0, -10, -1)) and seen == [4, 4, 2] * 2


def test_files_of_programs_are_read_again(tmp_path):
    assert programs.unpack(programs.pack([b"abc", b"", b"defg"])) == [b"abc", b"", b"defg"]
    assert programs.unpack(b"a bare program, of more than eight bytes") == [b"a bare program, of more than eight bytes"]
    with pytest.raises(programs.FileError, match="^there is no file"):
        programs.read(tmp_path / "program.bin")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    from examples.digits import data

    folder, split = tmp_path_factory.mktemp("digits"), data.load()
    np.savez(folder / "test.npz", x=split["test"].images[:60], y=split["test"].labels[:60])
    np.savez(folder / "calibration.npz", x=split["calibration"].images[:64], y=split["calibration"].labels[:64])
    return folder


@pytest.fixture(scope="module", autouse=True)
def emitted_once():
    """All runs are on one configuration, into one folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verilog, "emit", functools.cache(verilog.emit))
        yield


def diff(files) -> int:
    return main(["diff", str(files / "out"), "--config", "tiny", "--no-waves", "--verilog", str(files / "out" / "tiny" / "accelerator.v")])


def run(files, *more, model=DIGITS, test="test.npz", calibration="calibration.npz"):
    return main(["run", str(model), "--test", str(files / test), "--calibration", str(files / calibration), "--config", "tiny",
                 "--out", str(files / "out"), "--rtl-images", "2", *more])


def test_a_whole_run(files, capsys):
    assert run(files, "--max-loss", "5") == 0
    out, text = files / "out", capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert report["images"] == 60 and report["rtl_images"] == 2 and report["mismatches"] == 0 and report["problems"] == []
    for kind in ("float", "int8", "sdp"):
        low, high = report[f"top1_{kind}_interval"]
        assert 80 < report[f"top1_{kind}"] <= 100 and low <= report[f"top1_{kind}"] <= high
        assert f"{report[f'top1_{kind}']:.2f} %" in text
    rows = report["layers"]
    assert all(row["cycles_model"] == row["cycles_rtl"] > 0 for row in rows)
    cycles, macs = sum(row["cycles_rtl"] for row in rows), sum(row["macs"] for row in rows)
    assert report["nibble_cycles_per_mac"] == pytest.approx(cycles * report["nibble_multipliers"] / macs, rel=1e-3)
    assert report["cycles_per_image"] < report["cycles_per_image_exact8"]
    assert "<svg" in (out / "report.html").read_text()
    # The listing has a line for each layer, by its name, and the file of programs gives the same one.
    listing = (out / "program.txt").read_text()
    assert all(f"; {name}" in listing for name in report["program_layers"])
    assert main(["disassemble", str(out / "program.bin"), "--config", "tiny"]) == 0
    assert capsys.readouterr().out.count("layer conv") == listing.count("layer conv")
    assert diff(files) == 0
    assert "hardware and golden model are equal" in capsys.readouterr().out


def test_a_network_of_several_programs_per_frame(files, tmp_path, monkeypatch, capsys):
    """From the ONNX file to the report; the search, which the digits' run has, is left out."""
    rng = np.random.default_rng(0)
    nodes = [node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]), node("Relu", "c", "r"),
             node("Conv", "r v", "d", pads=[1, 1, 1, 1], group=8), node("Add", "d r", "a"), node("GlobalAveragePool", "a", "g"), node("Flatten", "g", "y")]
    model = save(tmp_path / "n.onnx", nodes, {"w": rng.normal(size=(8, 3, 3, 3)), "b": rng.normal(size=8), "v": rng.normal(size=(8, 1, 3, 3))},
                 shape=(1, 3, 72, 72))
    for name, count in (("wide", 3), ("many", 16)):
        np.savez(files / f"{name}.npz", x=rng.normal(size=(count, 3, 72, 72)).astype(np.float32), y=rng.integers(8, size=count))

    def choose(network, images, labels, config, *_):
        calibration = quantize.calibrate(network, images[:4])
        fast = quantize.quantize(calibration, config, {"c": (2, True)})
        return flow.Chosen(fast, quantize.quantize(calibration, config), network, [flow.Point(1, 0.5, 0.1)], [])

    monkeypatch.setattr(flow, "choose", choose)
    assert run(files, model=model, test="wide.npz", calibration="many.npz") == 0
    report = json.loads((files / "out" / "report.json").read_text())
    assert report["mismatches"] == 0 and report["problems"] == [] and report["rtl_images"] == 2
    assert len(programs.read(files / "out")) > 2 and "program 2 of" in (files / "out" / "program.txt").read_text()
    assert {row["name"] for row in report["layers"]} >= {"c", "g"} and all(row["cycles_model"] == row["cycles_rtl"] > 0 for row in report["layers"])
    assert len(report["program_layers"]) > len(report["layers"])
    assert "0 codes differ" in capsys.readouterr().out
    assert diff(files) == 0


def test_listing_of_a_model(capsys):
    assert main(["disassemble", str(DIGITS), "--config", "tiny"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("; every layer with all its terms, calibrated on random images")
    assert [line.split(":")[0] for line in lines if line.startswith("; program")] == ["; program 0 of 2", "; program 1 of 2"]
    names = [line.split("; ")[1] for line in lines if line.startswith("layer")]
    assert list(dict.fromkeys(names)) == [n.name for n in flow.read(DIGITS).nodes]
    assert all("budget=8" in line for line in lines if line.startswith("layer conv"))
    assert [line for line in lines if line][-1] == "end" and sum(line.startswith("store") for line in lines) == 1


@pytest.mark.parametrize("options, message", [
    ({"test": "none.npz"}, "test data 'none.npz': there is no file"),
    ({"calibration": "none.npz"}, "calibration data 'none.npz': there is no file"),
    ({"model": "none.onnx"}, "model 'none.onnx': there is no file"),
    ({"model": __file__}, "is not an ONNX file"),
    ({"more": ["--preprocess", "mean=1,2"]}, "preprocess: mean has 2 values"),
    ({"more": ["--calibration-images", "3"]}, "3 images are too few"),
])
def test_what_cannot_be_run(files, capsys, options, message):
    assert run(files, *options.get("more", []), **{name: value for name, value in options.items() if name != "more"}) == 1
    error = capsys.readouterr().err
    assert error.startswith("sdp run: ") and message in error and "Traceback" not in error


def test_test_images_among_the_calibration_images(files, capsys, monkeypatch):
    def stop(*args):
        raise flow.FlowError("far enough")

    monkeypatch.setattr(flow, "choose", stop)
    assert run(files, calibration="test.npz") == 1
    assert "warning: 60 of 60 test images are calibration images, too" in capsys.readouterr().err


def test_what_a_layer_adds_is_less_than_what_it_passes_on():
    from sdp.config import load

    images, config = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32), load("tiny")
    network = flow.read(DIGITS)
    quantized = quantize.quantize(quantize.calibrate(network, images), config)
    noise = flow.noise(network, quantized, images, config)
    assert set(noise) == {node.name for node in network.nodes}
    assert all(own > 25 for _, own in noise.values())
    last = network.nodes[-1].name
    assert noise[last][0] < noise[last][1]


def test_without_shared_networks(tmp_path, capsys):
    from sim import networks

    assert networks.main(["--shared", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "networks: skipped: no ../shared\n"
