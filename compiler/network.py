"""The float network: a short list of nodes that the hardware has layers for, and its reference executor.

Every node carries what the output stage does after it: bias, addition of a residual, ReLU, an upper bound, in this order. A fully
connected layer is a convolution whose kernel covers its whole input; an addition of its own is an average over one pixel with a residual
(:func:`identity`). Tensors are NHWC and go by the name of the node that makes them.

A network that comes quantised keeps its own scales: those of weights in :class:`Conv`, those of tensors in :class:`Network`.
"""

from dataclasses import dataclass, field

import numpy as np

from golden.mac_array import windows

Shape = tuple[int, int, int]
"""Height, width, channels."""


class NetworkError(ValueError):
    """A network that cannot be taken; the message lists everything that is in the way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """``clamp(conv(input) + bias + residual)``; the clamp's lower bound is 0 with ``relu``, its upper bound ``clip``, or none.

    ``weight``: float (out, in, kernel_h, kernel_w); with ``depthwise`` every channel has a kernel of its own, (channels, 1, ...), and
    nothing is summed over channels; ``bias``: float (out,); ``pad``: zeros at (top, left, bottom, right); ``residual``: the tensor that
    is added, of the output's shape, or none; ``weight_scale``: float (out,), the steps of the weights if they came quantised.
    """

    name: str
    input: str
    weight: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    depthwise: bool = False
    residual: str | None = None
    relu: bool = False
    clip: float | None = None
    weight_scale: np.ndarray | None = None

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weight.shape[2:]

    @property
    def weight_codes(self) -> np.ndarray | None:
        """The integers that ``weight`` is made of if it came quantised, int16, else none."""
        if self.weight_scale is None:
            return None
        return np.rint(self.weight / self.weight_scale[:, None, None, None]).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Maximum (``kind = "max"``, padding is never the maximum) or average (``"avg"``, padding counts as zeros) over a window.

    ``residual``, ``relu`` and ``clip`` as for :class:`Conv`.
    """

    name: str
    input: str
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    residual: str | None = None
    relu: bool = False
    clip: float | None = None


Node = Conv | Pool


def identity(name: str, input: str, **after) -> Pool:
    """The node for what no other can take on: ``after`` is a residual, ReLU, an upper bound, or nothing but another scale."""
    return Pool(name=name, input=input, kind="avg", kernel=(1, 1), stride=(1, 1), **after)


@dataclass(frozen=True)
class Codes:
    """How a tensor of a quantised network is coded: ``low`` ... ``high`` steps of ``scale``, zero point 0."""

    scale: float
    low: int
    high: int

    @property
    def signed(self) -> bool:
        return self.low < 0

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The nearest values that have a code; ties to even, as ONNX has it."""
        return (np.clip(np.rint(values / np.float32(self.scale)), self.low, self.high) * np.float32(self.scale)).astype(np.float32)


def output_shape(node: Node, shape: Shape) -> Shape:
    """Shape of a node's output from that of its input."""
    (top, left, bottom, right), (height, width, channels) = node.pad, shape
    if isinstance(node, Conv):
        wanted = node.weight.shape[0 if node.depthwise else 1]
        if wanted != channels:
            raise NetworkError(f"node {node.name!r}: the weights are for {wanted} channels, the input has {channels}")
        channels = node.weight.shape[0]
    out = tuple((size - kernel) // stride + 1 for size, kernel, stride in
                zip((height + top + bottom, width + left + right), node.kernel, node.stride))
    if min(out) < 1:
        raise NetworkError(f"node {node.name!r}: a kernel of {node.kernel} does not fit an input of {(height, width)}")
    return *out, channels


def macs(node: Node, shape: Shape) -> int:
    """Multiplications by weights of a node with this output shape; 0 for pooling."""
    return int(np.prod(shape[:2])) * node.weight.size if isinstance(node, Conv) else 0


@dataclass(frozen=True, kw_only=True)
class Network:
    """``nodes`` in an order in which they can be executed; the last one is the output.

    ``codes``: the tensors that came quantised, the input among them; the executor rounds them as the integers would be. ``modes``: (budget, w4)
    of the convolutions that the network was trained for, empty if it was not.
    """

    name: str
    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    codes: dict[str, Codes] = field(default_factory=dict)
    modes: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor, the input's included.

        Raises
        ------
        NetworkError
            A node that reads a tensor which does not exist yet, or shapes that do not match.
        """
        shapes = {self.input: self.input_shape}
        for node in self.nodes:
            for source in (node.input, node.residual):
                if source is not None and source not in shapes:
                    raise NetworkError(f"node {node.name!r} reads {source!r}, which no earlier node makes")
            shapes[node.name] = output_shape(node, shapes[node.input])
            if node.residual is not None and shapes[node.residual] != shapes[node.name]:
                raise NetworkError(f"node {node.name!r}: adds {node.residual!r} of {shapes[node.residual]} to {shapes[node.name]}")
        return shapes

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every tensor, float32 (n, h, w, c), for images (n, h, w, c)."""
        tensors = {self.input: self._coded(self.input, np.asarray(images, dtype=np.float32))}
        for node in self.nodes:
            tensors[node.name] = self._coded(node.name, clamp(node, before_relu(node, tensors)))
        return tensors

    def _coded(self, name: str, values: np.ndarray) -> np.ndarray:
        return self.codes[name].nearest(values) if name in self.codes else values


def clamp(node: Node, value: np.ndarray) -> np.ndarray:
    """What comes last in a node: its ReLU and its upper bound."""
    if not node.relu and node.clip is None:
        return value
    return np.clip(value, 0 if node.relu else None, node.clip)


def before_relu(node: Node, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """What a node computes before its ReLU, from the tensors that it reads."""
    image = tensors[node.input]
    out = output_shape(node, image.shape[1:])[:2]
    view = windows(image, node.kernel, node.stride, node.pad[:2], out, -np.inf if isinstance(node, Pool) and node.kind == "max" else 0)
    if isinstance(node, Pool):
        value = view.max(axis=(3, 4)) if node.kind == "max" else view.mean(axis=(3, 4))
    elif node.depthwise:
        value = np.einsum("nyxhwc,chw->nyxc", view, node.weight[:, 0].astype(np.float32)) + node.bias.astype(np.float32)
    else:
        weight = node.weight.transpose(2, 3, 1, 0).reshape(-1, len(node.weight)).astype(np.float32)
        value = (view.reshape(-1, len(weight)) @ weight).reshape(len(image), *out, -1) + node.bias.astype(np.float32)
    return value + tensors[node.residual] if node.residual is not None else value
