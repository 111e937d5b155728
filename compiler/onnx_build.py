"""Builds the network node by node: what an operator does goes into the node that it follows wherever the output stage can do it."""

import dataclasses
from collections import Counter

import numpy as np

from compiler.network import Codes, Conv, Node, Pool, Shape, identity, output_shape
from compiler.onnx_problems import Unsupported
from compiler.onnx_view import Gather, View, gather, nchw
from sdp.config import KERNEL_MAX, STRIDE_MAX
from sdp.program import CHANNELS_MAX, SIZE_MAX

DEPTHWISE_MAX = 5
"""Largest kernel side of a depthwise convolution; larger ones become dense."""


class Builder:
    """``nodes``: the network's nodes by name, in order; ``shapes``, ``codes``: of every tensor; ``uses``: reads of each ONNX tensor;
    ``redundant``: nodes whose ReLU only says that they are never negative."""

    def __init__(self, uses: Counter):
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.codes: dict[str, Codes] = {}
        self.uses = uses
        self.redundant: set[str] = set()

    def source(self, name: str, shape: Shape, index: np.ndarray | None = None) -> View:
        """A tensor that no node makes."""
        self.shapes[name] = shape
        return View(name, shape, nchw(shape) if index is None else index)

    def append(self, node: Node, output: str, after: str | None = None) -> View:
        """Adds a node, at the end or right behind the node ``after``, and checks what the machine's layers can hold."""
        shape = output_shape(node, self.shapes[node.input])
        for what, found, limit in (("a kernel", node.kernel, KERNEL_MAX), ("a stride", node.stride, STRIDE_MAX),
                                   ("padding", node.pad[:2], KERNEL_MAX), ("an output", shape[:2], SIZE_MAX)):
            if max(found) > limit:
                raise Unsupported(f"{what} of {' x '.join(map(str, found))}, at most {limit} is possible", "use a smaller one, or several layers")
        if shape[2] > CHANNELS_MAX:
            raise Unsupported(f"{shape[2]} output channels, at most {CHANNELS_MAX} are possible", "use fewer channels")
        order = list(self.nodes)
        self.nodes[node.name] = node
        if after is not None:
            at = order.index(after) + 1 if after in order else 0
            self.nodes = {name: self.nodes[name] for name in [*order[:at], node.name, *order[at:]]}
        self.shapes[node.name] = shape
        return View(node.name, shape, nchw(shape), alone=self.uses[output] == 1)

    def open(self, view: View) -> Node | None:
        """The node that makes a view, if more may go into it: nothing else reads it and it is not rounded to codes yet."""
        return self.nodes.get(view.node) if view.alone and view.node not in self.codes else None

    def _change(self, view: View, output: str, **changes) -> View:
        self.nodes[view.node] = dataclasses.replace(self.nodes[view.node], **changes)
        return dataclasses.replace(view, alone=self.uses[output] == 1)

    def _behind(self, view: View, output: str, node: Node) -> View:
        """A node of its own that keeps the places of the elements."""
        return dataclasses.replace(self.append(node, output), index=view.index)

    def clamp(self, view: View, output: str, *, relu: bool = False, clip: float | None = None) -> View:
        """ReLU, an upper bound, or both; zeros stay zeros, so any view will do."""
        node = self.open(view)
        if node is not None:
            bounds = [bound for bound in (node.clip, clip) if bound is not None]
            return self._change(view, output, relu=node.relu or relu, clip=min(bounds, default=None))
        if view.alone and view.node in self.nodes and relu and clip is None:
            # On codes, ReLU is just a bound.
            self.codes[view.node] = dataclasses.replace(self.codes[view.node], low=0)
            return self._change(view, output, relu=True)
        return self._behind(view, output, identity(output, view.node, relu=relu, clip=clip))

    def code(self, view: View, output: str, codes: Codes) -> View:
        """Rounds a tensor to codes; one that is coded otherwise already is rounded a second time, by a node of its own."""
        found, node = self.codes.get(view.node), self.nodes.get(view.node)
        if found is not None and found.scale == codes.scale and found.high == codes.high and found.low in (0, codes.low):
            return view
        if found is not None or not (view.alone or codes.signed or node is None or node.relu):
            view = self._behind(view, output, identity(output, view.node, relu=not codes.signed))
        self.codes[view.node] = codes
        return view

    def affine(self, view: View, output: str, scale: np.ndarray, offset: np.ndarray) -> View:
        """``scale * x + offset`` per channel of the tensor behind ``view``: folded into a convolution, else a depthwise one of 1x1."""
        node = self.open(view)
        if isinstance(node, Conv) and not node.relu and node.clip is None and (node.residual is None or (scale == 1).all()):
            steps = None if node.weight_scale is None or (scale == 0).any() else node.weight_scale * np.abs(scale)
            weight, bias = node.weight * scale[:, None, None, None], node.bias * scale + offset
            return self._change(view, output, weight=weight, bias=bias, weight_scale=steps)
        weight = scale.astype(np.float32)[:, None, None, None]
        return self._behind(view, output, Conv(name=output, input=view.node, weight=weight, bias=offset.astype(np.float32), depthwise=True))

    def add(self, one: View, other: View, output: str) -> View:
        """A sum; it goes into the convolution that makes the operand computed last, or becomes a node of its own."""
        if one.index.shape != other.index.shape:
            raise Unsupported(f"adds shapes {one.index.shape[1:]} and {other.index.shape[1:]}",
                              "make both operands the same shape; only constants broadcast")
        if one.has_zeros or other.has_zeros or one.shape != other.shape or not np.array_equal(one.index, other.index):
            one, other = self.plain(one), self.plain(other)
        if one.node == other.node:
            channels = np.ones(one.shape[2], dtype=np.float32)
            return self.affine(dataclasses.replace(one, alone=False), output, 2 * channels, 0 * channels)
        order = [*self.nodes]
        early, late = sorted((one, other), key=lambda view: order.index(view.node) if view.node in order else -1)
        node = self.open(late)
        redundant = late.node in self.redundant
        unclamped = isinstance(node, Conv) and (not node.relu or redundant) and node.clip is None
        # The machine reads input and residual at once, from two halves of its memory: they cannot be the same tensor.
        if unclamped and node.residual is None and node.input != early.node:
            return self._change(late, output, residual=early.node, relu=redundant and self.never_negative(early.node))
        relu = self.never_negative(early.node) and self.never_negative(late.node)
        return self._behind(late, output, identity(output, late.node, residual=early.node, relu=relu))

    def never_negative(self, name: str) -> bool:
        """Whether ReLU changes nothing: saying so spares the tensor its sign, which is a bit."""
        node = self.nodes.get(name)
        if name in self.codes:
            return not self.codes[name].signed
        return node is not None and (node.relu or isinstance(node, Pool) and node.residual is None and self.never_negative(node.input))

    def plain(self, view: View) -> View:
        """The view as a tensor of its own, in ONNX' order; nothing if it already is."""
        if view.is_plain():
            return view
        name = view.name if view.name not in self.shapes else f"{view.name}.moved{len(self.nodes)}"
        height, width, channels = view.shape
        if view.index.ndim == 2:
            if height == width == 1:
                if np.array_equal(view.index[0], np.arange(channels)):
                    return view
                flat = self.plain(view.moved(view.index[:, :, None, None]))
            else:
                weight = np.zeros((view.index.shape[1], height * width * channels), dtype=np.float32)
                kept = view.index[0] >= 0
                weight[kept, view.index[0][kept]] = 1
                flat = self._place(view, name, weight.reshape(-1, *view.shape).transpose(0, 3, 1, 2), (1, 1), (0, 0, 0, 0))
            return flat.moved(flat.index[:, :, 0, 0])
        places = gather(view)
        if places is None:
            raise Unsupported(f"its input is {view.node!r} with the elements rearranged (shape {view.index.shape[1:]}), more than rows, "
                              "columns and channels selected at constant strides", "keep activations in the order (batch, channels, height, width)")
        sides = [_side(*at) for at in zip(places.stride, places.offset, places.out, view.shape)]
        kernel, before, behind, tap = zip(*sides)
        pad = (*before, *behind)
        if places.same_channels(channels) and kernel == (1, 1):
            return self._insert(view, name, dataclasses.replace(identity(name, view.node), stride=places.stride, pad=pad))
        weight = np.zeros((len(places.channels), channels, *kernel), dtype=np.float32)
        kept = places.channels >= 0
        weight[np.flatnonzero(kept), places.channels[kept], tap[0], tap[1]] = 1
        return self._place(view, name, weight, places.stride, pad)

    def _place(self, view, name, weight, stride, pad):
        ones = np.ones(len(weight), dtype=np.float32) if view.node in self.codes else None
        return self._insert(view, name, Conv(name=name, input=view.node, weight=weight, bias=np.zeros(len(weight), dtype=np.float32),
                                             stride=stride, pad=pad, weight_scale=ones))

    def _insert(self, view: View, name: str, node: Node) -> View:
        """A node that only moves data comes right behind its source, so that what is computed later can add it."""
        node = dataclasses.replace(node, relu=self.never_negative(view.node))
        self.redundant |= {name} if node.relu else set()
        moved = dataclasses.replace(self.append(node, name, after=view.node), alone=True)
        if view.node in self.codes:
            self.codes[name] = self.codes[view.node]
        return moved

    def conv(self, view: View, output: str, weight: np.ndarray, bias: np.ndarray, *, stride=(1, 1), pad=(0, 0, 0, 0), group: int = 1,
             steps: np.ndarray | None = None) -> View:
        """A convolution as ONNX has it; it takes padding and a choice of channels on, and is dense unless it is depthwise."""
        places = gather(view)
        if places is None or not _only_pads(places, view.shape) or (group > 1 and not places.same_channels(view.shape[2])):
            view = self.plain(view)
            places = gather(view)
        before = [-offset for offset in places.offset]
        pad = tuple(p + more for p, more in zip(pad, (*before, *(o - b - s for o, b, s in zip(places.out, before, view.shape)))))
        out, per_group, *kernel = weight.shape
        channels = len(places.channels)
        if per_group * group != channels or out % group:
            raise Unsupported(f"weights of {weight.shape} in {group} groups for an input of {channels} channels", "correct the weights' shape")
        depthwise = group == channels == out > 1 and max(kernel) <= DEPTHWISE_MAX
        if not depthwise:
            dense = np.zeros((out, view.shape[2], *kernel), dtype=weight.dtype)
            for at in range(channels):
                members = slice(at // per_group * out // group, (at // per_group + 1) * out // group)
                if places.channels[at] >= 0:
                    dense[members, places.channels[at]] += weight[members, at % per_group]
            repeated = np.unique(places.channels[places.channels >= 0], return_counts=True)[1].max(initial=1) > 1
            weight, steps = dense, None if repeated else steps
        return self.append(Conv(name=output, input=view.node, weight=weight, bias=bias, stride=tuple(stride), pad=pad, depthwise=depthwise,
                                weight_scale=steps), output)

    def dense(self, view: View, output: str, weight: np.ndarray, bias: np.ndarray, steps: np.ndarray | None = None) -> View:
        """A fully connected layer, weights (in, out), on a vector (1, in): a convolution that covers the whole map."""
        index = view.index[0]
        kept = index >= 0
        full = np.zeros((int(np.prod(view.shape)), weight.shape[1]), dtype=weight.dtype)
        np.add.at(full, index[kept], weight[kept])
        steps = steps if len(np.unique(index[kept])) == kept.sum() else None
        weight = full.reshape(*view.shape, -1).transpose(3, 2, 0, 1)
        made = self.append(Conv(name=output, input=view.node, weight=weight, bias=bias, weight_scale=steps), output)
        return made.moved(made.index[:, :, 0, 0])

    def pool(self, view: View, output: str, kind: str, kernel, stride, pad=(0, 0, 0, 0)) -> View:
        view = self.plain(view)
        if tuple(kernel) == view.shape[:2] and max(kernel) > KERNEL_MAX and not any(pad):
            # Averages of parts of equal size, averaged: the same in real numbers. The codes in between are rounded, which a network that
            # came quantised does not allow; the mean of so many of them shows little of it.
            parts = [1 if size <= KERNEL_MAX else next((n for n in range(STRIDE_MAX, 1, -1) if size % n == 0), 0) for size in kernel]
            if not all(parts) or kind == "avg" and view.node in self.codes:
                raise Unsupported(f"a kernel of {kernel[0]} x {kernel[1]}, at most {KERNEL_MAX} is possible",
                                  f"pool in two layers, the first with a stride of 2 ... {STRIDE_MAX}, or shrink the map before")
            name = output + "." + "x".join(str(size // part) for size, part in zip(kernel, parts))
            first = self.append(Pool(name=name, input=view.node, kind=kind, kernel=tuple(parts), stride=tuple(parts)), output)
            return self.pool(first, output, kind, first.shape[:2], (1, 1))
        node = Pool(name=output, input=view.node, kind=kind, kernel=tuple(kernel), stride=tuple(stride), pad=tuple(pad))
        return self.append(node, output)


def _side(stride: int, offset: int, out: int, size: int) -> tuple[int, int, int, int]:
    """(kernel, padding before, padding behind, place of the one weight) so that output ``i`` is input ``i * stride + offset``."""
    before, tap = max(0, -offset), max(0, offset)
    spare = size + before - (tap + 1) - (out - 1) * stride
    return tap + 1 + max(0, spare - (stride - 1)), before, max(0, -spare), tap


def _only_pads(places: Gather, shape: Shape) -> bool:
    return all(stride == 1 and offset <= 0 and out >= size - offset for stride, offset, out, size in
               zip(places.stride, places.offset, places.out, shape))
