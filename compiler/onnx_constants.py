"""What an operator makes of constants alone is computed once, by the reference implementation of ONNX."""

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from compiler.onnx_file import Operator
from compiler.onnx_graph import Graph
from compiler.onnx_moves import MOVES
from compiler.onnx_problems import Unsupported
from compiler.onnx_quantized import constant


def fold(graph: Graph, operator: Operator) -> bool:
    """Computes the operator if all that it reads is constant; false if it is not."""
    read = [name for name in operator.inputs if name]
    if operator.type == "Shape" and read[0] in graph.views:
        shape, attributes = graph.views[read[0]].index.shape, operator.attributes
        graph.constants[operator.output] = np.array(shape[attributes.get("start", 0) : attributes.get("end")], dtype=np.int64)
        return True
    if not all(name in graph.constants for name in read) or (not read and operator.type != "Constant"):
        return False
    values = [graph.constants[name] for name in read]
    steps = None
    if operator.type in ("QuantizeLinear", "DequantizeLinear"):
        graph.constants[operator.output], steps = constant(operator, values)
    else:
        for name, value in zip(operator.outputs, evaluate(operator, values, graph.opset)):
            graph.constants[name] = np.asarray(value)
    if operator.type in MOVES and read[0] in graph.steps:
        steps = evaluate(operator, [np.ascontiguousarray(graph.steps[read[0]]), *values[1:]], graph.opset)[0]
    if steps is not None:
        graph.steps[operator.output] = steps
    return True


def evaluate(operator: Operator, values: list[np.ndarray], opset: int) -> list[np.ndarray]:
    read = [name for name in operator.inputs if name]
    types = [helper.np_dtype_to_tensor_dtype(value.dtype) for value in values]
    inputs = [helper.make_tensor_value_info(name, kind, value.shape) for name, kind, value in zip(read, types, values)]
    outputs = [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in operator.proto.output if name]
    graph = helper.make_graph([operator.proto], "constant", inputs, outputs)
    try:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        return ReferenceEvaluator(model).run(None, dict(zip(read, values)))
    except Exception as error: # the reference raises whatever NumPy does
        raise Unsupported(f"its constants cannot be computed ({type(error).__name__}: {error})", "fold constants before exporting") from None
