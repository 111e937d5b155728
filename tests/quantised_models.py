"""Networks that onnxruntime quantised: symmetric INT8 in QDQ format, with its scales or with powers of two, and what onnxruntime makes of them."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler import onnx_import, quantize
from compiler.quantized import QuantizedNetwork, run
from sdp.config import NAMED, Config
from sim import data
from tests.onnx_models import SHARED

CASES = (("resnet20_cifar10", "cifar10", "cifar10-resnet20"), ("resnet8_mlperftiny", "cifar10", "raw"), ("dscnn_speech_commands", "speech_commands", "none"))
"""Shared networks, their data, its preprocessing."""
BATCH = 32
"""Images at once: bounds the memory."""


def quantise(source: Path, images: np.ndarray, target: Path, unsigned: bool = False) -> Path:
    """The network, calibrated on ``images`` (n, h, w, c): codes int8 with zero point 0, weights per channel; without a last softmax.

    ``unsigned``: activations are uint8 with zero point 128, which are the same codes. onnxruntime fuses all of them on x86, but of int8
    only those that are read once; what is left it computes in floating point.
    """
    quantization = pytest.importorskip("onnxruntime.quantization")
    model = onnx.load(source)
    if model.graph.node[-1].op_type == "Softmax":
        output = model.graph.output[0].name
        last = model.graph.node.pop()
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, None))
        assert last.output[0] == output
    plain = target.with_suffix(".float.onnx")
    onnx.save(model, plain)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    batch = images if len(shape) == 4 and shape[3] == images.shape[3] and shape[1] != images.shape[3] else np.moveaxis(images, 3, 1)
    # One image at a time: the batch may be fixed.
    batches = iter([{model.graph.input[0].name: image[None]} for image in batch])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    kind = quantization.QuantType.QUInt8 if unsigned else quantization.QuantType.QInt8
    quantization.quantize_static(plain, target, Reader(), quant_format=quantization.QuantFormat.QDQ, activation_type=kind, per_channel=True,
                                 extra_options={"ActivationSymmetric": True, "WeightSymmetric": True})
    return target


def with_powers_of_two(source: Path, target: Path) -> Path:
    """The same network with every scale the next larger power of two; weights and biases are quantised anew, so that they stay what they were."""
    model = onnx.load(source)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    changed = {}

    def power(scale):
        return np.exp2(np.ceil(np.log2(scale))).astype(np.float32)

    def along(scale, like):
        return scale.reshape([-1] + [1] * (like.ndim - 1)) if scale.size > 1 else scale

    makers = {output: node for node in model.graph.node for output in node.output}
    # Weights first: the scale of a bias is that of its input times that of its weights.
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            name = node.input[1]
            if node.input[0] not in arrays or arrays[node.input[0]].dtype == np.int8:
                changed[name] = power(arrays[name])
            if node.input[0] in arrays and arrays[node.input[0]].dtype == np.int8:
                codes = arrays[node.input[0]]
                values = codes * along(arrays[name], codes).astype(np.float64)
                changed[node.input[0]] = np.clip(np.rint(values / along(changed[name], codes)), -127, 127).astype(np.int8)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            into, weight, bias = (makers[name] for name in node.input)
            scale = changed[into.input[1]] * changed[weight.input[1]]
            values = arrays[bias.input[0]] * arrays[bias.input[1]].astype(np.float64)
            changed[bias.input[0]] = np.rint(values / scale).astype(np.int32)
            changed[bias.input[1]] = np.broadcast_to(scale, arrays[bias.input[1]].shape).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    onnx.save(model, target)
    return target


def runtime(path: Path, images: np.ndarray, *, optimised: bool, every: bool = False) -> dict[str, np.ndarray]:
    """Codes (n, values) of the output, called ``""``; with ``every`` of all that is quantised, by the names of the tensors before.

    ``optimised``: as onnxruntime runs it by default, operators and what quantises them fused; otherwise all as it is written.
    """
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    assert last.op_type == "DequantizeLinear"
    quantised = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    if every:
        model.graph.output.extend(helper.make_tensor_value_info(codes, TensorProto.INT8, None) for codes in quantised.values())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    batch = images if source.shape[1] == images.shape[1] and source.shape[-1] == images.shape[3] else np.moveaxis(images, 3, 1)
    # One image at a time where the batch is fixed.
    size = source.shape[0] if isinstance(source.shape[0], int) else len(batch)
    found = [session.run(None, {source.name: batch[at : at + size]}) for at in range(0, len(batch), size)]
    values, *codes = (np.concatenate(parts) for parts in zip(*found))
    codes = {"": np.rint(values / arrays[last.input[1]]).astype(np.int16), **dict(zip(quantised, codes))}
    return {name: array.reshape(len(images), -1) for name, array in codes.items()}


def different(network: QuantizedNetwork, images: np.ndarray, config: Config, wanted: np.ndarray) -> int:
    """How many images have any output that is not ``wanted``, codes (n, values)."""
    last, count = network.layers[-1].name, 0
    for begin in range(0, len(images), BATCH):
        at = slice(begin, begin + BATCH)
        codes = run(network, network.encode(images[at]), config.group)[last]
        count += int((np.moveaxis(codes, 3, 1).reshape(len(codes), -1) != wanted[at]).any(axis=1).sum())
    return count


def main():
    """What docs/running.md has: of 500 test images of the shared networks, how many have any output that is not onnxruntime's default one."""
    print("network, scales, activations: by scale_bits; of onnxruntime itself when it fuses nothing")
    for name, folder, how in CASES:
        source, values = SHARED / "networks" / name / "model.onnx", SHARED / "data" / folder
        shape, how = onnx_import.read(source).input_shape, data.preprocessing(how)
        calibration = data.load(values / "calib.npz", shape, how, limit=64).images
        images = data.load(values / "test.npz", shape, how, limit=500).images
        with tempfile.TemporaryDirectory() as folder:
            signed, unsigned = (quantise(source, calibration, Path(folder) / f"{kind}.onnx", kind == "uint8") for kind in ("int8", "uint8"))
            powers = with_powers_of_two(signed, Path(folder) / "powers.onnx")
            for kind, path in (("float32, int8", signed), ("float32, uint8", unsigned), ("powers of two, int8", powers)):
                wanted, plain = (runtime(path, images, optimised=optimised)[""] for optimised in (True, False))
                calibrated, counts = quantize.calibrate(onnx_import.read(path), calibration[:8]), []
                for bits in (16, 20, 24, 31):
                    config = dataclasses.replace(NAMED["small"], scale_bits=bits)
                    counts.append(f"{bits}: {different(quantize.quantize(calibrated, config), images, config, wanted)}")
                print(f"{name}, {kind}: {', '.join(counts)}; itself: {int((wanted != plain).any(axis=1).sum())}", flush=True)


if __name__ == "__main__":
    main()
