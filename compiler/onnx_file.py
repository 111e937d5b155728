"""Opens an ONNX file: everything that is wrong with the file as a whole is one sentence; what remains is a clean list of operators."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper, shape_inference, version_converter

from compiler.network import NetworkError

OPSET_MIN = 13
"""Older models are converted to this version of the operators; newer ones are read as they are."""
DOMAINS = ("", "ai.onnx")
MODES = "sdp.modes"
"""Key of the file's metadata with the modes that a network was trained for, JSON: {node: [budget, w4]}."""


@dataclass(frozen=True, eq=False)
class Operator:
    """One node of the graph; ``name`` is what problems are reported under, ``outputs`` end with the last one that is read."""

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict = field(default_factory=dict)
    proto: onnx.NodeProto | None = None

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class Model:
    """``shapes``: of tensors as far as they are known, batch 1, -1 for an unknown side; ``uses``: how often each tensor is read;
    ``metadata``: of the file, texts by key."""

    name: str
    file: str
    operators: list[Operator]
    constants: dict[str, np.ndarray]
    inputs: dict[str, tuple[int, ...]]
    outputs: list[str]
    shapes: dict[str, tuple[int, ...]]
    batch: int
    opset: int
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def uses(self) -> Counter:
        return Counter(name for operator in self.operators for name in operator.inputs) + Counter(self.outputs)


def load(path: str | Path) -> Model:
    """The operators that the output depends on.

    Raises
    ------
    NetworkError
        One sentence: no ONNX file, cut short, not valid, of an unknown version.
    """
    path = Path(path)
    model = _parse(path)
    opset = next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 0)
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise NetworkError(f"{path.name}: it uses operator set {opset}, known are 1 ... {newest}: export it with opset {OPSET_MIN} or a later known one")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    batch = _fix_batch(model)
    _check(model, path)
    if opset < OPSET_MIN:
        try:
            model, opset = version_converter.convert_version(model, OPSET_MIN), OPSET_MIN
        except Exception as error: # the converter raises whatever its adapters do
            raise NetworkError(f"{path.name}: it cannot be converted from operator set {opset} to {OPSET_MIN} ({_first_line(error)}): "
                               f"export it with opset {OPSET_MIN} or later") from None
    try:
        model = shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise NetworkError(f"{path.name}: its shapes contradict each other ({_first_line(error)})") from None
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = [*graph.input, *graph.value_info, *graph.output]
    shapes = {value.name: _shape(value) for value in values}
    return Model(name=graph.name or path.stem, file=path.name, operators=_needed(graph), constants=constants,
                 inputs={value.name: _shape(value) for value in graph.input if value.name not in constants},
                 outputs=[value.name for value in graph.output], shapes=shapes, batch=batch, opset=opset, metadata=metadata)


def _parse(path: Path) -> onnx.ModelProto:
    data = path.read_bytes()
    # The first field of every writer's files is the version of the format.
    damaged = f"{path.name}: the file is cut short or damaged" if data[:1] == b"\x08" else f"{path.name}: this is not an ONNX file"
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise NetworkError(damaged) from None
    if not model.graph.node:
        raise NetworkError(f"{path.name}: the file is empty" if not data else damaged if not model.graph.output else f"{path.name}: the graph has no nodes")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise NetworkError(f"{path.name}: its weights lie in another file that cannot be read ({_first_line(error)})") from None
    return model


def _fix_batch(model: onnx.ModelProto) -> int:
    """Sets the first side of every input to 1 and drops shapes that were inferred for another; returns what it was, 1 if it was open."""
    constants, batch = {tensor.name for tensor in model.graph.initializer}, 1
    for value in model.graph.input:
        if value.name not in constants and value.type.tensor_type.shape.dim:
            first = value.type.tensor_type.shape.dim[0]
            batch = max(batch, first.dim_value)
            first.Clear()
            first.dim_value = 1
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.ClearField("shape")
    return batch


def _check(model: onnx.ModelProto, path: Path) -> None:
    """The checker of the format; operators that it does not know are left to be reported with all others."""
    defined = {"", *(value.name for value in model.graph.input), *(tensor.name for tensor in model.graph.initializer)}
    defined |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    for node in model.graph.node:
        for name in node.input:
            if name not in defined:
                raise NetworkError(f"{path.name}: node {node.name or node.output[0]!r} reads {name!r}, which is no input, no initializer and "
                                   "no earlier node's output: the file is incomplete")
        defined |= set(node.output)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if not all(_known(node, versions) for node in model.graph.node):
        return
    # The checker wants shapes of outputs, which exporters leave out and nothing here needs.
    outputs = list(model.graph.output)
    del model.graph.output[:]
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise NetworkError(f"{path.name}: this is not a valid ONNX model: {_first_line(error)}") from None
    finally:
        model.graph.output.extend(outputs)


def _known(node: onnx.NodeProto, versions: dict[str, int]) -> bool:
    """Whether the format defines this operator in this version."""
    version = versions.get(node.domain, max(versions.get(domain, 0) for domain in DOMAINS))
    try:
        onnx.defs.get_schema(node.op_type, version, "" if node.domain in DOMAINS else node.domain)
    except onnx.defs.SchemaError:
        return False
    return True


def _needed(graph: onnx.GraphProto) -> list[Operator]:
    """Operators that the outputs depend on, in order."""
    wanted, needed = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kind = node.op_type if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            outputs = list(node.output)
            while len(outputs) > 1 and outputs[-1] not in wanted:
                outputs.pop()
            needed.append(Operator(node.name or outputs[0], kind, list(node.input), outputs, attributes, node))
            wanted |= set(node.input)
    return needed[::-1]


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
