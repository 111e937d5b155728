"""OLAccel, a rival: outlier-aware numbers. Nearly everything has 4 bits; of weights and activations, about 3 % are outliers with more.

Source [P]: Park, Kim, Yoo, "Energy-efficient Neural Network Accelerator Based on Outlier-aware Low-precision Computation", ISCA 2018.
At hand were its abstract and, by second hand, its groups and weight chunks. Stated, abstract: 4-bit MACs; about 3 % outliers; a single outlier
weight of a SIMD lane goes to an additional MAC; outlier activations go to high-precision MACs. Stated, second hand: 16 bit for outlier
activations, 8 in a variant; weights' MSBs and their place in the chunk of 80 bits; the first layer in higher precision.

Our assumptions, generous where [P] is silent:

1. An outlier has the step of the 4-bit codes around it and more bits above: so a weight is ``16 * msb + nibble``, exactly, and an outlier
   activation is an integer in the same sum. Nothing but range depends on the outlier's bits.
2. The threshold is static: the quantile of magnitudes of calibration data, zeros counted, beyond which ``ratio`` of them lie; per layer for
   activations, per output channel for weights, whose steps are per output channel as in all our networks.
3. Nibbles of weights are signed digits, -8 ... 7, both of them: outliers reach from -128 to 119, and no MAC has a mode.
4. In a chunk with several outliers the pointer names another chunk, which holds the MSBs of all; pointer 0 means none.
5. Activations in signed tensors are -8 ... 7 when normal; the MAC's operand has a fifth bit for the sign. The first layer takes ordinary codes
   of 8 bit as two nibbles, one sum for each, which the output stage adds as it does with ``w8`` in this project's own machine.
6. Depthwise convolutions and pooling run in the shell's channel unit, as for every rival.
"""

import numpy as np

from golden.mac_array import convolve
from golden.weights import split_w8

LANES = 16
"""4-bit MACs of a group, so output channels of a weight chunk; input channels of an activation chunk."""
CHUNK_BITS = 16 * 4 + 8 + 4 + 4
"""Nibbles, pointer, index and MSBs of the only outlier."""
POINTERS = 255
RATIO = 0.03
WEIGHT_LIMITS = -128, 119


def normal_limits(signed: bool) -> tuple[int, int]:
    """Lowest and highest activation code that is no outlier."""
    return (-8, 7) if signed else (0, 15)


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest activation code, outliers of ``bits`` bits included."""
    return (1 - (1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _steps(magnitudes: np.ndarray, ratio: float, threshold: float) -> np.ndarray:
    """Per row: the step that makes ``threshold`` steps of the value that ``ratio`` of all exceed, or of the non-zero ones where that is zero."""
    found = np.quantile(magnitudes, 1 - ratio, axis=1)
    for at in np.flatnonzero(found == 0):
        rest = magnitudes[at][magnitudes[at] > 0]
        found[at] = np.quantile(rest, 1 - ratio) if rest.size else threshold
    return found / threshold


def activation_step(values: np.ndarray, ratio: float = RATIO, signed: bool = False) -> float:
    """Real calibration values of a tensor to the real value of one step of its codes; what is beyond 15.5 steps (signed: 7.5) is an outlier."""
    return float(_steps(np.abs(values).reshape(1, -1), ratio, normal_limits(signed)[1] + 0.5)[0])


def quantise_activations(values: np.ndarray, step: float, bits: int = 16, signed: bool = False) -> np.ndarray:
    """Real values to codes, int32: normal ones in 4 bits, outliers in ``bits``, of one step."""
    return np.clip(np.rint(np.asarray(values) / step), *limits(bits, signed)).astype(np.int32)


def split_activations(codes: np.ndarray, signed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(normal, outliers), shape and type of ``codes``, which is their sum: an outlier leaves a zero among the normal ones."""
    low, high = normal_limits(signed)
    normal = np.where((codes >= low) & (codes <= high), codes, 0)
    return normal, codes - normal


