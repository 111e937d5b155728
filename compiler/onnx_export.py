"""The integer network as a standard ONNX file: QuantizeLinear and DequantizeLinear around float operators (QDQ format).

Codes and scales are the network's own: weights int8 with one scale per output channel, biases int32, activations uint8 or int8, all zero
points 0. Any runtime computes it, with whole codes; :mod:`compiler.onnx_import` reads the very same integers back. What no operator can
say, the budget and the weight mode of every convolution, is metadata, :data:`MODES`.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.network import NetworkError
from compiler.onnx_file import MODES
from compiler.quantize import fit_shift
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from sdp import __version__
from sdp.config import Config
from sdp.program import Kind

OPSET, IR_VERSION = 13, 8


def standard(network: QuantizedNetwork, config: Config) -> QuantizedNetwork:
    """The network in numbers that ONNX has: scales in single precision, signed codes from -128 as in int8, ties to even.

    The file gives back exactly this. Codes differ from those of ``network`` at ties, where -128 is no longer clipped, and where a
    multiplier of a pooling or a residual, the quotient of two scales, is not what it was.
    """
    scales = {network.input: network.input_scale} | {layer.name: layer.out_scale for layer in network.layers}
    scales = {name: np.float32(scale) for name, scale in scales.items()}

    def wide(low: int, high: int) -> tuple[int, int]:
        return (-128, high) if low < 0 else (low, high)

    def layer(old: QuantizedLayer) -> QuantizedLayer:
        into, out = scales[old.input], scales[old.name]
        residual = float(scales[old.residual] / out) if old.residual is not None else 0.0
        ratios = old.multiplier / (1 << old.shift)
        if old.weights is None:
            ratios = np.full(len(ratios), float(into / (out * np.float32(1 if old.kind is Kind.MAX else old.kernel[0] * old.kernel[1]))))
        shift = fit_shift(np.append(ratios, residual), config.scale_bits)
        # One below the largest: its scale in single precision leads to the same shift.
        multiplier = np.clip(np.rint(ratios * (1 << shift)), 1, (1 << config.scale_bits) - 2).astype(np.int64)
        weight_scale = multiplier * float(out) / float(into) / (1 << shift) if old.weights is not None else None
        return dataclasses.replace(old, clamp=wide(*old.clamp), ties_even=True, in_scale=float(into), out_scale=float(out), shift=shift,
                                   multiplier=multiplier, residual_multiplier=round(residual * (1 << shift)), weight_scale=weight_scale)

    limits = network.input_limits or ((-127, 127) if network.input_signed else (0, 255))
    return dataclasses.replace(network, layers=tuple(map(layer, network.layers)), input_scale=float(scales[network.input]), input_limits=wide(*limits))


def save(network: QuantizedNetwork, path: str | Path) -> None:
    """Writes the file; see :func:`export`."""
    Path(path).write_bytes(export(network).SerializeToString(deterministic=True))


def export(network: QuantizedNetwork) -> onnx.ModelProto:
    """The network as an ONNX model, its input (N, channels, height, width), its output (N, values).

    The same network makes the same bytes. A multiplier is ``in_scale * weight_scale / out_scale`` on its grid, so float32 scales give
    it back.

    Raises
    ------
    NetworkError
        A tensor with codes that neither uint8 nor int8 stand for.
    """
    graph = _Graph()
    low, high = network.input_limits or ((-127, 127) if network.input_signed else (0, 255))
    graph.quantize(network.input, network.input, network.input_scale, low, high)
    for layer in network.layers:
        _layer(graph, network, layer)
    last, (height, width, channels) = network.layers[-1], network.input_shape
    # The last tensor as a row of values, as classifiers have it.
    output = graph.node("Flatten", [_values(last.name)], f"{last.name}.row", axis=1)
    made = helper.make_graph(graph.nodes, network.name, [helper.make_tensor_value_info(network.input, TensorProto.FLOAT, ("N", channels, height, width))],
                             [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("N", int(np.prod(last.out_shape))))],
                             [numpy_helper.from_array(array, name) for name, array in graph.constants.items()])
    model = helper.make_model(made, producer_name="sdp", producer_version=__version__, ir_version=IR_VERSION,
                              opset_imports=[helper.make_opsetid("", OPSET)])
    modes = {layer.name: [layer.budget, layer.w4] for layer in network.layers if layer.kind is Kind.CONV}
    helper.set_model_props(model, {MODES: json.dumps(modes)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _values(name: str) -> str:
    """The real values of a tensor's codes."""
    return f"{name}.values"


