"""ONNX files made by tests, and what onnxruntime says of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import onnx_import

SHARED = Path(__file__).parents[1] / "../shared"
NETWORKS = ("resnet20_cifar10", "resnet8_mlperftiny", "dscnn_speech_commands")


def shared(name: str) -> Path:
    """The file of a shared network; skips the test where it is not at hand."""
    path = SHARED / "networks" / name / "model.onnx"
    if not path.exists():
        pytest.skip("no ../shared")
    return path


def node(operator: str, inputs, output: str, **attributes):
    """A node named after its output; ``inputs`` and ``output`` are names, separated by blanks."""
    return helper.make_node(operator, inputs.split(" "), output.split(" "), output.split(" ")[0], **attributes)


def save(path: Path, nodes, tensors=None, shape=(1, 3, 9, 7), output="y", opset=13, **model) -> Path:
    """Writes a graph from ``x`` to ``output``. Floats become float32, other constants stay what they are."""
    arrays = {name: np.asarray(array) for name, array in (tensors or {}).items()}
    arrays = {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays.items()}
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in output.split(" ")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, **{"ir_version": 8, **model}), path)
    return path


def runtime(path: Path, images: np.ndarray) -> np.ndarray:
    """onnxruntime's output for images (n, h, w, c), every operator computed as it is written."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    batch = images.reshape(len(images), -1) if len(source.shape) == 2 else np.moveaxis(images, 3, 1)
    return session.run(None, {source.name: batch})[0]


def in_order(found: np.ndarray) -> np.ndarray:
    """A tensor of ours, NHWC, flat as ONNX would have it."""
    return np.moveaxis(found, 3, 1).reshape(len(found), -1)


def compare(path: Path, images: int = 1, tolerance: float = 1e-4):
    """Reads a file and compares the float executor with onnxruntime on random images; returns the network."""
    network = onnx_import.read(path)
    batch = np.random.default_rng(0).normal(size=(images, *network.input_shape)).astype(np.float32)
    found, wanted = network.run(batch)[network.nodes[-1].name], runtime(path, batch)
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(in_order(found), wanted.reshape(len(batch), -1), atol=tolerance * scale)
    return network
