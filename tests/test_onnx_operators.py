"""Every operator that is supported, in small networks, against onnxruntime."""

import numpy as np
import pytest

from compiler import onnx_import
from compiler.network import Conv, Pool
from compiler.onnx_problems import Obstacles
from compiler.quantize import calibrate, quantize
from compiler.quantized import run
from sdp.config import NAMED
from tests.onnx_models import compare, node, save

RNG = np.random.default_rng(5)
"""For what is drawn on import; a test draws from its own, so that its numbers do not depend on those that ran before it."""
W = {"w": RNG.normal(size=(4, 3, 3, 3)), "b": RNG.normal(size=4)}
CONV = node("Conv", "x w b", "c", pads=[1, 1, 1, 1])
WIDE = {"w": RNG.normal(size=(6, 3, 1, 1)), "b": RNG.normal(size=6)}
POINT = node("Conv", "x w b", "c")


def integers(*values):
    return np.array(values, dtype=np.int64)


def norm(rng, channels):
    return {"g": rng.normal(size=channels), "be": rng.normal(size=channels), "m": rng.normal(size=channels), "v": rng.random(channels) + 0.1}


CASES = {
    "conv auto_pad upper": ([node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": RNG.normal(size=(4, 3, 4, 3))}),
    "conv auto_pad lower": ([node("Conv", "x w", "y", auto_pad="SAME_LOWER", strides=[2, 3])], {"w": RNG.normal(size=(4, 3, 4, 2))}),
    "conv valid": ([node("Conv", "x w", "y", auto_pad="VALID")], {"w": W["w"]}),
    "conv depthwise": ([node("Conv", "x w", "y", group=3, pads=[2, 2, 2, 2])], {"w": RNG.normal(size=(3, 1, 5, 5))}),
    "conv depthwise 7x7": ([node("Conv", "x w", "y", group=3)], {"w": RNG.normal(size=(3, 1, 7, 7))}),
    "conv depthwise twice": ([node("Conv", "x w", "y", group=3)], {"w": RNG.normal(size=(6, 1, 3, 3))}),
    "conv grouped": ([POINT, node("Conv", "c w2", "y", group=3)], WIDE | {"w2": RNG.normal(size=(9, 2, 3, 3))}),
    "norm folded": ([CONV, node("BatchNormalization", "c g be m v", "y", epsilon=1e-3)], W | norm(RNG, 4)),
    "norm first": ([node("BatchNormalization", "x g be m v", "n"), node("Conv", "n w b", "y")], W | norm(RNG, 3)),
    "norm behind relu": ([CONV, node("Relu", "c", "r"), node("BatchNormalization", "r g be m v", "y")], W | norm(RNG, 4)),
    "bias behind": ([CONV, node("Add", "c k", "y")], W | {"k": RNG.normal(size=(4, 1, 1))}),
    "sub mul div": ([node("Sub", "x k", "s"), node("Div", "s d", "t"), node("Mul", "t k", "u"), node("Sub", "k u", "y")],
                    {"k": RNG.normal(size=(1, 3, 1, 1)), "d": np.float32(3)}),
    "clip": ([CONV, node("Clip", "c lo hi", "y")], W | {"lo": np.float32(0), "hi": np.float32(0.5)}),
    "clip above": ([CONV, node("Clip", "c  hi", "y")], W | {"hi": np.float32(0.5)}),
    "clip below": ([CONV, node("Clip", "c lo", "y")], W | {"lo": np.float32(0)}),
    "clip of the input": ([node("Clip", "x lo hi", "y")], {"lo": np.float32(0), "hi": np.float32(0.5)}),
    "relu behind pool": ([CONV, node("MaxPool", "c", "p", kernel_shape=[3, 3]), node("Relu", "p", "y")], W),
    "relu of a shared tensor": ([CONV, node("Relu", "c", "r"), node("Add", "c r", "y")], W),
    "add shared": ([CONV, node("Conv", "c w2", "d"), node("Add", "c d", "s"), node("Add", "d s", "y")], W | {"w2": RNG.normal(size=(4, 4, 1, 1))}),
    "add input": ([node("Conv", "x w", "c"), node("Add", "c x", "y")], {"w": RNG.normal(size=(3, 3, 1, 1))}),
    "add pools": ([node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("AveragePool", "x", "q", kernel_shape=[2, 2]),
                   node("Add", "p q", "s"), node("Relu", "s", "y")], {}),
    "add itself": ([CONV, node("Add", "c c", "y")], W),
    "max ceil": ([node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)], {}),
    "max ceil cut": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[4, 3], pads=[0, 1, 0, 1], ceil_mode=1)], {}),
    "average same": ([node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)], {}),
    "average ceil": ([node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "global average": ([node("GlobalAveragePool", "x", "y")], {}),
    "mean": ([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)], {}),
    "mean kept": ([node("ReduceMean", "x", "m", axes=[-1, -2], keepdims=1), node("Conv", "m w", "y")], {"w": RNG.normal(size=(4, 3, 1, 1))}),
    "mean of nhwc": ([node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", "m", axes=[1, 2], keepdims=0),
                      node("MatMul", "m w", "y")], {"w": RNG.normal(size=(3, 5))}),
    "flatten": ([CONV, node("Flatten", "c", "f"), node("Gemm", "f w2 b2", "y", alpha=0.5, beta=2.0)],
                W | {"w2": RNG.normal(size=(252, 5)), "b2": RNG.normal(size=5)}),
    "reshape": ([CONV, node("Reshape", "c s", "f"), node("MatMul", "f w2", "m"), node("Add", "m k", "y")],
                W | {"s": integers(0, -1), "w2": RNG.normal(size=(252, 5)), "k": RNG.normal(size=5)}),
    "flatten nhwc": ([CONV, node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Flatten", "t", "f"), node("Gemm", "f w2", "y", transB=1)],
                     W | {"w2": RNG.normal(size=(5, 252))}),
    "exported reshape": ([CONV, node("GlobalAveragePool", "c", "g"), node("Shape", "g", "s"), node("Gather", "s zero", "n"),
                          node("Unsqueeze", "n at", "u"), node("Concat", "u rest", "to", axis=0), node("Reshape", "g to", "f"),
                          node("Gemm", "f w2", "y")], W | {"zero": np.int64(0), "at": integers(0), "rest": integers(-1), "w2": RNG.normal(size=(4, 5))}),
    "squeeze": ([node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a", "s"), node("Unsqueeze", "s a", "u"), node("Squeeze", "u a", "v"),
                 node("MatMul", "v w", "y")], {"a": integers(2, 3), "w": RNG.normal(size=(3, 5))}),
    "identity dropout": ([CONV, node("Identity", "c", "i"), node("Dropout", "i", "d"), node("Relu", "d", "y")], W),
    "pad": ([node("Pad", "x p", "q"), node("Conv", "q w", "y")], {"p": integers(0, 0, 1, 2, 0, 0, 3, 0), "w": W["w"]}),
    "pad for pooling": ([node("Pad", "x p", "q"), node("MaxPool", "q", "y", kernel_shape=[3, 3])], {"p": integers(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad channels": ([node("Pad", "x p", "q"), node("Relu", "q", "y")], {"p": integers(0, 2, 0, 0, 0, 3, 0, 0)}),
    "crop": ([node("Slice", "x s e a", "q"), node("MaxPool", "q", "y", kernel_shape=[2, 2])],
             {"s": integers(2, 1), "e": integers(8, -2), "a": integers(2, 3)}),
    "strided crop": ([node("Slice", "x s e a t", "q"), node("MaxPool", "q", "y", kernel_shape=[2, 2])],
                     {"s": integers(1, 2), "e": integers(100, 100), "a": integers(2, 3), "t": integers(2, 2)}),
    "channels of a slice": ([POINT, node("Slice", "c s e a t", "q"), node("Conv", "q w2", "y")],
                            WIDE | {"s": integers(4), "e": integers(-100), "a": integers(1), "t": integers(-2), "w2": RNG.normal(size=(2, 3, 3, 3))}),
    "shortcut": ([CONV, node("Relu", "c", "r"), node("Conv", "r w2", "d", strides=[2, 2]), node("Slice", "r s e a t", "q"),
                  node("Pad", "q p", "u"), node("Add", "d u", "y")],
                 W | {"w2": RNG.normal(size=(8, 4, 1, 1)), "s": integers(0, 0), "e": integers(9, 7), "a": integers(2, 3), "t": integers(2, 2),
                      "p": integers(0, 2, 0, 0, 0, 2, 0, 0)}),
    "shuffle": ([POINT, node("Reshape", "c s", "r"), node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]), node("Reshape", "t s2", "u"),
                 node("Conv", "u w2", "d", group=6), node("Relu", "d", "y")],
                WIDE | {"s": integers(1, 2, 3, 9, 7), "s2": integers(1, 6, 9, 7), "w2": RNG.normal(size=(6, 1, 3, 3))}),
    "split": ([POINT, node("Split", "c s", "a b2 d", axis=1), node("Add", "a d", "t"), node("Conv", "t w2", "y")],
              WIDE | {"s": integers(2, 2, 2), "w2": RNG.normal(size=(2, 2, 3, 3))}),
    "concat": ([CONV, node("Relu", "c", "r"), node("Conv", "r w2", "d"), node("Relu", "d", "e"), node("Concat", "e r x e", "t", axis=1),
                node("Relu", "t", "y")], W | {"w2": RNG.normal(size=(5, 4, 1, 1))}),
    "concat rows": ([CONV, node("Conv", "c w2", "d", pads=[1, 1, 1, 1]), node("Concat", "d c", "y", axis=2)], W | {"w2": RNG.normal(size=(4, 4, 3, 3))}),
    "concat vectors": ([node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("Gemm", "f w2", "h"), node("Concat", "h f", "t", axis=1),
                        node("Gemm", "t w3", "y")], {"w2": RNG.normal(size=(3, 4)), "w3": RNG.normal(size=(7, 5))}),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_onnxruntime(tmp_path, case):
    compare(save(tmp_path / "n.onnx", *CASES[case]))


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 17, 18, 21])
def test_versions_of_operators(rng, tmp_path, opset):
    nodes = [CONV, node("BatchNormalization", "c g be m v", "n"), node("Relu", "n", "r"), node("MaxPool", "r", "p", kernel_shape=[2, 2]),
             node("Flatten", "p", "f"), node("Gemm", "f w2 b2", "y", transB=1)]
    tensors = W | norm(rng, 4) | {"w2": rng.normal(size=(5, 192)), "b2": rng.normal(size=5)}
    assert len(compare(save(tmp_path / "n.onnx", nodes, tensors, opset=opset)).nodes) == 3


def test_mean_axes_as_an_input(tmp_path):
    compare(save(tmp_path / "n.onnx", [node("ReduceMean", "x a", "y", keepdims=0)], {"a": integers(2, 3)}, opset=18))


def test_last_softmax_is_dropped(tmp_path):
    tail = [node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "f")]
    network = onnx_import.read(save(tmp_path / "n.onnx", [CONV, *tail, node("Softmax", "f", "y", axis=1)], W))
    assert [type(n) for n in network.nodes] == [Conv, Pool]


