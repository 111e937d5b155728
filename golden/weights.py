"""Weights as memory words. A slot is what a column has for one code of a word; it holds two parts (high, low), by array:

* ``sdp``, 10 bits: digits of five bits, -15 ... 15. ``w8`` adds them, ``16 * high + low``, for one output channel; ``w4`` uses each as a whole
  weight of its own output channel. Both digits are signed and mean the same in both modes, so the processing element has no precision mode.
  A digit is stored as sign and magnitude, which take one bit less to multiply than two's complement.
* ``sdp-plain``, 8 bits: digits of four bits, -8 ... 7; a sign without a magnitude is -8. Both reach no further than 7, so that ``w8`` ends at 119.
* ``int4``, ``int8``, ``int16``, 8 bits: the two nibbles of a byte in two's complement, so that the low one is unsigned; in ``w4`` each is a weight
  of its own output channel in two's complement.
* ``drq``, 16 bits: the weights of two output channels, each a byte of two nibbles as sign and magnitude, worth ``16 * high + low``.
"""

from dataclasses import dataclass

import numpy as np

from sdp.arrays import ARRAYS
from sdp.config import Config

W4_VALUES = np.arange(-15, 16)
"""Every weight that one digit of five bits can stand for."""
NIBBLES = np.arange(-8, 8)
"""One of four bits."""
BYTES = np.arange(-128, 128)
"""Weights of depthwise convolutions, on all arrays."""
DIGITS = {4: NIBBLES, 5: W4_VALUES}
"""Values of a digit by its bits."""


def split_w8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -128 ... 127 as digits (high, low), so that ``16 * high + low`` is exact."""
    weights = weights.astype(np.int16)
    if weights.size and not (-128 <= weights.min() and weights.max() <= 127):
        raise ValueError(f"w8 weights reach from {weights.min()} to {weights.max()}, allowed are -128 ... 127")
    high = weights + 8 >> 4
    return high, weights - (high << 4)


def encode_digit(values: np.ndarray, bits: int) -> np.ndarray:
    """Digit values to their ``bits``, 4 or 5: a sign above the magnitude."""
    values, reached = values.astype(np.int16), DIGITS[bits]
    strange = ~np.isin(values, reached)
    if strange.any():
        raise ValueError(f"no digit stands for {values[strange][:5].tolist()}; allowed are {reached.min()} ... {reached.max()}")
    return (np.abs(values) & (1 << bits - 1) - 1 | (values < 0) << bits - 1).astype(np.uint8)


def decode_digit(coded: np.ndarray, bits: int) -> np.ndarray:
    """``bits`` to the value of the digit, int16; those above are not looked at."""
    magnitude, negative = (coded & (1 << bits - 1) - 1).astype(np.int16), coded >> bits - 1 & 1
    return np.where(negative, -np.where(magnitude, magnitude, 8 if bits == 4 else 0), magnitude).astype(np.int16)


def nibble_value(bits: np.ndarray) -> np.ndarray:
    """Nibbles 0 ... 15 in two's complement, int16."""
    return (bits.astype(np.int16) & 15 ^ 8) - 8


@dataclass(frozen=True)
class Digits:
    """Slots of ``sdp`` and ``sdp-plain``."""

    byte_shift: int
    """Bits of a digit: from the upper nibble's place in a byte of a depthwise convolution to that in its slot, too."""

    @property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights that there are in (w8, w4)."""
        return BYTES if self.byte_shift == 5 else np.arange(-128, 120), DIGITS[self.byte_shift]

    def split(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """8-bit weights of one output channel per column as (high, low)."""
        return split_w8(weights)

    def encode(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Parts to slots, uint16."""
        low, high = (encode_digit(digit, self.byte_shift).astype(np.uint16) for digit in (low, high))
        return low | high << self.byte_shift

    def decode(self, slots: np.ndarray, w4: bool) -> tuple[np.ndarray, np.ndarray]:
        """Slots to values of their parts (high, low), int16."""
        return decode_digit(slots >> self.byte_shift, self.byte_shift), decode_digit(slots, self.byte_shift)


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
        high, low = ((encode_digit(digit[0], 4) << 4 | encode_digit(digit[1], 4)).astype(np.uint16) for digit in (split_w8(w) for w in (high, low)))
        return high << 8 | low

    def decode(self, slots: np.ndarray, w4: bool) -> tuple[np.ndarray, np.ndarray]:
        high, low = (16 * decode_digit(byte >> 4, 4) + decode_digit(byte, 4) for byte in (slots >> 8, slots))
        return high, low


_BYTES = Bytes()
FORMATS = {**{name: Digits(array.digit_bits) for name, array in ARRAYS.items() if array.terms}, "int4": _BYTES, "int8": _BYTES, "int16": _BYTES, "drq": Pairs()}


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
