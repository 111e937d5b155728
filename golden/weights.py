"""Weights as digits: a digit is a nibble ``n``, -8 ... 7, and a flag ``f``, worth ``n * 4**f``.

A weight slot holds two digits (high, low). ``w8`` adds them, ``16 * high + low``, for one output channel; ``w4`` uses each as a whole
weight of its own output channel. Both digits are signed and mean the same in both modes, so the processing element has no
precision mode; 8, out of a nibble's reach, is twice four with the flag. A nibble is stored as sign and magnitude, which take one bit less to
multiply than two's complement; a sign without a magnitude is -8.
"""

import numpy as np

from sdp.config import Config


def digit_value(nibble: np.ndarray, flag: np.ndarray) -> np.ndarray:
    return nibble.astype(np.int16) << 2 * flag.astype(np.int16)


W4_VALUES = np.unique([n << 2 * f for n in range(-8, 8) for f in (0, 1)])
"""Every weight that one digit can stand for, ascending: -32 ... 28."""


def split_w8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -128 ... 127 as digits (high, low), so that ``16 * high + low`` is exact."""
    weights = weights.astype(np.int16)
    if weights.size and not (-128 <= weights.min() and weights.max() <= 127):
        raise ValueError(f"w8 weights reach from {weights.min()} to {weights.max()}, allowed are -128 ... 127")
    high = weights + 8 >> 4
    return high, weights - (high << 4)


def encode_digit(values: np.ndarray) -> np.ndarray:
    """Digit values to their 5 bits: flag, sign, magnitude. A value that both flags reach is stored with flag 0."""
    values = values.astype(np.int16)
    strange = ~np.isin(values, W4_VALUES)
    if strange.any():
        raise ValueError(f"no digit stands for {values[strange][:5].tolist()}; allowed are {W4_VALUES.tolist()}")
    flag = (values < -8) | (values > 7)
    nibble = np.where(flag, values >> 2, values)
    return (np.abs(nibble) & 7 | (values < 0) << 3 | flag << 4).astype(np.uint8)


def decode_digit(bits: np.ndarray) -> np.ndarray:
    """5 bits to the value of the digit, int16."""
    magnitude, negative = (bits & 7).astype(np.int16), bits & 8 > 0
    return digit_value(np.where(negative, -np.where(magnitude, magnitude, 8), magnitude), bits >> 4 & 1)


def pack(config: Config, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Digit values (words, columns, lanes * group) to memory words, uint8 (words, weight_beats * word bytes)."""
    return pack_slots(config, encode_digit(low).astype(np.uint16) | encode_digit(high).astype(np.uint16) << 5)


def pack_bytes(config: Config, weights: np.ndarray) -> np.ndarray:
    """Weights of a depthwise convolution, -128 ... 127, (words, lanes * group): in column 0: the four lower bits of a slot's two digits are the byte."""
    if weights.size and not (-128 <= weights.min() and weights.max() <= 127):
        raise ValueError(f"depthwise weights reach from {weights.min()} to {weights.max()}, allowed are -128 ... 127")
    byte = weights.astype(np.int8).view(np.uint8).astype(np.uint16)
    slots = np.zeros((len(weights), config.columns, config.word), dtype=np.uint16)
    slots[:, 0] = byte & 15 | byte >> 4 << 5
    return pack_slots(config, slots)


def pack_slots(config: Config, slots: np.ndarray) -> np.ndarray:
    """Slots of 10 bits (words, columns, lanes * group) to memory words: slot ``s`` of column ``c`` lies at bit ``(c * word + s) * 10``."""
    bits = (slots.reshape(len(slots), config.columns * config.word, 1) >> np.arange(config.slot_bits)) & 1
    width = config.weight_beats * config.stream_bits
    bits = np.pad(bits.reshape(len(slots), config.weight_bits).astype(np.uint8), ((0, 0), (0, width - config.weight_bits)))
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_slots(config: Config, words: np.ndarray) -> np.ndarray:
    """The inverse of :func:`pack_slots`, uint16."""
    bits = np.unpackbits(words, axis=1, bitorder="little")[:, : config.weight_bits]
    return bits.reshape(len(words), config.columns, config.word, config.slot_bits).astype(np.uint16) @ (1 << np.arange(config.slot_bits, dtype=np.uint16))


def unpack(config: Config, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pack`: (high, low), int16 (words, columns, lanes * group)."""
    slots = unpack_slots(config, words)
    return decode_digit(slots >> 5), decode_digit(slots & 31)


def slot_bytes(slots: np.ndarray) -> np.ndarray:
    """What the channel unit reads in slots: the four lower bits of both digits as a byte, -128 ... 127, int16."""
    return ((slots >> 5 & 15) << 4 | slots & 15).astype(np.uint8).view(np.int8).astype(np.int16)