def test_what_is_not_read_is_not_computed(tmp_path):
    network = onnx_import.read(save(tmp_path / "n.onnx", [CONV, node("LSTM", "c w w", "unread"), node("Relu", "c", "y")], W))
    assert [n.name for n in network.nodes] == ["c"]


def test_open_batch_and_fixed_batch(rng, tmp_path):
    flat = [CONV, node("Reshape", "c s", "f"), node("Gemm", "f w2", "y")]
    tensors = W | {"w2": rng.normal(size=(252, 5))}
    for batch, target in (("N", (-1, 252)), (4, (4, 252)), (4, (4, -1)), ("N", (0, -1))):
        network = onnx_import.read(save(tmp_path / "n.onnx", flat, tensors | {"s": integers(*target)}, shape=(batch, 3, 9, 7)))
        assert network.shapes()["y"] == (1, 1, 5)


def test_vector_input(rng, tmp_path):
    nodes = [node("Gemm", "x w", "h"), node("Relu", "h", "r"), node("Gemm", "r v", "y")]
    network = compare(save(tmp_path / "n.onnx", nodes, {"w": rng.normal(size=(20, 8)), "v": rng.normal(size=(8, 3))}, shape=("N", 20)), images=4)
    assert network.input_shape == (1, 1, 20)


