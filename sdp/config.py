"""The configuration: one frozen, validated record that drives hardware, golden model, compiler and reports."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sdp import UserError
from sdp.arrays import ARRAYS, Array

KERNEL_MAX = 31
"""Largest kernel side of a layer (convolutions and pooling windows alike)."""
STRIDE_MAX = 4


class ConfigError(UserError, ValueError):
    """A configuration that cannot be built; the message names field, value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of one accelerator.

    Attributes
    ----------
    group : int
        ``G``: codes per selection group, along the channels. A budget is 1 ... ``2 * group`` terms.
    lanes : int
        ``L``: groups that a processing element reduces at once, one term per lane and cycle.
    rows : int
        Output pixels of a tile; they share the weights.
    columns : int
        Columns of processing elements; they share the terms. One output channel each in ``w8``, two in ``w4``.
    ports : int
        Pixels read from activation memory per cycle (banks of each of its halves): a power of two that divides ``rows``.
    outputs : int
        Codes requantized per cycle: divides ``columns`` and ``lanes * group``.
    reduction : int
        Largest number of codes that one output sums over; fixes the accumulators' width.
    activation_words, weight_words, scale_words : int
        Depth of the memories. A word of activations is ``lanes * group`` codes, one of weights is what all columns need for
        one reduction step, one of scales is bias and multiplier of ``outputs`` channels.
    scale_bits : int
        Width of the requantization multipliers, unsigned.
    log_layers : int
        Layers whose performance counters can be read back (a ring: the newest overwrite the oldest). A power of two.
    array : str
        What computes convolutions, a name of :data:`sdp.arrays.ARRAYS`. On the dense arrays a group is the codes that a lane takes one after
        the other in a step.
    """

    name: str
    group: int = 8
    lanes: int = 2
    rows: int = 8
    columns: int = 8
    ports: int = 4
    outputs: int = 8
    reduction: int = 4608
    activation_words: int = 4096
    weight_words: int = 1280
    scale_words: int = 256
    scale_bits: int = 16
    log_layers: int = 64
    array: str = "sdp"

    def __post_init__(self):
        for field, low, high in (
            ("group", 2, 32), ("lanes", 1, 32), ("rows", 1, 64), ("columns", 1, 64), ("ports", 1, 16), ("outputs", 1, 64),
            ("reduction", 1, 65536), ("activation_words", 16, 1 << 20), ("weight_words", 2, 1 << 16),
            ("scale_words", 2, 1 << 16), ("scale_bits", 8, 31), ("log_layers", 1, 256),
        ):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                self._reject(field, f"an integer from {low} to {high}")
        if not isinstance(self.name, str) or not self.name.replace("-", "").replace("_", "").isalnum():
            self._reject("name", "letters, digits, '-' and '_'")
        if not isinstance(self.array, str) or self.array not in ARRAYS:
            self._reject("array", f"one of {', '.join(ARRAYS)}")
        for field in ("ports", "activation_words", "log_layers"):
            value = getattr(self, field)
            if value & (value - 1):
                self._reject(field, "a power of two")
        if self.rows % self.ports:
            self._reject("ports", f"a divisor of rows = {self.rows}")
        if self.word % 4:
            self._reject("lanes", f"such that lanes * group is a multiple of 4 (group = {self.group})")
        if self.columns % self.outputs:
            self._reject("outputs", f"a divisor of columns = {self.columns}")
        if self.word % self.outputs:
            self._reject("outputs", f"a divisor of lanes * group = {self.word}")
        if self.activation_words < 4 * self.ports:
            self._reject("activation_words", f"at least 4 * ports = {4 * self.ports}")
        if self.reduction % self.word:
            self._reject("reduction", f"a multiple of lanes * group = {self.word}")
        if self.accumulator_bits > 32:
            self._reject("reduction", "at most what 32-bit accumulators hold exactly")

    def _reject(self, field, allowed):
        raise ConfigError(f"configuration {self.name!r}: {field} = {getattr(self, field)!r}, but must be {allowed}")

    @property
    def word(self) -> int:
        """Codes per word of activations, ``L * G``; also the bytes of a stream beat."""
        return self.lanes * self.group

    @property
    def stream_bits(self) -> int:
        """Width of a beat on the input and output stream."""
        return 8 * self.word

    @property
    def header_words(self) -> int:
        """32-bit words per beat."""
        return self.stream_bits // 32

    @property
    def array_kind(self) -> Array:
        """What depends on the array."""
        return ARRAYS[self.array]

    @property
    def nibble_multipliers(self) -> int:
        """Multipliers of 4 x 4 bits, or as many as larger ones are worth."""
        return self.array_kind.multipliers(self)

    @property
    def steps_max(self) -> int:
        """Largest number of reduction steps (words per output)."""
        return self.reduction // self.word

    @property
    def accumulator_bits(self) -> int:
        """Two's complement width that holds any sum of ``reduction`` products of a code and a digit."""
        return max((self.array_kind.largest * self.reduction).bit_length() + 1, self.array_kind.accumulator)

    @property
    def slot_bits(self) -> int:
        """Bits of a weight slot: what a column has for each code of a word, see ``golden.weights``."""
        return self.array_kind.slot_bits

    @property
    def weight_bits(self) -> int:
        """Bits of a word of weight memory: all columns, all slots."""
        return self.columns * self.word * self.slot_bits

    @property
    def mask_words(self) -> int:
        """Depth of DRQ's mask memory, a bit per code of a word: regions of four pixels and more."""
        return self.activation_words // 4 if self.array == "drq" else 0

    @property
    def scale_word_bits(self) -> int:
        """Bits of a word of scale memory: (bias int32, multiplier) of ``outputs`` channels."""
        return self.outputs * (32 + self.scale_bits)

    @property
    def weight_beats(self) -> int:
        """Stream beats per word of weights."""
        return math.ceil(self.weight_bits / self.stream_bits)

    @property
    def depthwise_beats(self) -> int:
        """Beats at the start of a word of weights that hold the weights of a depthwise convolution: those of its first column."""
        return math.ceil(self.word * self.slot_bits / self.stream_bits)

    @property
    def scale_beats(self) -> int:
        return math.ceil(self.scale_word_bits / self.stream_bits)

    def block(self, w4: bool) -> int:
        """Output channels that one pass over the array yields."""
        return self.columns * (self.array_kind.channels[w4] or self.array_kind.channels[False])

    def memory_bits(self) -> dict[str, int]:
        """Bits of every on-chip memory."""
        return {
            "activations": self.activation_words * self.stream_bits,
            "weights": self.weight_words * self.weight_bits,
            "scales": self.scale_words * self.scale_word_bits,
            "layer log": self.log_layers * 128,
        }

    def parameters(self) -> dict:
        return dataclasses.asdict(self)


