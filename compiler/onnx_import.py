"""ONNX to :class:`compiler.network.Network`, or the list of everything that is in the way.

Constants are computed, data movement becomes index arrays (:mod:`onnx_view`), and what computes becomes nodes (:mod:`onnx_ops`,
:mod:`onnx_build`). After an operator that cannot be taken the reader goes on with a tensor of the shape that it would have, so that all
of them are found at once.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from compiler import onnx_moves, onnx_ops, onnx_quantized
from compiler.network import Conv, Network, NetworkError, Node
from compiler.onnx_build import Builder
from compiler.onnx_constants import fold
from compiler.onnx_file import MODES, Model, Operator, load
from compiler.onnx_graph import Graph
from compiler.onnx_problems import Obstacles, Problem, Unsupported, remedy_for
from compiler.onnx_view import View, nchw, vector

HANDLERS = {**onnx_ops.HANDLERS, **onnx_moves.HANDLERS, **onnx_quantized.HANDLERS}
SUPPORTED = tuple(sorted(HANDLERS))


def read(path: str | Path) -> Network:
    """The network in an ONNX file.

    Raises
    ------
    Obstacles
        Listing every node that is not supported, with reason and remedy.
    NetworkError
        One sentence about the file as a whole.
    """
    model = load(path)
    source, view = _input(model)
    builder = Builder(model.uses)
    graph = Graph(builder, model.constants, batch=model.batch, opset=model.opset, operators=model.operators, outputs=model.outputs)
    graph.views[source] = builder.source(source, view.shape, view.index)
    problems = [problem for operator in model.operators if (problem := _take(graph, operator, model))]
    if problems:
        raise Obstacles(model.file, problems)
    result = graph.views.get(model.outputs[0])
    if result is None or not builder.nodes:
        raise NetworkError(f"{model.file}: nothing is computed from the input {source!r}")
    if result.has_zeros or result.index.size != int(np.prod(result.shape)) or result.node != [*builder.nodes][-1]:
        result = builder.plain(result)
    network = Network(name=model.name, input=source, input_shape=view.shape, nodes=tuple(builder.nodes.values()), codes=builder.codes,
                      modes=modes(model.metadata.get(MODES, "{}"), builder.nodes.values(), f"{model.file}: metadata {MODES!r}"))
    network.shapes()
    return network


def modes(text: str, nodes: Iterable[Node], where: str) -> dict[str, tuple[int, bool]]:
    """(budget, w4) of convolutions from JSON, ``{node: [budget, w4]}``; ``where``: what begins the sentence if that is not what it is."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise NetworkError(f"{where}: must be a JSON object of [budget, w4] by node, but is {text[:60]!r}")
    known = {node.name for node in nodes if isinstance(node, Conv) and not node.depthwise}
    for name, mode in found.items():
        if name not in known:
            raise NetworkError(f"{where}: {name!r} is no convolution of this network that sums over channels, those are {', '.join(sorted(known))}")
        if not (isinstance(mode, list) and [type(value) for value in mode] == [int, bool] and mode[0] >= 1):
            raise NetworkError(f"{where}: {name!r} has {json.dumps(mode)}, but must have a budget of at least 1 and true or false, as in [4, true]")
    return {name: (budget, w4) for name, (budget, w4) in found.items()}


def _input(model: Model) -> tuple[str, View]:
    """Name of the input, its shape in NHWC and where its elements lie; an input that is transposed at once is NHWC in the file, too."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NetworkError(f"{model.file}: the graph has {len(model.inputs)} inputs and {len(model.outputs)} outputs, but must have one of each")
    (name, shape), = model.inputs.items()
    if len(shape) not in (2, 4) or min(shape[1:]) < 1:
        sides = ", ".join("?" if side < 0 else str(side) for side in shape[1:])
        raise NetworkError(f"{model.file}: the input {name!r} is of shape (batch, {sides}), but must be (batch, channels, height, width), "
                           "all but the batch fixed: export it with fixed sizes")
    if len(shape) == 2:
        return name, View(name, (1, 1, shape[1]), vector(shape[1]))
    readers = [(operator.type, list(operator.attributes.get("perm", ()))) for operator in model.operators if name in operator.inputs]
    if readers and all(reader == ("Transpose", [0, 3, 1, 2]) for reader in readers):
        return name, View(name, shape[1:], np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape))
    shape = shape[2], shape[3], shape[1]
    return name, View(name, shape, nchw(shape))


def _take(graph: Graph, operator: Operator, model: Model) -> Problem | None:
    """Computes, moves or builds what an operator says; the problem, if it cannot."""
    try:
        if not fold(graph, operator):
            if operator.type not in HANDLERS:
                raise Unsupported("this operator is not supported", remedy_for(operator.type, SUPPORTED))
            # A tensor behind a problem whose shape is unknown tells nothing more.
            if any(name and name not in graph.views and name not in graph.constants for name in operator.inputs):
                _stand_in(graph, operator, model)
                return None
            made = HANDLERS[operator.type](graph, operator)
            for name, view in zip(operator.outputs, made if isinstance(made, list) else [made]):
                # A view that was passed on is alone if its source was and it is read once.
                alone = view.alone and graph.build.uses[name] == 1 and len(operator.outputs) == 1
                graph.views[name] = dataclasses.replace(view, alone=alone, name=name)
            if graph.ended & set(operator.inputs):
                graph.ended |= set(operator.outputs)
        return None
    except (Unsupported, NetworkError) as error:
        _stand_in(graph, operator, model)
        if isinstance(error, Unsupported):
            return Problem(operator.name, operator.type, error.reason, error.remedy)
        return Problem(operator.name, operator.type, str(error), "correct the shapes of the network")


def _stand_in(graph: Graph, operator: Operator, model: Model) -> None:
    """Tensors of the shapes that an operator would have made, where they are known, so that what follows is looked at as well."""
    for name in operator.outputs:
        shape = model.shapes.get(name, ())
        if len(shape) in (2, 4) and shape[0] == 1 and min(shape[1:]) > 0:
            sizes = (1, 1, shape[1]) if len(shape) == 2 else (shape[2], shape[3], shape[1])
            graph.views[name] = graph.build.source(name, sizes, vector(shape[1]) if len(shape) == 2 else None)
