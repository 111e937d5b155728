"""The float network and the ONNX reader, against onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import onnx_import
from compiler.network import Conv, Network, NetworkError, Pool

DIGITS = Path(__file__).parents[1] / "examples/digits/digits.onnx"


def save(path, nodes, tensors, shape=(1, 3, 9, 7), output="y"):
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def runtime(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.moveaxis(images, 3, 1)})[0]


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


@pytest.mark.parametrize("pool, message", [
    (Pool(name="p", input="y", kind="max", kernel=(2, 2), stride=(1, 1)), r"^node 'p' reads 'y', which no earlier node makes$"),
    (Pool(name="p", input="x", kind="max", kernel=(9, 1), stride=(1, 1)),
     r"^node 'p': a kernel of \(9, 1\) does not fit an input of \(4, 4\)$"),
])
def test_shapes_that_do_not_match(pool, message):
    with pytest.raises(NetworkError, match=message):
        Network(name="n", input="x", input_shape=(4, 4, 2), nodes=(pool,)).shapes()
