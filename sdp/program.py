"""The program format: the commands that both the golden machine and the hardware execute, their fields, and what these may hold.

A command is a header of 32-bit words and, for loads, the data; :mod:`sdp.encoding` makes a stream of them, :mod:`sdp.listing` a text.

========  =============================================  =============================================================
command   header words                                   effect
========  =============================================  =============================================================
load      opcode, address, count                         ``count`` words of activations, weights or scales follow
layer     opcode and the words of :func:`fields`         one layer; the decoder reads on while it computes
store     opcode, address, count, tail                   ``count`` words of activations to the output stream
end       opcode                                         waits for the machine to be idle; raises the interrupt
========  =============================================  =============================================================

Loads of activations, layers, stores and ``end`` wait until the running layer has ended. Loads of weights and scales run beside it unless
their ``sync`` bit (bit 8 of the first word) is set: the compiler sets it where they overwrite what the running layer reads.

Tensors lie in activation memory as planes of ``lanes * group`` channels, pixel by pixel:
``address = base + channel_word * plane + y * width + x``, with ``base`` and ``plane`` multiples of ``ports``.
"""

import enum
from dataclasses import dataclass, field

import numpy as np

from sdp import UserError
from sdp.config import KERNEL_MAX, STRIDE_MAX, Config


class Opcode(enum.IntEnum):
    LOAD_ACTIVATIONS = 1
    LOAD_WEIGHTS = 2
    LOAD_SCALES = 3
    LAYER = 4
    STORE = 5
    END = 6


class Error(enum.IntEnum):
    """What stopped the machine; the value of its error register."""

    NONE = 0
    OPCODE = 1
    """unknown command, or unknown kind of layer"""
    TRUNCATED = 2
    """the stream ended inside a command or before ``end``"""
    OVERLONG = 3
    """the stream went on after ``end``"""
    BUDGET = 4
    """budget of 0 or above 2 * group, or a budget or a weight mode that the array does not have"""
    GEOMETRY = 5
    """kernel, stride, padding, channels or image size of zero or too large"""
    ADDRESS = 6
    """activation address past the memory, or a base that is no multiple of ``ports``"""
    WEIGHT_ADDRESS = 7
    """weight address past the memory"""
    SCALE_ADDRESS = 8
    """scale address past the memory"""
    REDUCTION = 9
    """more codes per output than the accumulators hold"""
    RESIDUAL = 10
    """residual and input tensor do not lie in different halves of activation memory"""
    REQUANTIZE = 11
    """shift, clamp or residual multiplier out of range"""
    TIMEOUT = 12
    """no input for as many cycles as the timeout register allows"""


class ProgramError(UserError, ValueError):
    """A program that cannot run; ``code`` is what the hardware's error register shows."""

    def __init__(self, code: Error, message: str):
        super().__init__(code, message)  # what it is made of again, when it comes from another process
        self.code = code

    def __str__(self) -> str:
        return f"{self.code.name}: {self.args[1]}"


class Kind(enum.IntEnum):
    CONV = 0
    """reduction over channels, on the MAC array"""
    MAX = 1
    """maximum over a window, per channel, on the channel unit"""
    SUM = 2
    """sum over a window (average pooling; a window of 1x1 with a residual is an addition), per channel"""
    DEPTHWISE = 3
    """sum over a window of codes times 8-bit weights, per channel: one word of weight memory per tap, of which column 0 is used, a slot's
    nibbles being the two's complement byte"""


@dataclass(frozen=True)
class Field:
    """A field of the layer header: ``bits`` bits from bit ``lsb`` of word ``word``."""

    name: str
    word: int
    lsb: int
    bits: int
    signed: bool = False