def split_precise(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-bit codes, 0 ... 255 or -128 ... 127, of the first layer as (high, low): ``16 * high + low``, low 0 ... 15, high -8 ... 15."""
    return codes >> 4, codes & 15


def weight_steps(weights: np.ndarray, ratio: float = RATIO) -> np.ndarray:
    """Real weights (..., output channels) to the real value of one step, per output channel; beyond 7.5 steps is an outlier."""
    magnitudes = np.abs(weights.reshape(-1, weights.shape[-1]).T).astype(np.float64)
    # No channel is clipped by more than rounding: an outlier has 4 bits more, which a longer tail would not do with.
    return np.maximum(_steps(magnitudes, ratio, 7.5), magnitudes.max(axis=1) / (WEIGHT_LIMITS[1] + 0.5))


def quantise_weights(weights: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Real weights (..., output channels) to codes, int16: -8 ... 7, outliers -128 ... 119."""
    return np.clip(np.rint(weights / steps), *WEIGHT_LIMITS).astype(np.int16)


def split_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes as (msb, nibble), -8 ... 7 each: ``16 * msb + nibble``. An outlier is a weight with an MSB."""
    if weights.size and weights.max() > WEIGHT_LIMITS[1]:
        raise ValueError(f"OLAccel's weights reach to {WEIGHT_LIMITS[1]}, not {weights.max()}")
    return split_w8(weights)


def lanes(weights: np.ndarray) -> np.ndarray:
    """(..., output channels) as (..., chunks, 16), the last one filled with zeros."""
    padded = np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, -weights.shape[-1] % LANES)])
    return padded.reshape(*weights.shape[:-1], -1, LANES)


def chunk_cycles(weights: np.ndarray) -> np.ndarray:
    """Codes (..., output channels) to the cycles of each chunk, (..., chunks): 1, or 2 with two outliers or more."""
    return 1 + (np.count_nonzero(split_weights(lanes(weights))[0], axis=-1) > 1)


def encode_chunks(weights: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Codes (chunks, 16) as a group's buffers hold them.

    Returns
    -------
    chunks : ``nibbles`` (chunks, 16), ``pointer``, ``index``, ``msb`` (chunks,): of the only outlier; zeros where there is none, or several
    msbs : (chunks with several, 16): what ``pointer - 1`` counts
    """
    msb, nibbles = split_weights(weights)
    outliers = np.count_nonzero(msb, axis=1)
    single, several = outliers == 1, outliers > 1
    if several.sum() > POINTERS:
        raise ValueError(f"{several.sum()} chunks have several outliers, and a pointer tells {POINTERS} apart")
    index = np.argmax(msb != 0, axis=1) * single
    return {"nibbles": nibbles, "pointer": np.cumsum(several) * several, "index": index, "msb": msb[np.arange(len(msb)), index] * single}, msb[several]


def sums(codes: np.ndarray, weights: np.ndarray, stride: tuple[int, int], pad: tuple[int, int], out: tuple[int, int]) -> np.ndarray:
    """What normal and outlier groups add up, exactly: a convolution of whole codes with whole weights, int64.

    ``codes`` (n, h, w, c), ``weights`` (kernel_h, kernel_w, c, channels), ``pad`` (top, left), ``out`` (out_h, out_w); codes of 16 bit leave the
    mantissa of float32, not that of float64.
    """
    return convolve(codes, weights.astype(np.float64), stride, pad, out)


def weight_bits(weights: np.ndarray) -> int:
    """Bits of the chunks of codes (..., output channels), those of MSBs included, which are as large."""
    return int(chunk_cycles(weights).sum()) * CHUNK_BITS


def activation_bits(codes: np.ndarray, bits: int = 16, signed: bool = False) -> int:
    """Bits of a tensor (n, h, w, c): 4 for each place; an outlier's value and, our assumption, its address in the tensor of one image."""
    outliers = np.count_nonzero(split_activations(codes, signed)[1])
    return int(4 * codes.size + outliers * (bits + int(np.prod(codes.shape[1:]) - 1).bit_length()))