class _Graph:
    """Nodes and constants so far; a node is named after its output."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def quantize(self, value: str, name: str, scale: float, low: int, high: int) -> None:
        """Rounds ``value`` to the codes of the tensor ``name``, and these to real values again; the type sets the lower bound."""
        signed = low < 0
        if not (low == -128 and high <= 127 if signed else low == 0 and high <= 255):
            raise NetworkError(f"tensor {name!r}: no ONNX type has the codes {low} ... {high}, only int8 those from -128 and uint8 those from 0")
        if high < (127 if signed else 255):
            value = self.node("Clip", [value, "", self.constant(f"{name}.bound", np.float32(high * scale))], f"{name}.clip")
        inputs = [self.constant(f"{name}.scale", np.float32(scale)), self.constant(f"{name}.zero", np.int8(0) if signed else np.uint8(0))]
        self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *inputs], f"{name}.codes"), *inputs], _values(name))


def _layer(graph: _Graph, network: QuantizedNetwork, layer: QuantizedLayer) -> None:
    """Operator, residual, ReLU, codes. What the reader takes for the layer's name is the output of the first of them."""
    name, source = layer.name, _values(layer.input)
    (height, width, channels), weights, window = layer.in_shape, layer.weights, (layer.kernel, layer.stride, layer.pad)
    if layer.input == network.input and network.packing:
        # The host's layout of a shallow input is no part of the network.
        packing, (height, width, channels) = network.packing, network.input_shape
        weights, window = weights.reshape(*packing.kernel, channels, -1), (packing.kernel, packing.stride, packing.pad)
    behind = [max(0, (out - 1) * s + k - size - p) for out, k, s, p, size in zip(layer.out_shape, *window, (height, width))]
    shape = dict(kernel_shape=window[0], strides=window[1], pads=(*window[2], *behind))
    alone = layer.kind is Kind.SUM and layer.residual is not None
    if weights is not None:
        weights = weights[:, :, None] if layer.kind is Kind.DEPTHWISE else weights
        if layer.bias.size and not -(1 << 31) <= layer.bias.min() <= layer.bias.max() < 1 << 31:
            raise NetworkError(f"layer {name!r}: biases from {layer.bias.min()} to {layer.bias.max()} are no int32")
        inputs = [source]
        for what, codes, scale in (("weight", weights.transpose(3, 2, 0, 1).astype(np.int8), layer.weight_scale),
                                   ("bias", layer.bias.astype(np.int32), layer.in_scale * layer.weight_scale)):
            made = graph.constant(f"{name}.{what}.codes", codes), graph.constant(f"{name}.{what}.scale", scale.astype(np.float32))
            inputs.append(graph.node("DequantizeLinear", [*made], f"{name}.{what}", axis=0))
        value = graph.node("Conv", inputs, name, group=channels if layer.kind is Kind.DEPTHWISE else 1, **shape)
    elif layer.kind is Kind.MAX:
        value = graph.node("MaxPool", [source], name, **shape)
    elif not alone:
        value = graph.node("AveragePool", [source], name, count_include_pad=1, **shape)
    if layer.residual is not None:
        value = graph.node("Add", [name if not alone else source, _values(layer.residual)], f"{name}.sum" if not alone else name)
    if layer.clamp[0] == 0 and (weights is not None or layer.residual is not None):
        value = graph.node("Relu", [value], f"{name}.relu")
    graph.quantize(value, name, layer.out_scale, *layer.clamp)
