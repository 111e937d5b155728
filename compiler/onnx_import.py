"""ONNX to :class:`compiler.network.Network`: ReLU and the addition of a residual go into the convolution that they follow.

The supported operators are the keys of :data:`ATTRIBUTES`; everything that is in the way is reported at once.
"""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compiler.network import Conv, Network, NetworkError, Node, Pool, output_shape

ATTRIBUTES = {
    "Conv": {"dilations": [1, 1], "group": 1, "auto_pad": b"NOTSET", "kernel_shape": None, "strides": None, "pads": None},
    "MaxPool": {"dilations": [1, 1], "ceil_mode": 0, "storage_order": 0, "auto_pad": b"NOTSET",
                "kernel_shape": None, "strides": None, "pads": None},
    "AveragePool": {"ceil_mode": 0, "auto_pad": b"NOTSET", "count_include_pad": None,
                    "kernel_shape": None, "strides": None, "pads": None},
    "GlobalAveragePool": {}, "Relu": {}, "Add": {},
    "Flatten": {"axis": 1},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": None},
}
"""Operators and their attributes with the only value that is taken, or none where any is."""


def read(path: str | Path) -> Network:
    """The network in an ONNX file.

    Raises
    ------
    NetworkError
        Listing every node that is not supported, with the reason.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    problems = [problem for node in graph.node for problem in _problems(node, constants)]
    if len(inputs) != 1 or len(graph.output) != 1:
        problems.append(f"the graph has {len(inputs)} inputs and {len(graph.output)} outputs, but must have one of each")
    else:
        shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
        if len(shape) != 4 or min(shape[1:]) < 1:
            problems.append(f"the input {inputs[0].name!r} is of shape {shape}, but must be (batch, channels, height, width)")
    if problems:
        raise NetworkError("\n".join([f"{len(problems)} obstacles in {Path(path).name}:", *(f"  {p}" for p in problems)]))
    channels, height, width = shape[1:]
    builder = _Builder(inputs[0].name, (height, width, channels), constants, graph)
    for node in graph.node:
        builder.add(node)
    network = Network(name=graph.name or Path(path).stem, input=inputs[0].name, input_shape=(height, width, channels),
                      nodes=tuple(builder.nodes.values()))
    if not network.nodes or builder.names[graph.output[0].name] != network.nodes[-1].name:
        raise NetworkError(f"{Path(path).name}: the output {graph.output[0].name!r} is not the last node's")
    network.shapes()
    return network


def _attributes(node: onnx.NodeProto) -> dict:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _problems(node: onnx.NodeProto, constants: dict) -> list[str]:
    where = f"node {node.name or node.output[0]!r}"
    if node.op_type not in ATTRIBUTES:
        return [f"{where}: operator {node.op_type} is not supported; supported are {', '.join(sorted(ATTRIBUTES))}"]
    allowed, found = ATTRIBUTES[node.op_type], []
    for name, value in _attributes(node).items():
        if name not in allowed or (allowed[name] is not None and value != allowed[name]):
            found.append(f"{where}: {node.op_type} with {name} = {value} is not supported; it must be {allowed.get(name, 'absent')}")
    if node.op_type in ("Conv", "Gemm"):
        found += [f"{where}: {node.op_type} takes weights from {name!r}, which is no constant"
                  for name in node.input[1:] if name not in constants]
    if node.op_type == "Add":
        found += [f"{where}: Add of the constant {name!r} is not supported" for name in node.input if name in constants]
    if node.op_type == "AveragePool" and any(_attributes(node).get("pads", [])) and not _attributes(node).get("count_include_pad", 0):
        found.append(f"{where}: AveragePool with padding needs count_include_pad = 1")
    return found


class _Builder:
    """``names``: ONNX tensor to tensor of the network; ``nodes``: the network's nodes by name, in order."""

    def __init__(self, source, shape, constants, graph):
        self.names, self.shapes, self.nodes = {source: source}, {source: shape}, {}
        self.constants = constants
        self.uses = Counter(name for node in graph.node for name in node.input) + Counter(value.name for value in graph.output)

    def add(self, node: onnx.NodeProto) -> None:
        attributes, output = _attributes(node), node.output[0]
        source = self.names[node.input[0]]
        pad = tuple(attributes.get("pads", (0, 0, 0, 0)))
        stride = tuple(attributes.get("strides", (1, 1)))
        match node.op_type:
            case "Conv":
                weight = self.constants[node.input[1]]
                bias = self._bias(node, weight)
                self._append(output, Conv(name=output, input=source, weight=weight, bias=bias, stride=stride, pad=pad))
            case "Gemm":
                height, width, channels = self.shapes[source]
                weight = self.constants[node.input[1]]
                weight = weight if attributes.get("transB") else weight.T
                bias = self._bias(node, weight)
                # Flatten saw (channels, height, width).
                self._append(output, Conv(name=output, input=source, weight=weight.reshape(-1, channels, height, width), bias=bias))
            case "MaxPool" | "AveragePool":
                kind, kernel = "max" if node.op_type == "MaxPool" else "avg", tuple(attributes["kernel_shape"])
                self._append(output, Pool(name=output, input=source, kind=kind, kernel=kernel, stride=stride, pad=pad))
            case "GlobalAveragePool":
                self._append(output, Pool(name=output, input=source, kind="avg", kernel=self.shapes[source][:2], stride=(1, 1)))
            case "Flatten":
                self.names[output] = source
            case "Relu":
                self._fuse(node, source, relu=True)
            case "Add":
                # The one that is computed last adds the other.
                sources = sorted((self.names[name] for name in node.input), key=[*self.shapes].index)
                self._fuse(node, sources[-1], residual=sources[0])

    def _bias(self, node, weight):
        bias = self.constants[node.input[2]] if len(node.input) > 2 else 0
        return np.broadcast_to(np.asarray(bias, dtype=np.float32).ravel(), len(weight)).copy()

    def _append(self, output: str, node: Node) -> None:
        self.nodes[node.name] = node
        self.names[output] = node.name
        self.shapes[node.name] = output_shape(node, self.shapes[node.input])

    def _fuse(self, node, target: str, **changes) -> None:
        """``node`` becomes part of the convolution ``target``, if that one's result is used by nothing else."""
        conv = self.nodes.get(target)
        alone = all(self.uses[name] == 1 for name in node.input if self.names[name] == target)
        again = "residual" in changes and isinstance(conv, Conv) and (conv.residual or target == changes["residual"])
        if not isinstance(conv, Conv) or conv.relu or not alone or again:
            where = f"node {node.name or node.output[0]!r}"
            raise NetworkError(f"{where}: {node.op_type} must follow a convolution whose result nothing else reads")
        self.nodes[target] = dataclasses.replace(conv, **changes)
        self.names[node.output[0]] = target
