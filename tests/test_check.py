"""``sdp check``: everything that is in the way at once, or the table of layers."""

import dataclasses
import types

import numpy as np
import onnx
import pytest

from compiler import check, onnx_import
from compiler.network import NetworkError
from compiler.onnx_problems import Obstacles
from sdp.config import NAMED
from tests.onnx_models import NETWORKS, node, save, shared
from tests.unsupported_models import CONV, NODES, W3


def run(path, config="small", **changes):
    return check.main(types.SimpleNamespace(model=path, config=dataclasses.replace(NAMED[config], **changes)))


@pytest.mark.parametrize("case", NODES)
def test_all_offending_nodes_are_named_with_a_remedy(tmp_path, capsys, case):
    nodes, tensors, wanted = NODES[case]
    path = save(tmp_path / "n.onnx", nodes, tensors)
    assert run(path) == 1
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{len(wanted)} obstacle{'s' if len(wanted) > 1 else ''} in n.onnx:"
    assert [line.split("'")[1] for line in lines] == [*wanted]
    for line, remedy in zip(lines, wanted.values()):
        assert remedy in line.split("; remedy: ")[1], line
    with pytest.raises(Obstacles) as caught:
        onnx_import.read(path)
    assert {problem.node for problem in caught.value.problems} == {*wanted}


@pytest.mark.parametrize("name", NETWORKS)
def test_table_of_a_shared_network(capsys, name):
    assert run(shared(name)) == 0
    lines = capsys.readouterr().out.splitlines()
    network = onnx_import.read(shared(name))
    assert [line.split()[0] for line in lines[1:-1]] == [n.name for n in network.nodes]
    assert f"{len(network.nodes)} layers, " in lines[-1]


def test_multiplications_and_what_is_fused(tmp_path, capsys):
    nodes = [CONV, node("Relu", "first", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 1]), node("Clip", "p  six", "y")]
    assert run(save(tmp_path / "n.onnx", nodes, {"w": W3, "six": np.float32(6)})) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:3]] == [
        "first convolution 3x3 + relu 7 x 5 x 4 3,780", "p maximum 2x2/2x1 <= 6 3 x 4 x 4 0"]


def test_a_sum_too_long_for_a_configuration(tmp_path, capsys):
    path = save(tmp_path / "n.onnx", [node("Conv", "x w", "y")], {"w": np.ones((2, 300, 3, 3))}, shape=(1, 300, 4, 4))
    assert run(path, reduction=2304) == 1
    assert "'y': Conv: each output sums over 2736 codes" in (out := capsys.readouterr().out) and "reduction = 2736" in out
    assert run(path, reduction=2736) == 0


@pytest.mark.parametrize("shape, words", [
    ((1, 3, "h", 7), r"'x' is of shape \(batch, 3, \?, 7\), but .* export it with fixed sizes$"),
    ((1, 3, 9), r"'x' is of shape \(batch, 3, 9\)"),
    ((1, 3, 9, 7, 5), r"'x' is of shape \(batch, 3, 9, 7, 5\)"),
])
def test_shapes_of_the_input(tmp_path, shape, words):
    weight = np.ones((4, 3, *(3,) * (len(shape) - 2)))
    with pytest.raises(NetworkError, match=words):
        onnx_import.read(save(tmp_path / "n.onnx", [CONV, node("Relu", "first", "y")], {"w": weight}, shape=shape))


def test_3d_convolution(tmp_path):
    nodes = [node("Unsqueeze", "x a", "u"), node("Conv", "u w", "y")]
    with pytest.raises(Obstacles, match=r"node 'y': Conv: 3-D convolution or pooling is not possible; remedy: write it as a 2-D operator"):
        onnx_import.read(save(tmp_path / "n.onnx", nodes, {"a": np.array([2], dtype=np.int64), "w": np.ones((4, 3, 1, 3, 3))}))


def test_one_sentence_about_a_file(tmp_path, capsys):
    whole = save(tmp_path / "n.onnx", [CONV, node("Relu", "first", "y")], {"w": W3}).read_bytes()
    for data, words in ((b"", "the file is empty"), (b"\x89PNG\r\n\x1a\n" + bytes(50), "this is not an ONNX file"), (b"hello, world", "this is not an ONNX file"),
                        *((whole[:size], "the file is cut short or damaged") for size in (3, 60, 100, 300, len(whole) - 1))):
        path = tmp_path / "broken.onnx"
        path.write_bytes(data)
        assert run(path) == 1
        assert capsys.readouterr().out == f"broken.onnx: {words}\n", data[:10]


@pytest.mark.parametrize("nodes, tensors, options, words", [
    ([CONV], {"w": W3}, {"output": "first", "opset": 99}, r"^n\.onnx: it uses operator set 99, known are 1 \.\.\. \d+: export it with opset 13"),
    ([CONV], {}, {"output": "first"}, r"node 'first' reads 'w', which is no input, no initializer and no earlier node's output"),
    ([CONV, node("Relu", "first", "second")], {"w": W3}, {"output": "first second"}, "1 inputs and 2 outputs, but must have one of each"),
    ([node("Conv", "x w", "y", nonsense=1)], {"w": W3}, {}, "not a valid ONNX model: .*nonsense"),
    ([node("Conv", "x w", "y")], {"w": np.ones((4, 5, 3, 3))}, {}, "input of 3 channels|shapes contradict"),
    ([node("Identity", "x", "y")], {}, {}, "nothing is computed"),
    ([node("Add", "k k", "y")], {"k": np.ones(3)}, {}, "nothing is computed"),
])
def test_one_sentence_about_a_model(tmp_path, nodes, tensors, options, words):
    with pytest.raises(NetworkError, match=words) as caught:
        onnx_import.read(save(tmp_path / "n.onnx", nodes, tensors, **options))
    assert len(str(caught.value).splitlines()) <= 2


def test_weights_in_a_missing_file(tmp_path):
    path = save(tmp_path / "n.onnx", [CONV, node("Relu", "first", "y")], {"w": np.ones((64, 3, 3, 3))})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    onnx_import.read(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(NetworkError, match=r"^n\.onnx: its weights lie in another file that cannot be read"):
        onnx_import.read(path)
    assert run(tmp_path / "absent.onnx") == 1