def test_input_in_nhwc(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w b", "y")]
    assert onnx_import.read(save(tmp_path / "n.onnx", nodes, W, shape=(1, 9, 7, 3))).input_shape == (9, 7, 3)


def test_what_needs_no_node_of_its_own(tmp_path):
    """Lowering is not only right but also small."""
    def kinds(case):
        return [(type(n).__name__, n.residual is not None, n.relu) for n in onnx_import.read(save(tmp_path / "n.onnx", *CASES[case])).nodes]

    assert kinds("norm folded") == kinds("bias behind") == [("Conv", False, False)]
    assert kinds("pad") == [("Conv", False, False)]
    assert kinds("identity dropout") == [("Conv", False, True)]
    assert kinds("shortcut") == [("Conv", False, True), ("Conv", False, True), ("Conv", True, False)]
    assert kinds("add pools") == [("Pool", False, False), ("Pool", False, False), ("Pool", True, True)]
    assert kinds("flatten nhwc") == [("Conv", False, False)] * 2
    # Three placements; the input is not known to be positive, so the sum is not.
    assert [residual for _, residual, _ in kinds("concat")].count(True) == 3


@pytest.mark.parametrize("operator, attributes, shape, first", [
    ("GlobalAveragePool", {}, (56, 56), (4, 4)),
    ("ReduceMean", {"axes": [2, 3]}, (33, 5), (3, 1)),
    ("AveragePool", {"kernel_shape": [62, 34]}, (62, 34), (2, 2)),
    ("MaxPool", {"kernel_shape": [36, 34]}, (36, 34), (4, 2)),
    ("GlobalAveragePool", {}, (256, 4), (4, 1)),
])
def test_windows_of_the_whole_map_beyond_the_hardware_s(tmp_path, operator, attributes, shape, first):
    path = save(tmp_path / "n.onnx", [CONV, node(operator, "c", "y", **attributes)], W, shape=(1, 3, *shape))
    network = compare(path)
    pools = [n for n in network.nodes if isinstance(n, Pool)]
    assert pools[0].kernel == pools[0].stride == first and all(max(n.kernel) <= 31 for n in pools)
    assert network.shapes()["y"] == (1, 1, 4)


def test_an_average_in_two_layers_is_off_by_one_code_at_most(tmp_path):
    path = save(tmp_path / "n.onnx", [CONV, node("Relu", "c", "r"), node("GlobalAveragePool", "r", "y")], W, shape=(1, 3, 56, 56))
    network, images = onnx_import.read(path), np.random.default_rng(1).normal(size=(4, 56, 56, 3)).astype(np.float32)
    quantized = quantize(calibrate(network, images), NAMED["small"])
    found = run(quantized, quantized.encode(images), 8)
    exact = found["c"].mean(axis=(1, 2)) * quantized.layers[0].out_scale / quantized.layers[-1].out_scale
    assert np.abs(found["y"][:, 0, 0] - exact).max() <= 1


@pytest.mark.parametrize("shape", [(49, 49), (37, 8)])
def test_a_map_that_no_small_window_divides(tmp_path, shape):
    path = save(tmp_path / "n.onnx", [CONV, node("GlobalAveragePool", "c", "y")], W, shape=(1, 3, *shape))
    with pytest.raises(Obstacles, match=rf"'y': GlobalAveragePool: a kernel of {shape[0]} x {shape[1]}, at most 31 is possible; remedy: "
                                        r"pool in two layers, the first with a stride of 2 \.\.\. 4, or shrink the map before"):
        onnx_import.read(path)


def test_depthwise_stays_depthwise(tmp_path):
    network = onnx_import.read(save(tmp_path / "n.onnx", *CASES["conv depthwise"]))
    assert network.nodes[0].depthwise and network.nodes[0].weight.shape == (3, 1, 5, 5)
    for case in ("conv depthwise 7x7", "conv depthwise twice", "conv grouped"):
        assert not any(n.depthwise for n in onnx_import.read(save(tmp_path / "n.onnx", *CASES[case])).nodes)
