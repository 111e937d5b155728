"""The operators that compute: one function each, from an ONNX operator to calls of the builder."""

import numpy as np

from compiler.onnx_file import Operator
from compiler.onnx_graph import Graph
from compiler.onnx_problems import Unsupported
from compiler.onnx_view import View


def _bias(graph: Graph, operator: Operator, at: int, size: int, factor: float = 1.0) -> np.ndarray:
    bias = graph.constant(operator, at, np.zeros(1, dtype=np.float32))
    if bias.size not in (1, size):
        raise Unsupported(f"a bias of shape {bias.shape} for {size} outputs", "give it one value per output")
    return np.broadcast_to(bias.ravel() * np.float32(factor), size).astype(np.float32)


def _steps(graph: Graph, name: str, axis: int) -> np.ndarray | None:
    """One scale per output of a quantised weight, whose outputs lie along ``axis``; none if it came as float or is finer than that."""
    if name not in graph.steps:
        return None
    steps = np.moveaxis(graph.steps[name], axis, 0).reshape(graph.steps[name].shape[axis], -1)
    return steps[:, 0].astype(np.float32) if (steps == steps[:, :1]).all() else None


def _window(operator: Operator, size, kernel) -> tuple[tuple, tuple, tuple]:
    """(stride, padding, ``auto_pad``), the padding worked out where that asks for it."""
    stride = tuple(operator.attributes.get("strides", (1,) * len(kernel)))
    if any(d != 1 for d in operator.attributes.get("dilations", ())):
        raise Unsupported(f"dilations {operator.attributes['dilations']}", "train with dilation 1 and a larger kernel, or more layers")
    mode = operator.attributes.get("auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        total = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(size, stride, kernel)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pad = (*less, *more) if mode == b"SAME_UPPER" else (*more, *less)
    else:
        pad = tuple(operator.attributes.get("pads", (0,) * 2 * len(kernel))) if mode == b"NOTSET" else (0,) * 2 * len(kernel)
    if min(pad) < 0:
        raise Unsupported(f"negative padding {pad}", "crop with Slice instead")
    return stride, pad, mode


def _image(operator: Operator, view: View) -> tuple[int, int]:
    """Height and width of a four-dimensional input."""
    rank = view.index.ndim
    if rank != 4:
        what = {3: "1-D convolution or pooling", 5: "3-D convolution or pooling"}.get(rank, f"an input of rank {rank}")
        raise Unsupported(f"{what} is not possible", "write it as a 2-D operator on (batch, channels, height, width)")
    return view.index.shape[2:]


def conv(graph: Graph, operator: Operator) -> View:
    weight = graph.constant(operator, 1)
    view = graph.view(operator.inputs[0])
    size = _image(operator, view)
    stride, pad, _ = _window(operator, size, weight.shape[2:])
    return graph.build.conv(view, operator.output, weight, _bias(graph, operator, 2, len(weight)), stride=stride, pad=pad,
                            group=operator.attributes.get("group", 1), steps=_steps(graph, operator.inputs[1], 0))


def gemm(graph: Graph, operator: Operator) -> View:
    if operator.attributes.get("transA", 0):
        raise Unsupported("transA = 1", "transpose the weights instead")
    weight, transposed = graph.constant(operator, 1), operator.attributes.get("transB", 0)
    alpha = operator.attributes.get("alpha", 1.0)
    steps = _steps(graph, operator.inputs[1], 0 if transposed else 1) if alpha > 0 else None
    weight = (weight.T if transposed else weight) * np.float32(alpha)
    bias = _bias(graph, operator, 2, weight.shape[1], operator.attributes.get("beta", 1.0))
    steps = steps if steps is None else steps * np.float32(alpha)
    return graph.build.dense(_vector(graph, operator, weight), operator.output, weight, bias, steps)


def matmul(graph: Graph, operator: Operator) -> View:
    if operator.inputs[0] in graph.constants:
        raise Unsupported("a constant is the left operand", "transpose the product, so that the weights are the right one")
    weight = graph.constant(operator, 1)
    if weight.ndim != 2:
        raise Unsupported(f"weights of shape {weight.shape}", "use a matrix of (inputs, outputs)")
    bias = np.zeros(weight.shape[1], dtype=np.float32)
    return graph.build.dense(_vector(graph, operator, weight), operator.output, weight, bias, _steps(graph, operator.inputs[1], 1))


def _vector(graph: Graph, operator: Operator, weight: np.ndarray) -> View:
    view = graph.view(operator.inputs[0])
    if view.index.ndim != 2 or view.index.shape != (1, len(weight)):
        raise Unsupported(f"a product of shapes {view.index.shape} and {weight.shape}",
                          "flatten to (batch, features) first, or use a 1x1 Conv for a product per pixel")
    return view


def batch_normalization(graph: Graph, operator: Operator) -> View:
    if operator.attributes.get("training_mode", 0):
        raise Unsupported("it is in training mode", "export the network for inference")
    gamma, beta, mean, variance = (graph.constant(operator, at).astype(np.float64) for at in range(1, 5))
    scale = gamma / np.sqrt(variance + operator.attributes.get("epsilon", 1e-5))
    return _per_channel(graph, operator, graph.view(operator.inputs[0]), scale, beta - mean * scale)


def _per_channel(graph: Graph, operator: Operator, view: View, scale: np.ndarray, offset: np.ndarray) -> View:
    """``scale * x + offset``, either one value or one along axis 1."""
    shape = (1, -1) + (1,) * (view.index.ndim - 2)
    return _affine(graph, operator, view, scale.reshape(shape), offset.reshape(shape))


def _affine(graph: Graph, operator: Operator, view: View, scale: np.ndarray, offset: np.ndarray) -> View:
    """Operands that broadcast to the view's shape, as values per channel of the tensor behind it."""
    if view.has_zeros and (np.asarray(offset) != 0).any():
        view = graph.build.plain(view)
    values = []
    for operand in (scale, offset):
        if np.broadcast_shapes(operand.shape, view.index.shape) != view.index.shape:
            raise Unsupported(f"a constant of shape {operand.shape} for {view.index.shape}", "use one value, or one per channel")
        full = np.broadcast_to(operand, view.index.shape)
        flat = np.zeros(int(np.prod(view.shape)))
        kept = view.index >= 0
        flat[view.index[kept]] = full[kept]
        flat = flat.reshape(-1, view.shape[2])
        known = np.zeros(flat.size, dtype=bool)
        known[view.index[kept]] = True
        known = known.reshape(flat.shape)
        first = flat[known.argmax(axis=0), np.arange(flat.shape[1])]
        if (known & (flat != first)).any():
            raise Unsupported("a constant that differs from pixel to pixel", "use one value, or one per channel")
        values.append(first.astype(np.float32))
    return graph.build.affine(view, operator.output, *values)


def arithmetic(graph: Graph, operator: Operator) -> View:
    """Add, Sub, Mul and Div: with a constant folded, Add of two tensors a residual."""
    constant = [name in graph.constants for name in operator.inputs]
    if not any(constant):
        if operator.type == "Add":
            return graph.build.add(*(graph.view(name) for name in operator.inputs), operator.output)
        raise Unsupported("both operands are activations", "only Add takes two of them; for the others one must be a constant")
    view, value = graph.view(operator.inputs[int(constant[0])]), graph.constant(operator, int(constant[1])).astype(np.float64)
    one, none = np.ones(1), np.zeros(1)
    match operator.type, constant[0]:
        case "Add", _:
            scale, offset = one, value
        case "Sub", False:
            scale, offset = one, -value
        case "Sub", True:
            scale, offset = -one, value
        case "Mul", _:
            scale, offset = value, none
        case "Div", False:
            if (value == 0).any():
                raise Unsupported("it divides by zero", "correct the constant")
            scale, offset = 1 / value, none
        case _:
            raise Unsupported("it divides a constant by activations", "avoid it: the output stage only multiplies by constants")
    return _affine(graph, operator, view, scale, offset)


def relu(graph: Graph, operator: Operator) -> View:
    return graph.build.clamp(graph.view(operator.inputs[0]), operator.output, relu=True)


def clip(graph: Graph, operator: Operator) -> View:
    low, high = (float(np.asarray(value).item()) for value in (graph.constant(operator, 1, -np.inf), graph.constant(operator, 2, np.inf)))
    lowest = float(np.finfo(np.float32).min)
    if not (low == 0 or low <= lowest) or high <= 0:
        raise Unsupported(f"bounds {low} and {high}", "use 0 or none as the lower bound and a positive upper one")
    high = None if high >= -lowest else high
    view = graph.view(operator.inputs[0])
    return view if low and high is None else graph.build.clamp(view, operator.output, relu=low == 0, clip=high)


def pool(graph: Graph, operator: Operator) -> View:
    kind, view = "max" if operator.type == "MaxPool" else "avg", graph.view(operator.inputs[0])
    if len(operator.outputs) > 1:
        raise Unsupported("the indices of the maxima are read", "use only the maxima")
    size, kernel = _image(operator, view), operator.attributes["kernel_shape"]
    stride, pad, mode = _window(operator, size, kernel)
    if kind == "avg" and any(pad) and not operator.attributes.get("count_include_pad", 0):
        raise Unsupported("padding that is not counted, so that the divisor changes at the border",
                          "set count_include_pad = 1, or pool without padding")
    if operator.attributes.get("ceil_mode", 0) and mode == b"NOTSET":
        pad = _rounded_up(kind, size, kernel, stride, pad)
    return graph.build.pool(view, operator.output, kind, kernel, stride, pad)


def _rounded_up(kind, size, kernel, stride, pad):
    """Padding with which sizes round down to what ``ceil_mode`` makes of them; the last window must begin inside of the image."""
    pad = list(pad)
    for axis in range(2):
        total = size[axis] + pad[axis] + pad[axis + 2] - kernel[axis]
        out = -(-total // stride[axis])
        if out * stride[axis] >= size[axis] + pad[axis]:
            out -= 1
        more = out * stride[axis] - total
        if more > 0 and kind == "avg":
            raise Unsupported("ceil_mode with a last window that is cut, so that the divisor changes", "use ceil_mode = 0")
        pad[axis + 2] += max(0, more)
    return tuple(pad)


def global_pool(graph: Graph, operator: Operator) -> View:
    view = graph.view(operator.inputs[0])
    return graph.build.pool(view, operator.output, "avg", _image(operator, view), (1, 1))


def reduce_mean(graph: Graph, operator: Operator) -> View:
    view, keep = graph.view(operator.inputs[0]), operator.attributes.get("keepdims", 1)
    axes = operator.attributes.get("axes", graph.constant(operator, 1))
    rank = view.index.ndim
    axes = sorted(int(axis) % rank for axis in (range(rank) if axes is None else axes))
    rest = [axis for axis in range(1, rank) if axis not in axes]
    if rank != 4 or len(axes) != 2 or 0 in axes or not len(rest) == 1:
        raise Unsupported(f"a mean over axes {axes} of {rank}", "only the mean over height and width is possible")
    # Whatever axis is kept must be the channels; the two others may come in either order.
    image = view.moved(np.moveaxis(view.index, rest[0], 1))
    made = graph.build.pool(image, operator.output, "avg", _image(operator, image), (1, 1))
    index = made.index[:, :, 0, 0]
    return made.moved(np.expand_dims(index, axes) if keep else index)


def softmax(graph: Graph, operator: Operator) -> View:
    """The largest stays the largest: dropped where nothing follows."""
    if not graph.ends(operator.output):
        raise Unsupported("it is not the end of the network", "only a last softmax can be left out; end the network before it")
    view = graph.view(operator.inputs[0])
    if operator.attributes.get("axis", -1) % view.index.ndim != 1:
        raise Unsupported("it is not over the channels", "use axis = 1")
    graph.ended.add(operator.output)
    return view


HANDLERS = {"Conv": conv, "Gemm": gemm, "MatMul": matmul, "BatchNormalization": batch_normalization, "Relu": relu, "Clip": clip,
            "MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": global_pool, "ReduceMean": reduce_mean,
            "Softmax": softmax, "LogSoftmax": softmax,
            **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic)}
