"""The float network and the ONNX reader, against onnxruntime."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from compiler import onnx_import
from compiler.network import Codes, Conv, Network, NetworkError, Pool, clamp, identity, macs
from tests.onnx_models import NETWORKS, compare, runtime, save, shared

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_shared_network_equals_onnxruntime(name):
    compare(shared(name), images=4, tolerance=1e-5)


@pytest.mark.parametrize("name, convolutions, depthwise, residuals, millions", [
    ("resnet20_cifar10", 22, 0, 9, 40.8), ("resnet8_mlperftiny", 10, 0, 3, 12.5), ("dscnn_speech_commands", 10, 4, 0, 2.7)])
def test_a_shared_network_is_fused(name, convolutions, depthwise, residuals, millions):
    network = onnx_import.read(shared(name))
    shapes, convs = network.shapes(), [node for node in network.nodes if isinstance(node, Conv)]
    assert (len(convs), sum(node.depthwise for node in convs), sum(node.residual is not None for node in convs)) == (
        convolutions, depthwise, residuals)
    assert len(network.nodes) == convolutions + 1
    assert sum(macs(node, shapes[node.name]) for node in convs) / 1e6 == pytest.approx(millions, abs=0.06)


def test_digits_equals_onnxruntime():
    network = onnx_import.read(DIGITS)
    images = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32)
    found = network.run(images)[network.nodes[-1].name].reshape(20, 10)
    np.testing.assert_allclose(found, runtime(DIGITS, images), atol=1e-4)


def test_digits_is_small_and_fused():
    network = onnx_import.read(DIGITS)
    assert DIGITS.stat().st_size < 300_000
    assert [type(node).__name__ for node in network.nodes].count("Pool") == 2
    assert sum(node.residual is not None for node in network.nodes if isinstance(node, Conv)) == 2
    assert sum(node.relu for node in network.nodes if isinstance(node, Conv)) == 5


def test_every_operator_equals_onnxruntime(tmp_path):
    rng = np.random.default_rng(1)
    tensors = {"w1": rng.normal(size=(5, 3, 3, 2)), "b1": rng.normal(size=5), "w2": rng.normal(size=(5, 5, 3, 3)), "b3": rng.normal(size=6)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], "c", strides=[2, 1], pads=[1, 0, 2, 1]),
        helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("Conv", ["r", "w2"], ["d"], "d", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["r", "d"], ["s"], "s"),
        helper.make_node("AveragePool", ["s"], ["a"], "a", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        helper.make_node("MaxPool", ["a"], ["m"], "m", kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 0, 0]),
        helper.make_node("Flatten", ["m"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "y"),
    ]
    network = onnx_import.read(save(tmp_path / "n.onnx", nodes[:-1], tensors, output="f"))
    size = int(np.prod(network.shapes()[network.nodes[-1].name]))
    tensors["w3"] = rng.normal(size=(size, 6))
    path = save(tmp_path / "n.onnx", nodes, tensors)
    images = rng.normal(size=(1, 9, 7, 3)).astype(np.float32)
    network = onnx_import.read(path)
    np.testing.assert_allclose(network.run(images)[network.nodes[-1].name].reshape(1, 6), runtime(path, images), atol=1e-3)


def test_all_obstacles_at_once(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first", dilations=[2, 2]),
        helper.make_node("Softplus", ["c"], ["e"], "second"),
        helper.make_node("AveragePool", ["e"], ["y"], "third", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    with pytest.raises(NetworkError) as caught:
        onnx_import.read(save(tmp_path / "n.onnx", nodes, {"w": np.ones((2, 3, 3, 3))}))
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 obstacles in n.onnx:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["node 'first'", "node 'second'", "node 'third'"]


def test_what_comes_after_a_node():
    x = np.array([-2.0, 0.5, 3.0], dtype=np.float32).reshape(1, 1, 3, 1)
    nodes = (identity("relu", "x", relu=True), identity("both", "x", relu=True, clip=2.0), identity("above", "x", clip=2.0),
             identity("sum", "both", residual="x"))
    tensors = Network(name="n", input="x", input_shape=(1, 3, 1), nodes=nodes).run(x)
    for name, wanted in (("relu", [0, 0.5, 3]), ("both", [0, 0.5, 2]), ("above", [-2, 0.5, 2]), ("sum", [-2, 1, 5])):
        np.testing.assert_array_equal(tensors[name].ravel(), np.float32(wanted))
    assert clamp(nodes[-1], x) is x


def test_depthwise_is_a_dense_one_with_zeros_elsewhere():
    rng = np.random.default_rng(2)
    weight, bias, x = rng.normal(size=(3, 1, 5, 2)), rng.normal(size=3), rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    dense = np.zeros((3, 3, 5, 2))
    dense[range(3), range(3)] = weight[:, 0]
    common = dict(input="x", bias=bias, stride=(1, 2), pad=(2, 0, 1, 1), relu=True)
    nodes = (Conv(name="a", weight=weight, depthwise=True, **common), Conv(name="b", weight=dense, **common))
    network = Network(name="n", input="x", input_shape=(6, 7, 3), nodes=nodes)
    tensors = network.run(x)
    np.testing.assert_allclose(tensors["a"], tensors["b"], atol=1e-5)
    assert macs(nodes[0], network.shapes()["a"]) * 3 == macs(nodes[1], network.shapes()["b"])


def test_tensors_that_came_quantised_are_rounded():
    x = np.array([-3.0, -0.26, 0.24, 9.0], dtype=np.float32).reshape(1, 1, 4, 1)
    codes = {"x": Codes(0.5, -4, 3), "y": Codes(0.25, 0, 5)}
    tensors = Network(name="n", input="x", input_shape=(1, 4, 1), nodes=(identity("y", "x"),), codes=codes).run(x)
    assert tensors["x"].ravel().tolist() == [-2, -0.5, 0, 1.5] and tensors["y"].ravel().tolist() == [0, 0, 0, 1.25]
    conv = Conv(name="c", input="x", weight=np.float32([[[[0.3]]], [[[-0.5]]]]), bias=np.zeros(2), weight_scale=np.float32([0.1, 0.25]))
    assert conv.weight_codes.ravel().tolist() == [3, -2]


@pytest.mark.parametrize("pool, message", [
    (Pool(name="p", input="y", kind="max", kernel=(2, 2), stride=(1, 1)), r"^node 'p' reads 'y', which no earlier node makes$"),
    (Pool(name="p", input="x", kind="max", kernel=(9, 1), stride=(1, 1)),
     r"^node 'p': a kernel of \(9, 1\) does not fit an input of \(4, 4\)$"),
])
def test_shapes_that_do_not_match(pool, message):
    with pytest.raises(NetworkError, match=message):
        Network(name="n", input="x", input_shape=(4, 4, 2), nodes=(pool,)).shapes()