NAMED = {
    c.name: c
    for c in (
        # Every size differs from every other, so that a mixed-up one shows.
        Config(name="tiny", group=4, lanes=3, rows=6, columns=5, ports=2, outputs=1, reduction=1536,
               activation_words=1024, weight_words=256, scale_words=128, scale_bits=18, log_layers=32),
        # Groups of eight: the fewest terms for an accuracy. Groups of four: a third less area per multiplier (docs/silicon.md).
        # Weight memory: ResNet-20's weights of one digit and part of them of two, 1.4 Mbit, stay there from image to image.
        Config(name="small"),
        Config(name="small-4", group=4, lanes=4),
        Config(name="medium", group=4, lanes=4, rows=16, ports=8, activation_words=8192),
        Config(name="large", group=4, lanes=8, rows=16, columns=16, ports=8, outputs=16, activation_words=8192),
    )
}


# Digits of four bits instead of five: a smaller array, and as many bits of weight memory hold a quarter more weights (docs/architecture.md).
VARIANTS = {c.name: c for c in (Config(name="small-plain", array="sdp-plain", weight_words=1600),)}


# What SDP is measured against: as many bits of memory as `small` and, in multipliers of 4 x 4 bits, as much to multiply with.
BASELINES = {
    c.name: c
    for c in (
        Config(name="int4-small", array="int4", weight_words=1600),
        Config(name="int8-small", array="int8", columns=4, outputs=4, weight_words=3200, scale_words=512),
        Config(name="int16-small", array="int16", rows=4, columns=2, outputs=2, weight_words=6400, scale_words=1024),
        Config(name="drq-small", array="drq", rows=32, ports=1, weight_words=800),
    )
}
CONFIGS = NAMED | VARIANTS | BASELINES


def load(name_or_path: str) -> Config:
    """A named configuration, or one from a TOML file of the fields above.

    Raises
    ------
    ConfigError
        Unknown name, unreadable file, unknown field or a value that is not allowed.
    """
    if name_or_path in CONFIGS:
        return CONFIGS[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise ConfigError(f"configuration {name_or_path!r} is neither one of {', '.join(CONFIGS)} nor a .toml file")
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"configuration file {name_or_path}: {error}") from None
    known = {f.name for f in dataclasses.fields(Config)}
    for key in table:
        if key not in known:
            raise ConfigError(f"configuration file {name_or_path}: unknown field {key!r}; fields are {', '.join(sorted(known))}")
    return Config(**{"name": path.stem, **table})
