"""Requantization: accumulators to output codes, with one rounding step."""

import numpy as np

from sdp.config import Config


def round_shift(value: np.ndarray, shift: int, ties_even: bool = False) -> np.ndarray:
    """``value / 2**shift`` rounded to the nearest integer, ties away from zero or to even; int64 in and out, ``shift`` at least 1.

    A half is added and the rest cut. On a tie that is one too much for a negative value, or for one whose whole part is even already.
    """
    return value + (1 << shift - 1) - (~value >> shift & 1 if ties_even else value < 0) >> shift


def requantize(acc, bias, multiplier, shift: int, low: int, high: int, residual=0, residual_multiplier: int = 0,
               ties_even: bool = False) -> np.ndarray:
    """``clamp(round(((acc + bias) * multiplier + residual * residual_multiplier) / 2**shift), low, high)``, int16.

    ``acc``: integers (..., channels), whatever their type; ``bias`` int32 and ``multiplier`` unsigned per channel; ``residual``: codes
    like ``acc``. ReLU is ``low = 0``; ties as in :func:`round_shift`. Floats, less than 2**32 each, are taken for what they are, sums that
    a BLAS computed exactly, and stay floats where double precision holds everything exactly.
    """
    acc = np.asarray(acc)
    if acc.dtype.kind == "f":
        bias, multiplier = np.asarray(bias, dtype=np.int64), np.asarray(multiplier, dtype=np.int64)
        largest = ((1 << 32) + int(np.abs(bias).max(initial=0))) * int(multiplier.max(initial=0)) + 255 * residual_multiplier
        if largest + (1 << shift - 1) < 1 << 53:
            return _requantize_exact_floats(acc, bias, multiplier, shift, low, high, residual, residual_multiplier, ties_even)
    total = (acc.astype(np.int64, copy=False) + bias) * multiplier + np.asarray(residual, dtype=np.int64) * residual_multiplier
    return np.clip(round_shift(total, shift, ties_even), low, high).astype(np.int16)


def _requantize_exact_floats(acc, bias, multiplier, shift, low, high, residual, residual_multiplier, ties_even) -> np.ndarray:
    """Every number is a multiple of ``2**-shift`` with at most 53 bits: nothing is rounded until the last step, which cuts what is left."""
    step, half = 0.5**shift, 0.5 if low >= 0 and not ties_even else 0.0
    # Conversions first: NumPy computes with one type far faster than with two.
    total = acc.astype(np.float64)
    total *= multiplier * step
    total += bias * multiplier * step + half
    if residual_multiplier:
        other = np.asarray(residual).astype(np.float64)
        other *= residual_multiplier * step
        total += other
    if ties_even:
        np.rint(total, out=total)
    elif not half:
        total += np.copysign(0.5, total)
    return np.clip(total, low, high, out=total).astype(np.int16)


def pack_scales(config: Config, bias: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Bias (int32) and multiplier per channel to scale memory words, uint8 (words, scale_beats * word bytes).

    Channels are padded with zeros to whole words of ``outputs`` channels. Channel ``i`` of a word lies at bit ``i * (32 + scale_bits)``,
    its bias in the lower 32 bits.
    """
    bias, multiplier = np.asarray(bias, dtype=np.int64), np.asarray(multiplier, dtype=np.int64)
    if bias.size and (bias.min() < -(1 << 31) or bias.max() >= 1 << 31):
        raise ValueError(f"bias reaches from {bias.min()} to {bias.max()}, allowed is int32")
    if multiplier.size and (multiplier.min() < 0 or multiplier.max() >> config.scale_bits):
        raise ValueError(f"multiplier reaches from {multiplier.min()} to {multiplier.max()}, allowed are {config.scale_bits} bits, unsigned")
    value = (bias & 0xFFFFFFFF) | multiplier << 32
    value = np.pad(value, (0, -len(value) % config.outputs)).reshape(-1, config.outputs)
    bits = (value[..., None] >> np.arange(32 + config.scale_bits) & 1).astype(np.uint8).reshape(len(value), config.scale_word_bits)
    return np.packbits(np.pad(bits, ((0, 0), (0, config.scale_beats * config.stream_bits - config.scale_word_bits))), axis=1, bitorder="little")


def unpack_scales(config: Config, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pack_scales`: (bias, multiplier), int64 (channels,)."""
    bits = np.unpackbits(words, axis=1, bitorder="little")[:, : config.scale_word_bits].reshape(-1, 32 + config.scale_bits).astype(np.int64)
    value = bits @ (1 << np.arange(32 + config.scale_bits, dtype=np.int64))
    return ((value & 0xFFFFFFFF) ^ 1 << 31) - (1 << 31), value >> 32
