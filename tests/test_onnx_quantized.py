"""Networks that come quantised keep their integers, and the executor rounds as onnxruntime does."""

import numpy as np
import pytest

from compiler import onnx_import
from compiler.network import Codes
from tests.onnx_models import in_order, node, runtime, save, shared


def qdq(source, scale, zero, output):
    return [node("QuantizeLinear", f"{source} {scale} {zero}", f"{output}.q"), node("DequantizeLinear", f"{output}.q {scale} {zero}", output)]


def network(activation, channel_scales=True, folded=True, seed=9):
    """conv, relu, conv, a residual, average, classifier; ``activation``: type and zero point of what comes after a ReLU."""
    rng = np.random.default_rng(seed)
    sizes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (5, 8)}
    tensors = {"sx": np.float32(0.05), "zx": np.int8(0), "sa": np.float32(0.03), "za": activation, "sb": np.float32(0.06), "zb": np.int8(0),
               "b1": rng.integers(-500, 500, 8).astype(np.int32)}
    nodes = []
    for name, size in sizes.items():
        codes = rng.integers(-127, 128, size).astype(np.int8)
        scale = (rng.random(size[0]) * 1e-3 + 1e-3).astype(np.float32) if channel_scales else np.float32(2e-3)
        zero = np.zeros(scale.shape, dtype=np.int8)
        tensors |= {f"{name}.s": scale, f"{name}.z": zero}
        if folded:
            tensors[f"{name}.q"] = codes
        else:
            tensors[f"{name}.f"] = codes * np.reshape(scale, (-1,) + (1,) * (len(size) - 1)).astype(np.float32)
            nodes.append(node("QuantizeLinear", f"{name}.f {name}.s {name}.z", f"{name}.q", axis=0))
        nodes.append(node("DequantizeLinear", f"{name}.q {name}.s {name}.z", name, axis=0))
    tensors["b1.s"] = (tensors["w1.s"] * tensors["sx"]).astype(np.float32)
    nodes += [node("DequantizeLinear", "b1 b1.s", "bias1", axis=0), *qdq("x", "sx", "zx", "xd"), node("Conv", "xd w1 bias1", "c1", pads=[1, 1, 1, 1]),
              node("Relu", "c1", "r1"), *qdq("r1", "sa", "za", "a1"), node("Conv", "a1 w2", "c2", pads=[1, 1, 1, 1]), *qdq("c2", "sb", "zb", "c2d"),
              node("Add", "c2d a1", "s"), node("Relu", "s", "r2"), *qdq("r2", "sa", "za", "a2"), node("GlobalAveragePool", "a2", "g"),
              *qdq("g", "sa", "za", "gd"), node("Flatten", "gd", "f"), node("Gemm", "f w3", "logits", transB=1), *qdq("logits", "sb", "zb", "ld"),
              node("Softmax", "ld", "p", axis=1), *qdq("p", "sp", "zp", "y")]
    return nodes, tensors | {"sp": np.float32(1 / 256), "zp": np.uint8(0)}


@pytest.mark.parametrize("activation", [np.uint8(0), np.int8(0), np.int8(-128)])
@pytest.mark.parametrize("channel_scales, folded", [(True, True), (False, True), (True, False)])
def test_equals_onnxruntime(rng, tmp_path, activation, channel_scales, folded):
    nodes, tensors = network(activation, channel_scales, folded)
    # Without what the network drops: softmax does not change which is the largest.
    logits = next(at for at, n in enumerate(nodes) if n.output[0] == "ld") + 1
    path = save(tmp_path / "n.onnx", nodes[:logits], tensors, output="ld", shape=("N", 3, 9, 7))
    images = rng.normal(size=(10, 9, 7, 3)).astype(np.float32) * 2
    read = onnx_import.read(path)
    found, wanted = in_order(read.run(images)[read.nodes[-1].name]), runtime(path, images)
    steps = np.abs(found - wanted) / 0.06
    # Sums in another order may round a tie the other way.
    assert steps.max() < 1.5 and (steps > 0.5).mean() < 0.1