FIELDS = (
    Field("kind", 1, 0, 4), Field("w4", 1, 4, 1), Field("in_signed", 1, 5, 1), Field("residual", 1, 6, 1),
    Field("residual_signed", 1, 7, 1), Field("budget", 1, 8, 8), Field("kernel_h", 1, 16, 5), Field("kernel_w", 1, 21, 5),
    Field("stride_h", 1, 26, 3), Field("stride_w", 1, 29, 3),
    Field("in_base", 2, 0, 32), Field("in_plane", 3, 0, 32), Field("in_h", 4, 0, 16), Field("in_w", 4, 16, 16),
    Field("in_words", 5, 0, 16), Field("in_tail", 5, 16, 16), Field("pad_top", 6, 0, 8), Field("pad_left", 6, 8, 8),
    Field("shift", 6, 16, 8), Field("ties_even", 6, 24, 1), Field("out_base", 7, 0, 32), Field("out_plane", 8, 0, 32), Field("out_h", 9, 0, 16),
    Field("out_w", 9, 16, 16), Field("out_channels", 10, 0, 32), Field("weight_base", 11, 0, 32),
    Field("scale_base", 12, 0, 32), Field("residual_base", 13, 0, 32), Field("residual_multiplier", 14, 0, 32),
    Field("clamp_low", 15, 0, 16, True), Field("clamp_high", 15, 16, 16, True),
)
FLAGS = tuple(f.name for f in FIELDS if f.bits == 1)
LAYER_WORDS = 16
MASK_FIELDS = (
    Field("masked", 16, 0, 1), Field("predict", 16, 1, 1), Field("region_h", 16, 4, 4), Field("region_w", 16, 8, 4), Field("threshold", 16, 16, 16),
    Field("mask_base", 17, 0, 32), Field("mask_plane", 18, 0, 32), Field("predict_base", 19, 0, 32), Field("predict_plane", 20, 0, 32),
    Field("mask_pitch", 21, 0, 16), Field("predict_pitch", 21, 16, 16),
)
"""What a layer of DRQ has besides, a :class:`MaskedLayer`."""
MASKED_LAYER_WORDS = 22
REGION_H_MAX, REGION_W_MAX = 3, 4
"""Of DRQ's regions, log2 of pixels."""
THRESHOLD_MAX = 256
LOAD_WORDS = 3
STORE_WORDS = 4
END_WORDS = 1
SHIFT_MAX = 47
CHANNELS_MAX = 4096
SIZE_MAX = 4095
HEADER_WORDS = {
    Opcode.LOAD_ACTIVATIONS: LOAD_WORDS, Opcode.LOAD_WEIGHTS: LOAD_WORDS, Opcode.LOAD_SCALES: LOAD_WORDS,
    Opcode.LAYER: LAYER_WORDS, Opcode.STORE: STORE_WORDS, Opcode.END: END_WORDS,
}


def fields(config: Config) -> tuple[Field, ...]:
    """The fields of a layer header."""
    return FIELDS + MASK_FIELDS if config.array == "drq" else FIELDS


def header_words(config: Config, opcode: Opcode) -> int:
    return MASKED_LAYER_WORDS if opcode is Opcode.LAYER and config.array == "drq" else HEADER_WORDS[opcode]


