"""The float network: a short list of nodes that the hardware has layers for, and its reference executor.

A convolution carries what the output stage does after it: bias, addition of a residual, ReLU, in this order. A fully connected layer
is a convolution whose kernel covers its whole input. Tensors are NHWC and go by the name of the node that makes them.
"""

from dataclasses import dataclass

import numpy as np

from golden.mac_array import windows
from sdp import UserError

Shape = tuple[int, int, int]
"""Height, width, channels."""


class NetworkError(UserError, ValueError):
    """A network that cannot be taken; the message lists everything that is in the way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """``relu(conv(input) + bias + residual)``.

    ``weight``: float (out, in, kernel_h, kernel_w); ``bias``: float (out,); ``pad``: zeros at (top, left, bottom, right);
    ``residual``: the tensor that is added, of the output's shape, or none.
    """

    name: str
    input: str
    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    relu: bool = False
    residual: str | None = None

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weight.shape[2:]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Maximum (``kind = "max"``, padding is never the maximum) or average (``"avg"``, padding counts as zeros) over a window."""

    name: str
    input: str
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)


Node = Conv | Pool


def output_shape(node: Node, shape: Shape) -> Shape:
    """Shape of a node's output from that of its input."""
    (top, left, bottom, right), (height, width, channels) = node.pad, shape
    if isinstance(node, Conv):
        if node.weight.shape[1] != channels:
            raise NetworkError(f"node {node.name!r}: the weights are for {node.weight.shape[1]} channels, the input has {channels}")
        channels = node.weight.shape[0]
    out = tuple((size - kernel) // stride + 1 for size, kernel, stride in
                zip((height + top + bottom, width + left + right), node.kernel, node.stride))
    if min(out) < 1:
        raise NetworkError(f"node {node.name!r}: a kernel of {node.kernel} does not fit an input of {(height, width)}")
    return *out, channels


@dataclass(frozen=True, kw_only=True)
class Network:
    """``nodes`` in an order in which they can be executed; the last one is the output."""

    name: str
    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]

    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor, the input's included.

        Raises
        ------
        NetworkError
            A node that reads a tensor which does not exist yet, or shapes that do not match.
        """
        shapes = {self.input: self.input_shape}
        for node in self.nodes:
            residual = getattr(node, "residual", None)
            for source in (node.input, residual):
                if source is not None and source not in shapes:
                    raise NetworkError(f"node {node.name!r} reads {source!r}, which no earlier node makes")
            shapes[node.name] = output_shape(node, shapes[node.input])
            if residual is not None and shapes[residual] != shapes[node.name]:
                raise NetworkError(f"node {node.name!r}: adds {residual!r} of {shapes[residual]} to {shapes[node.name]}")
        return shapes

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every tensor, float32 (n, h, w, c), for images (n, h, w, c)."""
        tensors = {self.input: np.asarray(images, dtype=np.float32)}
        for node in self.nodes:
            value = before_relu(node, tensors)
            tensors[node.name] = np.maximum(value, 0) if isinstance(node, Conv) and node.relu else value
        return tensors


def before_relu(node: Node, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """What a node computes before its ReLU, from the tensors that it reads."""
    image = tensors[node.input]
    out = output_shape(node, image.shape[1:])[:2]
    if isinstance(node, Pool):
        view = windows(image, node.kernel, node.stride, node.pad[:2], out, -np.inf if node.kind == "max" else 0)
        return view.max(axis=(3, 4)) if node.kind == "max" else view.mean(axis=(3, 4))
    patches = windows(image, node.kernel, node.stride, node.pad[:2], out)
    weight = node.weight.transpose(2, 3, 1, 0).reshape(-1, len(node.weight))
    value = patches.reshape(-1, len(weight)) @ weight.astype(np.float32)
    value = value.reshape(len(image), *out, -1) + node.bias.astype(np.float32)
    return value + tensors[node.residual] if node.residual is not None else value