def test_integers_and_scales_are_kept(tmp_path):
    nodes, tensors = network(np.uint8(0))
    read = onnx_import.read(save(tmp_path / "n.onnx", nodes, tensors))
    assert [(n.name, n.residual, n.relu) for n in read.nodes] == [
        ("c1", None, True), ("c2", None, False), ("s", "c1", True), ("g", None, False), ("logits", None, False)]
    step = {name: float(tensors[name]) for name in ("sx", "sa", "sb")}
    assert read.codes == {"x": Codes(step["sx"], -128, 127), "c1": Codes(step["sa"], 0, 255), "c2": Codes(step["sb"], -128, 127),
                          "s": Codes(step["sa"], 0, 255), "g": Codes(step["sa"], 0, 255), "logits": Codes(step["sb"], -128, 127)}
    for name, at in (("w1", 0), ("w2", 1), ("w3", 4)):
        np.testing.assert_array_equal(read.nodes[at].weight_codes.reshape(tensors[f"{name}.q"].shape), tensors[f"{name}.q"])
        np.testing.assert_array_equal(read.nodes[at].weight_scale, tensors[f"{name}.s"])
    np.testing.assert_allclose(read.nodes[0].bias, tensors["b1"] * tensors["b1.s"])


def test_a_network_quantised_by_onnxruntime(rng, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    source = shared("dscnn_speech_commands")
    images = rng.normal(size=(8, 49, 10, 1)).astype(np.float32)
    batches = iter([{"x": np.moveaxis(images, 3, 1)}])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    quantization.quantize_static(source, tmp_path / "q.onnx", Reader(), per_channel=True,
                                 extra_options={"ActivationSymmetric": True, "WeightSymmetric": True})
    read = onnx_import.read(tmp_path / "q.onnx")
    last = read.nodes[-1].name
    assert len(read.codes) == len(read.nodes) + 1 == 12
    found, wanted = in_order(read.run(images)[last]), runtime(tmp_path / "q.onnx", images)
    assert np.abs(found - wanted).max() <= 1.01 * read.codes[last].scale


def test_a_second_scale_is_a_node_of_its_own(rng, tmp_path):
    tensors = {"w": rng.normal(size=(4, 3, 1, 1)), "s": np.float32(0.1), "t": np.float32(0.25), "z": np.int8(0)}
    nodes = [node("Conv", "x w", "c"), *qdq("c", "s", "z", "a"), *qdq("a", "t", "z", "y")]
    path = save(tmp_path / "n.onnx", nodes, tensors)
    read, images = onnx_import.read(path), rng.normal(size=(1, 9, 7, 3)).astype(np.float32)
    assert [read.codes[n.name].scale for n in read.nodes] == pytest.approx([0.1, 0.25])
    np.testing.assert_allclose(in_order(read.run(images)[read.nodes[-1].name]), runtime(path, images).reshape(1, -1), atol=1e-6)


def test_grouped_and_transposed_weights_keep_their_integers(rng, tmp_path):
    codes = {"w.q": rng.integers(-127, 128, (6, 1, 3, 3)).astype(np.int8), "v.q": rng.integers(-127, 128, (4, 6)).astype(np.int8)}
    tensors = codes | {"s": np.float32(0.01), "vs": np.linspace(0.01, 0.02, 4).astype(np.float32), "sx": np.float32(0.05), "z": np.int8(0)}
    nodes = [*qdq("x", "sx", "z", "xd"), node("DequantizeLinear", "w.q s", "w"), node("Conv", "xd w", "c", group=3), node("GlobalAveragePool", "c", "g"),
             node("Flatten", "g", "f"), node("DequantizeLinear", "v.q vs", "v", axis=0), node("Transpose", "v", "vt", perm=[1, 0]),
             node("MatMul", "f vt", "y")]
    conv, _, dense = onnx_import.read(save(tmp_path / "n.onnx", nodes, tensors)).nodes
    assert conv.weight.shape == (6, 3, 3, 3) and not conv.depthwise
    np.testing.assert_array_equal(conv.weight_codes[np.arange(6), np.arange(6) // 2], codes["w.q"][:, 0])
    np.testing.assert_array_equal(dense.weight_codes[:, :, 0, 0], codes["v.q"])
    np.testing.assert_array_equal(dense.weight_scale, tensors["vs"])
