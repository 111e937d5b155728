"""Networks that cannot run: per case the nodes, the constants, and which nodes must be named with which words."""

import numpy as np

from tests.onnx_models import node

W3 = np.ones((4, 3, 3, 3))
CONV = node("Conv", "x w", "first")
NODES = {
    "upsampling": (
        [CONV, node("ConvTranspose", "first t", "up"), node("Sigmoid", "up", "gate"), node("Mul", "up gate", "y")],
        {"w": W3, "t": np.ones((4, 4, 2, 2))},
        {"up": "upsample on the host", "gate": "train with Relu", "y": "one must be a constant"}),
    "recurrent": (
        [CONV, node("Reshape", "first s", "sequence"), node("LSTM", "sequence wi wr", "lstm", hidden_size=2), node("Tanh", "lstm", "y")],
        {"w": W3, "s": np.array([1, 4, 35], dtype=np.int64), "wi": np.ones((1, 8, 35)), "wr": np.ones((1, 8, 2))},
        {"lstm": "run the recurrent part on the host", "y": "train with Relu"}),
    "dilated": (
        [node("Conv", "x w", "wide", dilations=[2, 2]), node("AveragePool", "wide", "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
         node("Clip", "pool lo hi", "y")],
        {"w": W3, "lo": np.float32(-1), "hi": np.float32(1)},
        {"wide": "dilation 1", "pool": "count_include_pad = 1", "y": "0 or none as the lower bound"}),
    "softmax in the middle": (
        [CONV, node("Softmax", "first", "attention", axis=1), node("Conv", "attention w", "second"), node("HardSwish", "second", "y")],
        {"w": np.ones((3, 3, 3, 3))},
        {"attention": "only a last softmax can be left out", "y": "train with Relu"}),
    "products of activations": (
        [CONV, node("Flatten", "first", "flat"), node("MatMul", "flat first", "product"), node("Conv", "x first", "dynamic")]
        + [node("Concat", "product dynamic", "y", axis=0)],
        {"w": W3},
        {"product": "must be a constant", "dynamic": "must be a constant"}),
    "broken weights": (
        [node("Conv", "x w", "first"), node("BatchNormalization", "first g g g g", "norm"), node("Resize", "norm  s", "y")],
        {"w": np.where(np.arange(108).reshape(4, 3, 3, 3) == 7, np.nan, 1.0), "g": np.array([1, np.inf, 1, 1]), "s": np.ones(4)},
        {"first": "train or export the weights again", "norm": "train or export the weights again", "y": "resize on the host"}),
    "too large": (
        [node("Conv", "x w", "kernel", pads=[20, 20, 20, 20]), node("MaxPool", "x", "stride", kernel_shape=[2, 2], strides=[5, 5]),
         node("GlobalAveragePool", "kernel", "y")],
        {"w": np.ones((2, 3, 33, 33))},
        {"kernel": "use a smaller one"}),
    "of another vendor": (
        [node("Conv", "x w", "first"), node("FusedGelu", "first", "gelu", domain="com.microsoft"), node("Transpose", "first", "t", perm=[0, 2, 1, 3]),
         node("Conv", "t v", "rows"), node("Concat", "gelu rows", "y", axis=1)],
        {"w": W3, "v": np.ones((2, 7, 1, 1))},
        {"gelu": "run it on the host, or rewrite it with", "rows": "keep activations in the order"}),
    "asymmetric": (
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), node("DequantizeLinear", "wq s zw", "w"),
         node("Conv", "d w", "c"), node("QuantizeLinear", "c s2 z3", "y")],
        {"s": np.float32(0.1), "s2": np.float32(0.5) * np.ones(4), "z": np.uint8(100), "zw": np.uint8(0), "z3": np.zeros(4, dtype=np.int8),
         "wq": np.full((4, 3, 3, 3), 200, dtype=np.uint8)},
        {"q": "quantise symmetrically", "d": "quantise symmetrically", "w": "quantise symmetrically", "y": "one scale per tensor"}),
    "an unknown operator": (
        [node("Conv", "x w", "first"), node("Frobnicate", "first", "y")], {"w": W3}, {"y": "run it on the host"}),
}
