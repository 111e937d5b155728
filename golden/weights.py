"""Weights as memory words. A slot is what a column has for one code of a word; it holds two parts (high, low), by array:

* ``sdp``, 10 bits: digits, that is a nibble ``n``, -8 ... 7, and a flag ``f``, worth ``n * 4**f``. ``w8`` adds them, ``16 * high + low``, for one
  output channel; ``w4`` uses each as a whole weight of its own output channel. Both digits are signed and mean the same in both modes, so the
  processing element has no precision mode; 8, out of a nibble's reach, is twice four with the flag. A nibble is stored as sign and
  magnitude, which take one bit less to multiply than two's complement; a sign without a magnitude is -8.
* ``sdp-plain``, 8 bits: the same without flags. Both digits reach no further than 7, so that ``w8`` ends at 119.
* ``int4``, ``int8``, ``int16``, 8 bits: the two nibbles of a byte in two's complement, so that the low one is unsigned; in ``w4`` each is a weight
  of its own output channel in two's complement.
* ``drq``, 16 bits: the weights of two output channels, each a byte of two nibbles as sign and magnitude, worth ``16 * high + low``.
"""

from dataclasses import dataclass

import numpy as np

from sdp.arrays import ARRAYS
from sdp.config import Config


def digit_value(nibble: np.ndarray, flag: np.ndarray) -> np.ndarray:
    return nibble.astype(np.int16) << 2 * flag.astype(np.int16)


W4_VALUES = np.unique([n << 2 * f for n in range(-8, 8) for f in (0, 1)])
"""Every weight that one digit with a flag can stand for, ascending: -32 ... 28."""
NIBBLES = np.arange(-8, 8)
"""The same without a flag."""
BYTES = np.arange(-128, 128)
"""Weights of depthwise convolutions, on all arrays."""


def split_w8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -128 ... 127 as digits (high, low), so that ``16 * high + low`` is exact."""
    weights = weights.astype(np.int16)
    if weights.size and not (-128 <= weights.min() and weights.max() <= 127):
        raise ValueError(f"w8 weights reach from {weights.min()} to {weights.max()}, allowed are -128 ... 127")
    high = weights + 8 >> 4
    return high, weights - (high << 4)


def encode_digit(values: np.ndarray, flagged: bool = True) -> np.ndarray:
    """Digit values to their 5 bits: flag, sign, magnitude. A value that both flags reach is stored with flag 0; 4 bits if digits have no flag."""
    values, reached = values.astype(np.int16), W4_VALUES if flagged else NIBBLES
    strange = ~np.isin(values, reached)
    if strange.any():
        raise ValueError(f"no digit stands for {values[strange][:5].tolist()}; allowed are {reached.tolist()}")
    flag = (values < -8) | (values > 7)
    nibble = np.where(flag, values >> 2, values)
    return (np.abs(nibble) & 7 | (values < 0) << 3 | flag << 4).astype(np.uint8)


def decode_digit(bits: np.ndarray) -> np.ndarray:
    """4 or 5 bits to the value of the digit, int16."""
    magnitude, negative = (bits & 7).astype(np.int16), bits & 8 > 0
    return digit_value(np.where(negative, -np.where(magnitude, magnitude, 8), magnitude), bits >> 4 & 1)


def nibble_value(bits: np.ndarray) -> np.ndarray:
    """Nibbles 0 ... 15 in two's complement, int16."""
    return (bits.astype(np.int16) & 15 ^ 8) - 8


