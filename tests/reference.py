"""Slow references that share no code with golden/: loops in plain Python, and onnxruntime's integer convolution."""

import numpy as np


def convolution(image, weights, stride, pad, out):
    """(n, h, w, c) and (kernel_h, kernel_w, c, channels), loops over everything but the channels."""
    n, h, w, c = image.shape
    kernel_h, kernel_w, _, channels = weights.shape
    result = np.zeros((n, *out, channels), dtype=object)
    for i in range(n):
        for y in range(out[0]):
            for x in range(out[1]):
                for ky in range(kernel_h):
                    for kx in range(kernel_w):
                        at_y, at_x = y * stride[0] - pad[0] + ky, x * stride[1] - pad[1] + kx
                        if 0 <= at_y < h and 0 <= at_x < w:
                            for ci in range(c):
                                result[i, y, x] += int(image[i, at_y, at_x, ci]) * weights[ky, kx, ci].astype(object)
    return result


def pooling(image, maximum, kernel, stride, pad, out):
    n, h, w, c = image.shape
    result = np.zeros((n, *out, c), dtype=object)
    for i, y, x, ci in np.ndindex(result.shape):
        seen = [int(image[i, at_y, at_x, ci])
                for at_y in range(y * stride[0] - pad[0], y * stride[0] - pad[0] + kernel[0]) if 0 <= at_y < h
                for at_x in range(x * stride[1] - pad[1], x * stride[1] - pad[1] + kernel[1]) if 0 <= at_x < w]
        result[i, y, x, ci] = (max(seen) if seen else 0) if maximum else sum(seen)
    return result


def conv_integer(image, weights, stride, pad, out):
    """The same through onnxruntime: codes of one signedness (n, h, w, c), int8 weights; ``out`` needs no more padding than the kernel has rows."""
    import onnxruntime
    from onnx import TensorProto, helper

    signed = bool((image < 0).any())
    below = (out[0] - 1) * stride[0] + weights.shape[0] - pad[0] - image.shape[1]
    right = (out[1] - 1) * stride[1] + weights.shape[1] - pad[1] - image.shape[2]
    # Rows that no window reaches: cut, for the operator has no negative padding.
    image = image[:, : image.shape[1] + min(0, below), : image.shape[2] + min(0, right)]
    kind = TensorProto.INT8 if signed else TensorProto.UINT8
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"], pads=[*pad, max(0, below), max(0, right)], strides=list(stride))
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, None), helper.make_tensor_value_info("w", TensorProto.INT8, None)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = image.transpose(0, 3, 1, 2).astype(np.int8 if signed else np.uint8)
    y = session.run(None, {"x": np.ascontiguousarray(x), "w": np.ascontiguousarray(weights.transpose(3, 2, 0, 1).astype(np.int8))})[0]
    assert y.shape[2:] == tuple(out)
    return y.transpose(0, 2, 3, 1).astype(np.int64)
