"""Writes the folded digits network as ONNX, node by node, so that the file stays small and plain."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, units: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """``units``: name to (weight, bias) with batch norm folded in, as :mod:`examples.digits.train` yields them."""
    nodes = []

    def conv(name, source, kernel, stride=1):
        pad = kernel // 2
        nodes.append(helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [name], name=name, kernel_shape=[kernel, kernel],
                                      strides=[stride, stride], pads=[pad] * 4))
        return name

    def apply(kind, inputs, name, **attributes):
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def relu(source):
        return apply("Relu", [source], f"{source}.relu")

    x = relu(conv("stem", "image", 3))
    inner = relu(conv("block1_a", x, 3))
    x = relu(apply("Add", [conv("block1_b", inner, 3), x], "block1.sum"))
    inner = relu(conv("block2_a", x, 3, 2))
    x = relu(apply("Add", [conv("block2_b", inner, 3), conv("shortcut", x, 1, 2)], "block2.sum"))
    x = apply("MaxPool", [x], "max_pool", kernel_shape=[2, 2], strides=[2, 2])
    x = apply("Flatten", [apply("GlobalAveragePool", [x], "average_pool")], "flat", axis=1)
    apply("Gemm", [x, "classifier.weight", "classifier.bias"], "logits", transB=1)
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), f"{name}.{part}")
               for name, pair in units.items() for part, array in zip(("weight", "bias"), pair)]
    graph = helper.make_graph(nodes, "digits", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="sdp", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