def limits(config: Config) -> tuple[tuple[str, int, int, Error], ...]:
    """What the decoder checks of a layer header before it starts: (field, smallest, largest, error), in order of precedence."""
    act, g, masks = config.activation_words, config.group, config.mask_words
    of_masks = (
        ("region_h", 0, REGION_H_MAX, Error.GEOMETRY), ("region_w", 0, REGION_W_MAX, Error.GEOMETRY), ("threshold", 0, THRESHOLD_MAX, Error.GEOMETRY),
        *((name, 0, masks - 1, Error.ADDRESS) for name in ("mask_base", "mask_plane", "predict_base", "predict_plane", "mask_pitch", "predict_pitch")),
    ) if config.array == "drq" else ()
    return (
        ("kind", 0, max(Kind), Error.OPCODE),
        ("budget", 1, 2 * g, Error.BUDGET),
        ("kernel_h", 1, KERNEL_MAX, Error.GEOMETRY), ("kernel_w", 1, KERNEL_MAX, Error.GEOMETRY),
        ("stride_h", 1, STRIDE_MAX, Error.GEOMETRY), ("stride_w", 1, STRIDE_MAX, Error.GEOMETRY),
        ("in_h", 1, SIZE_MAX, Error.GEOMETRY), ("in_w", 1, SIZE_MAX, Error.GEOMETRY),
        ("in_words", 1, -(-CHANNELS_MAX // config.word), Error.GEOMETRY), ("in_tail", 1, config.word, Error.GEOMETRY),
        ("pad_top", 0, KERNEL_MAX, Error.GEOMETRY), ("pad_left", 0, KERNEL_MAX, Error.GEOMETRY),
        ("out_h", 1, SIZE_MAX, Error.GEOMETRY), ("out_w", 1, SIZE_MAX, Error.GEOMETRY),
        ("out_channels", 1, CHANNELS_MAX, Error.GEOMETRY),
        ("in_base", 0, act - 1, Error.ADDRESS), ("in_plane", 1, act, Error.ADDRESS),
        ("out_base", 0, act - 1, Error.ADDRESS), ("out_plane", 1, act, Error.ADDRESS),
        ("residual_base", 0, act - 1, Error.ADDRESS),
        ("weight_base", 0, config.weight_words - 1, Error.WEIGHT_ADDRESS),
        ("scale_base", 0, config.scale_words - 1, Error.SCALE_ADDRESS),
        ("shift", 1, SHIFT_MAX, Error.REQUANTIZE),
        ("residual_multiplier", 0, (1 << config.scale_bits) - 1, Error.REQUANTIZE),
        ("clamp_low", -128, 0, Error.REQUANTIZE), ("clamp_high", 0, 255, Error.REQUANTIZE),
        *of_masks,
    )


ALIGNED = ("in_base", "in_plane", "out_base", "out_plane", "residual_base")
"""Fields that must be multiples of ``ports``; ADDRESS otherwise, checked after :func:`limits`."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer on tensors in activation memory. ``tag`` names it for people and does not travel.

    ``ties_even``: requantization rounds ties to even, as ONNX has it, instead of away from zero.
    """

    kind: Kind
    in_base: int
    in_plane: int
    in_h: int
    in_w: int
    in_words: int
    in_tail: int
    out_base: int
    out_plane: int
    out_h: int
    out_w: int
    out_channels: int
    w4: bool = False
    in_signed: bool = False
    budget: int = 1
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    weight_base: int = 0
    scale_base: int = 0
    residual: bool = False
    residual_signed: bool = False
    residual_base: int = 0
    residual_multiplier: int = 0
    shift: int = 1
    ties_even: bool = False
    clamp_low: int = 0
    clamp_high: int = 255
    tag: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class MaskedLayer(Layer):
    """A layer of DRQ. The mask of channel word ``n`` and region (i, j) lies at ``base + n * plane + i * pitch + j``, a bit per channel.

    ``masked``: a convolution reads the masks of its input, else all of it is sensitive. ``predict``: any layer writes those of its output, with regions of
    the same size, sensitive where the mean magnitude is ``threshold`` or more; see ``golden.sensitivity_predictor``. Addresses past the mask memory wrap.
    """

    masked: bool = False
    mask_base: int = 0
    mask_plane: int = 0
    mask_pitch: int = 0
    predict: bool = False
    predict_base: int = 0
    predict_plane: int = 0
    predict_pitch: int = 0
    threshold: int = 0
    region_h: int = 0
    region_w: int = 0


@dataclass(frozen=True, kw_only=True)
class Load:
    """``data``: uint8, (words, bytes per word); a leading axis of images is allowed in the golden machine."""

    opcode: Opcode
    address: int
    data: np.ndarray
    sync: bool = False


@dataclass(frozen=True, kw_only=True)
class Store:
    """``count`` words from ``address``; of each only the first ``tail`` codes, the rest reads as zero."""

    address: int
    count: int
    tail: int


@dataclass(frozen=True)
class End:
    pass


Command = Load | Layer | Store | End


def beats_per_word(config: Config, opcode: Opcode) -> int:
    """Stream beats that one memory word of a load takes."""
    return {Opcode.LOAD_ACTIVATIONS: 1, Opcode.LOAD_WEIGHTS: config.weight_beats, Opcode.LOAD_SCALES: config.scale_beats}[opcode]


def memory_words(config: Config, opcode: Opcode) -> int:
    return {Opcode.LOAD_ACTIVATIONS: config.activation_words, Opcode.LOAD_WEIGHTS: config.weight_words,
            Opcode.LOAD_SCALES: config.scale_words}[opcode]


LOAD_ERROR = {Opcode.LOAD_ACTIVATIONS: Error.ADDRESS, Opcode.LOAD_WEIGHTS: Error.WEIGHT_ADDRESS,
              Opcode.LOAD_SCALES: Error.SCALE_ADDRESS}


def header_beats(config: Config, opcode: Opcode) -> int:
    return -(-header_words(config, opcode) // config.header_words)


def check_mode(config: Config, kind: Kind, w4: bool, budget: int, name: str) -> None:
    """Whether the array has the weight mode and the budget of a layer, which count for convolutions; BUDGET otherwise, checked after :func:`limits`."""
    if kind is not Kind.CONV:
        return
    if w4 not in config.array_kind.modes:
        raise ProgramError(Error.BUDGET, f"layer {name!r}: w4 = {int(w4)}, but the {config.array} array of {config.name!r} has 8-bit weights only")
    if budget not in config.array_kind.budgets(config.group):
        raise ProgramError(Error.BUDGET, f"layer {name!r}: budget = {budget}, but the {config.array} array of {config.name!r} with group = {config.group} has "
                           f"{config.array_kind.budget_text}")


def check_layer(config: Config, layer: Layer) -> None:
    """The decoder's checks of a layer header; raises what the hardware reports."""
    for name, low, high, error in limits(config):
        value = int(getattr(layer, name, 0))
        if not low <= value <= high:
            raise ProgramError(error, f"layer {layer.tag!r}: {name} = {value}, allowed are {low} ... {high}")
    check_mode(config, layer.kind, layer.w4, layer.budget, layer.tag)
    for name in ALIGNED:
        if getattr(layer, name) % config.ports:
            raise ProgramError(Error.ADDRESS, f"layer {layer.tag!r}: {name} = {getattr(layer, name)} is no multiple of ports = {config.ports}")
    half = config.activation_words // 2
    if layer.residual and layer.in_base // half == layer.residual_base // half:
        raise ProgramError(Error.RESIDUAL, f"layer {layer.tag!r}: input at {layer.in_base} and residual at {layer.residual_base} "
                           f"lie in the same half of the activation memory ({half} words each)")
