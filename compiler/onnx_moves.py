"""The operators that only move data: they act on index arrays, and on constants in the same way."""

import numpy as np

from compiler.onnx_file import Operator
from compiler.onnx_graph import Graph
from compiler.onnx_problems import Unsupported
from compiler.onnx_view import View


def _reshape(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    shape = [int(n) for n in graph.constant(operator, 1)]
    if not operator.attributes.get("allowzero", 0):
        shape = [index.shape[at] if n == 0 else n for at, n in enumerate(shape)]
    # The batch that the file was exported for; here it is 1.
    if shape and shape[0] == graph.batch:
        shape[0] = 1
    if shape and shape[0] == -1 and np.prod(shape[1:]) == -index.size:
        shape[0] = 1
    try:
        return index.reshape(shape)
    except ValueError:
        raise Unsupported(f"{index.shape} cannot become {tuple(shape)}", "export with batch 1 or an open batch") from None


def _transpose(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    return index.transpose(operator.attributes.get("perm"))


def _flatten(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    axis = operator.attributes.get("axis", 1)
    axis += index.ndim if axis < 0 else 0
    return index.reshape(int(np.prod(index.shape[:axis])), -1)


def _squeeze(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    axes = graph.constant(operator, 1)
    return index.squeeze(None if axes is None else tuple(int(axis) for axis in axes))


def _unsqueeze(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    return np.expand_dims(index, tuple(int(axis) for axis in graph.constant(operator, 1)))


def _slice(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    starts, ends = graph.constant(operator, 1), graph.constant(operator, 2)
    axes = graph.constant(operator, 3, np.arange(len(starts)))
    steps = graph.constant(operator, 4, np.ones(len(starts), dtype=np.int64))
    cut = [slice(None)] * index.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        # A negative step that runs past the first element has no end in Python's notation.
        end = None if step < 0 and end < -index.shape[int(axis)] else int(end)
        cut[int(axis)] = slice(int(start), end, int(step))
    return index[tuple(cut)]


def _pad(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    mode = operator.attributes.get("mode", b"constant").decode()
    value = graph.constant(operator, 2)
    if value is not None and value.size and value.item() != 0 and mode == "constant":
        raise Unsupported(f"it pads with {value.item()}", "pad with zeros")
    pads, axes = graph.constant(operator, 1), graph.constant(operator, 3)
    axes = range(index.ndim) if axes is None else [int(axis) % index.ndim for axis in axes]
    sides = [(0, 0)] * index.ndim
    for at, axis in enumerate(axes):
        sides[axis] = int(pads[at]), int(pads[at + len(axes)])
    index = index[tuple(slice(max(0, -low), n - max(0, -high)) for (low, high), n in zip(sides, index.shape))]
    sides = [(max(0, low), max(0, high)) for low, high in sides]
    return np.pad(index, sides, constant_values=-1) if mode == "constant" else np.pad(index, sides, mode=mode)


def _same(graph: Graph, operator: Operator, index: np.ndarray) -> np.ndarray:
    return index


MOVES = {"Reshape": _reshape, "Transpose": _transpose, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
         "Slice": _slice, "Pad": _pad, "Identity": _same, "Dropout": _same}


def move(graph: Graph, operator: Operator) -> View:
    view = graph.view(operator.inputs[0])
    index = MOVES[operator.type](graph, operator, view.index)
    if index.ndim == 0 or index.shape[0] != 1:
        raise Unsupported(f"it makes a tensor of shape {index.shape} out of one image",
                          "keep the batch as the first axis; one image at a time is computed")
    return view.moved(index)


def concat(graph: Graph, operator: Operator) -> View:
    """Every operand is padded with zeros to the whole, then they are added."""
    views = [graph.view(name) for name in operator.inputs]
    axis = operator.attributes["axis"] % views[0].index.ndim
    if axis == 0:
        raise Unsupported("it joins along the batch", "one image at a time is computed")
    ends = np.cumsum([view.index.shape[axis] for view in views])
    parts = []
    for at, (view, end) in enumerate(zip(views, ends)):
        sides = [(0, 0)] * view.index.ndim
        sides[axis] = int(end) - view.index.shape[axis], int(ends[-1] - end)
        index = np.pad(view.index, sides, constant_values=-1)
        parts.append(graph.build.plain(View(view.node, view.shape, index, False, f"{operator.output}.{at}")))
    # In the order in which they are computed, so that each adds the sum of those before it.
    total, *rest = sorted(parts, key=lambda part: [*graph.build.nodes].index(part.node))
    for at, part in enumerate(rest):
        total = graph.build.add(total, part, operator.output if part is rest[-1] else f"{operator.output}.sum{at}")
    return total


def split(graph: Graph, operator: Operator) -> list[View]:
    view = graph.view(operator.inputs[0])
    axis = operator.attributes.get("axis", 0) % view.index.ndim
    sizes, size, count = graph.constant(operator, 1), view.index.shape[axis], len(operator.proto.output)
    sizes = [-(-size // count)] * (count - 1) if sizes is None else [int(n) for n in sizes[:-1]]
    if axis == 0:
        raise Unsupported("it splits the batch", "one image at a time is computed")
    return [view.moved(part) for part in np.split(view.index, np.cumsum(sizes), axis)]


HANDLERS = {**dict.fromkeys(MOVES, move), "Concat": concat, "Split": split}