@dataclass(frozen=True)
class Digits:
    """Slots of ``sdp`` and ``sdp-plain``."""

    flag: bool

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights that there are in (w8, w4)."""
        return (BYTES, W4_VALUES) if self.flag else (np.arange(-128, 120), NIBBLES)

    @property
    def byte_shift(self) -> int:
        """Bits of a digit: from the upper nibble's place in a byte of a depthwise convolution to that in its slot, too."""
        return 4 + self.flag

    def split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """8-bit weights of one output channel per column as (high, low)."""
        return split_w8(weights)

    def encode(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Parts to slots, uint16."""
        low, high = (encode_digit(digit, self.flag).astype(np.uint16) for digit in (low, high))
        return low | high << self.byte_shift

    def decode(self, slots: np.ndarray, w4: bool) -> tuple[np.ndarray, np.ndarray]:
        """Slots to values of their parts (high, low), int16."""
        return decode_digit(slots >> self.byte_shift), decode_digit(slots & (1 << self.byte_shift) - 1)


@dataclass(frozen=True)
class Bytes:
    """Slots of the dense arrays."""

    values = (BYTES, NIBBLES)
    byte_shift = 4

    def split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = weights.astype(np.int16)
        return weights >> 4, weights & 15

    def encode(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        return (high.astype(np.int16) << 4 & 240 | low.astype(np.int16) & 15).astype(np.uint16)

    def decode(self, slots: np.ndarray, w4: bool) -> tuple[np.ndarray, np.ndarray]:
        return nibble_value(slots >> 4), nibble_value(slots) if w4 else (slots & 15).astype(np.int16)


@dataclass(frozen=True)
class Pairs:
    """Slots of ``drq``."""

    values = (np.arange(-128, 120), np.arange(0))
    byte_shift = 4

    def encode(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        high, low = ((encode_digit(digit[0]) << 4 | encode_digit(digit[1])).astype(np.uint16) for digit in (split_w8(w) for w in (high, low)))
        return high << 8 | low

    def decode(self, slots: np.ndarray, w4: bool) -> tuple[np.ndarray, np.ndarray]:
        high, low = (16 * decode_digit(byte >> 4 & 15) + decode_digit(byte & 15) for byte in (slots >> 8, slots))
        return high, low


_BYTES = Bytes()
FORMATS = {**{name: Digits(array.flag) for name, array in ARRAYS.items() if array.terms}, "int4": _BYTES, "int8": _BYTES, "int16": _BYTES, "drq": Pairs()}


def allowed(config: Config, w4: bool) -> np.ndarray:
    """Every weight that a convolution can have, ascending."""
    return FORMATS[config.array].values[w4]


def slots_of(config: Config, weights: np.ndarray, w4: bool) -> np.ndarray:
    """Weights (words, block, lanes * group) to slots (words, columns, lanes * group).

    Column ``c`` has channel ``c`` of a block; where it has two, the low part is channel ``c``, the high one ``columns + c``.
    """
    form, values = FORMATS[config.array], allowed(config, w4)
    if not (fitting := np.isin(weights, values)).all():
        raise ValueError(f"weights {np.unique(weights[~fitting])[:5].tolist()} are none of {'w4' if w4 else 'w8'}, which reach from "
                         f"{values.min()} to {values.max()} on the {config.array} array")
    if config.block(w4) == config.columns:
        return form.encode(*form.split(weights))
    return form.encode(weights[:, config.columns :], weights[:, : config.columns])


def weights_of(config: Config, slots: np.ndarray, w4: bool) -> np.ndarray:
    """The inverse of :func:`slots_of` for slots (..., columns, lanes * group), int16."""
    high, low = FORMATS[config.array].decode(slots, w4)
    return low + 16 * high if config.block(w4) == config.columns else np.concatenate([low, high], axis=-2)


def pack(config: Config, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Values of parts (words, columns, lanes * group) to memory words, uint8 (words, weight_beats * word bytes)."""
    return pack_slots(config, FORMATS[config.array].encode(high, low))


def pack_bytes(config: Config, weights: np.ndarray) -> np.ndarray:
    """Weights of a depthwise convolution, -128 ... 127, (words, lanes * group): in column 0: the byte, its nibbles where the digits have theirs."""
    if weights.size and not (-128 <= weights.min() and weights.max() <= 127):
        raise ValueError(f"depthwise weights reach from {weights.min()} to {weights.max()}, allowed are -128 ... 127")
    byte = weights.astype(np.int8).view(np.uint8).astype(np.uint16)
    slots = np.zeros((len(weights), config.columns, config.word), dtype=np.uint16)
    slots[:, 0] = byte & 15 | byte >> 4 << FORMATS[config.array].byte_shift
    return pack_slots(config, slots)


def pack_slots(config: Config, slots: np.ndarray) -> np.ndarray:
    """Slots (words, columns, lanes * group) to memory words: slot ``s`` of column ``c`` lies at bit ``(c * word + s) * slot_bits``."""
    bits = (slots.reshape(len(slots), config.columns * config.word, 1) >> np.arange(config.slot_bits)) & 1
    width = config.weight_beats * config.stream_bits
    bits = np.pad(bits.reshape(len(slots), config.weight_bits).astype(np.uint8), ((0, 0), (0, width - config.weight_bits)))
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_slots(config: Config, words: np.ndarray) -> np.ndarray:
    """The inverse of :func:`pack_slots`, uint16."""
    bits = np.unpackbits(words, axis=1, bitorder="little")[:, : config.weight_bits]
    return bits.reshape(len(words), config.columns, config.word, config.slot_bits).astype(np.uint16) @ (1 << np.arange(config.slot_bits, dtype=np.uint16))


def unpack(config: Config, words: np.ndarray, w4: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pack`: (high, low), int16 (words, columns, lanes * group)."""
    return FORMATS[config.array].decode(unpack_slots(config, words), w4)


def slot_bytes(config: Config, slots: np.ndarray) -> np.ndarray:
    """What the channel unit reads in slots: two nibbles as a byte, -128 ... 127, int16."""
    upper = slots >> FORMATS[config.array].byte_shift & 15
    return (upper << 4 | slots & 15).astype(np.uint8).view(np.int8).astype(np.int16)
