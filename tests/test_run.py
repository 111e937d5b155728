"""``sdp run`` on the digits and a tiny machine: the report's figures, the files, and sentences for what cannot be run."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdp.__main__ import main
from sim import accuracy, flow, programs

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


@pytest.mark.parametrize("hits, count, low, high", [(0, 10, 0, 27.75), (10, 10, 72.25, 100), (50, 100, 40.38, 59.62), (872, 1000, 84.99, 89.13)])
def test_wilson_intervals(hits, count, low, high):
    found = accuracy.wilson(hits, count)
    assert found == pytest.approx((low, high), abs=0.01)


def test_batches_keep_the_order():
    seen = []
    found = accuracy.batches(lambda x: x * 2, np.arange(10.0)[:, None], 4, seen.append)
    assert list(found[:, 0]) == list(range(0, 20, 2)) and seen == [4, 4, 2]


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
    assert main(["diff", str(out), "--config", "tiny", "--no-waves"]) == 0
    assert "hardware and golden model are equal" in capsys.readouterr().out


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
    from compiler import quantize

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
