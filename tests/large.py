"""Networks of the size of ImageNet's, with random integer weights: float calibration of 224x224 images would take minutes."""

import numpy as np

from compiler.quantized import Packing, QuantizedLayer, QuantizedNetwork
from sdp.program import Kind


class Builder:
    """Layers one after the other; ``shapes`` by name."""

    def __init__(self, shape, group: int, seed: int = 0):
        self.rng, self.group, self.input, self.layers, self.packing = np.random.default_rng(seed), group, shape, [], None
        self.shapes = {"x": shape}

    def add(self, name, source, kind=Kind.CONV, channels=None, kernel=1, stride=1, residual=None, relu=True, pad=None):
        height, width, inputs = self.shapes[source]
        channels = channels or inputs
        pad = (kernel - 1) // 2 if pad is None else pad
        out = (*((size + 2 * pad - kernel) // stride + 1 for size in (height, width)), channels)
        kernels = (kernel, kernel)
        geometry = dict(kernel=kernels, stride=(stride, stride), pad=(pad, pad), in_shape=self.shapes[source])
        weights, gain = None, 1 if kind is Kind.MAX else 1 / kernel**2
        if kind is Kind.CONV:
            weights = self.rng.integers(-127, 128, (*kernels, inputs, channels)).astype(np.int16)
            gain = 1 / (60 * kernel * inputs**0.5)
            if source == "x":
                # The host lays out the windows, as compiler.quantize has it.
                self.packing = Packing(kernel=kernels, stride=(stride, stride), pad=(pad, pad), out=out[:2])
                weights = weights.reshape(1, 1, -1, channels)
                geometry = dict(in_shape=(*out[:2], weights.shape[2]))
        elif kind is Kind.DEPTHWISE:
            weights = self.rng.integers(-127, 128, (*kernels, channels)).astype(np.int16)
            gain = 1 / (60 * kernel)
        shift = int(np.floor(np.log2(65535 / max(gain, 1))))
        signed = {layer.name: layer.out_signed for layer in self.layers}
        self.layers.append(QuantizedLayer(
            name=name, kind=kind, input=source, out_shape=out, weights=weights, residual=residual, budget=self.group,
            bias=self.rng.integers(-500, 500, channels), multiplier=np.full(channels, max(1, round(gain * 2**shift))), shift=shift,
            residual_multiplier=2**shift if residual else 0, residual_signed=signed.get(residual, False),
            in_signed=signed.get(source, False), clamp=(0, 255) if relu else (-127, 127), in_scale=1.0, out_scale=1.0, **geometry))
        self.shapes[name] = out
        return name

    def network(self, name) -> QuantizedNetwork:
        return QuantizedNetwork(name=name, input="x", input_shape=self.input, input_scale=1.0, input_signed=False, packing=self.packing,
                                layers=tuple(self.layers))


def resnet18(group: int, size: int = 224, widths=(64, 128, 256, 512)) -> QuantizedNetwork:
    b = Builder((size, size, 3), group)
    last = b.add("pool", b.add("stem", "x", channels=64, kernel=7, stride=2), Kind.MAX, kernel=3, stride=2)
    for stage, channels in enumerate(widths):
        for block in range(2):
            stride = 2 if stage and not block else 1
            name = f"s{stage}b{block}"
            a = b.add(name + "a", last, channels=channels, kernel=3, stride=stride)
            short = last if b.shapes[last] == b.shapes[a] else b.add(name + "s", last, channels=channels, stride=stride, relu=False)
            last = b.add(name, a, channels=channels, kernel=3, residual=short)
    return classify(b, last, "resnet18")


def mobilenet(group: int, size: int = 224) -> QuantizedNetwork:
    """MobileNet's depthwise and pointwise stack, a residual and an addition of its own among them."""
    b = Builder((size, size, 3), group)
    last = b.add("stem", "x", channels=32, kernel=3, stride=2)
    for at, (channels, stride) in enumerate([(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (1024, 2), (1024, 1)]):
        before = last
        depth = b.add(f"d{at}", before, Kind.DEPTHWISE, kernel=3, stride=stride)
        if b.shapes[before] == (*b.shapes[depth][:2], channels):
            point = b.add(f"p{at}", depth, channels=channels, relu=False)
            last = b.add(f"add{at}", point, Kind.SUM, residual=before)
        else:
            last = b.add(f"p{at}", depth, channels=channels)
    return classify(b, last, "mobilenet")


def classify(b: Builder, last: str, name: str) -> QuantizedNetwork:
    b.add("avg", last, Kind.SUM, kernel=b.shapes[last][0], pad=0)
    b.add("y", "avg", channels=100, relu=False)
    return b.network(name)
