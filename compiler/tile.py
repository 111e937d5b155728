"""A tile of a layer: a box of its output, the box of the input that it needs, and the layer command for boxes that lie somewhere."""

from dataclasses import dataclass

from compiler import packing
from compiler.layout import Box, whole
from compiler.network import NetworkError
from compiler.residency import Part
from sdp.config import Config
from sdp.program import Kind, Layer


@dataclass(frozen=True)
class Held:
    """A box of a tensor in activation memory."""

    box: Box
    base: int


def reach(out: range, stride: int, kernel: int, pad: int, size: int, skip: bool = True) -> range:
    """The rows (or columns) of the input that output rows ``out`` need: neighbours' halo included, padding not.

    A 1x1 window with a stride skips rows; with ``skip`` these are left out, as they need not be loaded.
    """
    start, stop = out.start * stride - pad, (out.stop - 1) * stride - pad + kernel
    if skip and kernel == 1 and not pad:
        return range(start, stop, stride)
    return range(max(start, 0), max(min(stop, size), 1))


def needs(config: Config, part: Part, rows: range, columns: range) -> Box:
    """What a part needs of its layer's input to compute these rows and columns of the output."""
    layer = part.layer
    height, width, channels = layer.in_shape
    words = range(packing.channel_words(config, channels))
    if layer.kind is not Kind.CONV:
        # Each output channel needs the same one of the input.
        words = range(part.start // config.word, packing.channel_words(config, part.stop))
    boxes = [reach(out, layer.stride[axis], layer.kernel[axis], layer.pad[axis], size)
             for axis, (out, size) in enumerate(((rows, height), (columns, width)))]
    if not all(boxes):
        raise NetworkError(f"layer {layer.name!r}: a tile of rows {rows.start} ... {rows.stop - 1} and columns {columns.start} ... "
                           f"{columns.stop - 1} sees nothing but padding; padding must be smaller than the kernel of {layer.kernel}")
    return Box(layer.input, words, *boxes)


def makes(config: Config, part: Part, rows: range, columns: range, name: str | None = None) -> Box:
    """The box of the output; with a ``name``, the same one of another tensor of its shape, the residual."""
    words = range(part.start // config.word, packing.channel_words(config, part.stop))
    return Box(part.layer.name if name is None else name, words, rows, columns)


def command(config: Config, part: Part, rows: range, columns: range, source: Held, target: Held, residual: Held | None) -> Layer:
    """The layer command for some rows, columns and channels of the output, without the bases of weights and scales.

    ``source`` begins with the first row and column that are needed, ``target`` and ``residual`` hold the very rows and columns of the
    output; each may have more channel words than needed.
    """
    layer = part.layer
    start = part.start // config.word
    inputs, first = (layer.in_shape[2], 0) if layer.kind is Kind.CONV else (part.stop - part.start, start)

    def base(held: Held, word: int) -> int:
        return held.base + (word - held.box.words.start) * held.box.plane(config)

    box = source.box
    return Layer(
        kind=layer.kind, tag=layer.name, w4=layer.w4, in_signed=layer.in_signed, budget=layer.budget,
        in_base=base(source, first), in_plane=box.plane(config), in_h=len(box.rows), in_w=len(box.columns),
        in_words=packing.channel_words(config, inputs), in_tail=(inputs - 1) % config.word + 1,
        out_base=base(target, start), out_plane=target.box.plane(config), out_h=len(rows), out_w=len(columns),
        out_channels=part.stop - part.start, kernel_h=layer.kernel[0], kernel_w=layer.kernel[1],
        stride_h=layer.stride[0] // box.rows.step, stride_w=layer.stride[1] // box.columns.step,
        pad_top=box.rows.start + layer.pad[0] - rows.start * layer.stride[0],
        pad_left=box.columns.start + layer.pad[1] - columns.start * layer.stride[1],
        residual=residual is not None, residual_signed=layer.residual_signed, residual_base=base(residual, start) if residual else 0,
        residual_multiplier=layer.residual_multiplier, shift=layer.shift, ties_even=layer.ties_even,
        clamp_low=layer.clamp[0], clamp_high=layer.clamp[1])


def whole_layer(config: Config, part: Part, bases: dict[str, int]) -> Layer:
    """The layer command where all tensors lie whole at ``bases``."""
    layer = part.layer

    def held(name, shape):
        return Held(whole(config, name, shape), bases.get(name, 0))

    residual = held(layer.residual, layer.out_shape) if layer.residual is not None else None
    rows, columns = (range(size) for size in layer.out_shape[:2])
    return command(config, part, rows, columns, held(layer.input, layer.in_shape), held(layer.name, layer.out_shape), residual)
