"""What operators read and write while a graph is taken."""

import numpy as np

from compiler.onnx_build import Builder
from compiler.onnx_file import Operator
from compiler.onnx_problems import Unsupported
from compiler.onnx_view import View


class Graph:
    """What operators read: ``views`` of computed tensors, ``constants``, ``steps``, the scales of constants that came quantised, and
    ``ended``, the tensors behind a softmax that was left out."""

    def __init__(self, builder: Builder, constants: dict[str, np.ndarray], *, batch: int, opset: int, operators: list[Operator],
                 outputs: list[str]):
        self.build, self.constants = builder, constants
        self.batch, self.opset, self.operators, self.outputs = batch, opset, operators, outputs
        self.views: dict[str, View] = {}
        self.steps: dict[str, np.ndarray] = {}
        self.ended: set[str] = set()

    def view(self, name: str) -> View:
        if name not in self.views:
            raise Unsupported(f"it reads {name!r}, which is a constant", "fold constants before the export, e.g. with onnxsim")
        return self.views[name]

    def ends(self, name: str) -> bool:
        """Whether nothing computes with a tensor any more: quantised or not, it is what the network yields."""
        return all(operator.type in ("QuantizeLinear", "DequantizeLinear", "Identity") and self.ends(operator.output)
                   for operator in self.operators if name in operator.inputs)

    def constant(self, operator: Operator, at: int, default=None) -> np.ndarray | None:
        """Input number ``at``, which must be known now and finite."""
        if at >= len(operator.inputs) or not operator.inputs[at]:
            return default
        name = operator.inputs[at]
        if name not in self.constants:
            raise Unsupported(f"{name!r} is computed at run time", "it must be a constant: products of activations do not run on the array")
        value = self.constants[name]
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Unsupported(f"{name!r} holds NaN or infinity", "train or export the weights again")
        return value.astype(np.float32) if value.dtype.kind == "f" else value
