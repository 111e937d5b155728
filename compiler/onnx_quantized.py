"""Networks that come quantised: QuantizeLinear and DequantizeLinear compute nothing, they say how the tensor before them is coded.

A code here has no zero point. What ONNX writes with one is the same all the same if its codes, less the zero point, run from 0 to 255
(uint8 with 0, int8 with -128) or from -128 to 127 (int8 with 0, uint8 with 128).
"""

import numpy as np

from compiler.network import Codes
from compiler.onnx_file import Operator
from compiler.onnx_graph import Graph
from compiler.onnx_problems import Unsupported
from compiler.onnx_view import View

RANGES = ((0, 255), (-128, 127))
SYMMETRIC = "quantise symmetrically: int8 with zero point 0, after a ReLU also uint8 with zero point 0"


def _codes(graph: Graph, operator: Operator) -> Codes:
    scale, zero = graph.constant(operator, 1), graph.constant(operator, 2, np.zeros(1, dtype=np.uint8))
    if scale.size != 1:
        raise Unsupported("activations with a scale per channel", "quantise activations with one scale per tensor")
    if zero.dtype not in (np.int8, np.uint8):
        raise Unsupported(f"codes of type {zero.dtype}", "quantise to 8 bits")
    bounds, zero = np.iinfo(zero.dtype), int(zero.item())
    low, high = int(bounds.min) - zero, int(bounds.max) - zero
    if (low, high) not in RANGES:
        raise Unsupported(f"{bounds.dtype} with zero point {zero}", SYMMETRIC)
    return Codes(float(scale.item()), low, high)


def quantize(graph: Graph, operator: Operator) -> View:
    view = graph.view(operator.inputs[0])
    return view if operator.inputs[0] in graph.ended else graph.build.code(view, operator.output, _codes(graph, operator))


def dequantize(graph: Graph, operator: Operator) -> View:
    view = graph.view(operator.inputs[0])
    if operator.inputs[0] in graph.ended:
        return view
    codes, build = _codes(graph, operator), graph.build
    if view.node not in build.codes:
        if view.node in build.nodes:
            raise Unsupported("it reads a tensor that nothing quantised", "put QuantizeLinear before it")
        build.codes[view.node] = codes
    found = build.codes[view.node]
    if found.scale != codes.scale or found.signed != codes.signed and found.low:
        raise Unsupported(f"its scale or zero point is not that of the QuantizeLinear before it ({codes.scale} against {found.scale})",
                          "use the same for both")
    return view


def constant(operator: Operator, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """A constant, quantised or dequantised, and the scale of every element of a weight (a bias of 32 bits is just a number)."""
    if operator.attributes.get("block_size", 0):
        raise Unsupported("weights with a scale per block", "quantise weights with one scale per tensor or per output channel")
    value, scale = values[0], np.asarray(values[1], dtype=np.float32)
    zero = np.asarray(values[2] if len(values) > 2 else np.zeros(1, dtype=np.uint8))
    axis = operator.attributes.get("axis", 1) % max(value.ndim, 1)

    def along(array):
        return array.reshape([-1 if at == axis and array.size > 1 else 1 for at in range(value.ndim)])

    if operator.type == "QuantizeLinear":
        if zero.dtype not in (np.int8, np.uint8):
            raise Unsupported(f"codes of type {zero.dtype}", "quantise to 8 bits")
        bounds = np.iinfo(zero.dtype)
        return np.clip(np.rint(value / along(scale)) + along(zero), bounds.min, bounds.max).astype(zero.dtype), None
    plain = value.astype(np.int64) - along(zero.astype(np.int64))
    if value.dtype.itemsize == 1 and plain.size and not (-128 <= plain.min() and plain.max() <= 127):
        raise Unsupported(f"weights that reach from {plain.min()} to {plain.max()} steps from their zero point", SYMMETRIC)
    return (plain * along(scale)).astype(np.float32), np.broadcast_to(along(scale), value.shape) if value.dtype.itemsize == 1 else None


HANDLERS = {"QuantizeLinear": quantize, "DequantizeLinear": dequantize}
