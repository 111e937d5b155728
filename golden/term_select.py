"""Split of codes into terms and the run-time selection of the ``budget`` most important terms of a group.

The abstract of SDP (TODAES 28(1):12) fixes that high and low parts are masked independently and that every group keeps a fixed number
of parts, chosen by importance. Splitting by magnitude, the order of ties and the empty slots are this project's reconstruction.
"""

import numpy as np


def to_signed(codes: np.ndarray, signed: bool) -> np.ndarray:
    """Memory bytes (uint8) to code values, int16: -128 ... 127 if ``signed``, else 0 ... 255."""
    return (codes.view(np.int8) if signed else codes).astype(np.int16)


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) nibbles of the magnitudes: ``|x| = 16 * high + low``, 0 ... 15 each."""
    magnitude = np.abs(values)
    return magnitude >> 4, magnitude & 15


def keep(values: np.ndarray, budget: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Which nibbles the selection keeps: (high kept, low kept), bool, shape of ``values``.

    The last axis is a multiple of ``group``. In each group the ``budget`` terms with the largest contribution (``16 * high`` or
    ``low``) are kept; ties go to the lower index; a zero part is never kept.
    """
    high, low = (np.ascontiguousarray(part.reshape(-1, group).T.astype(np.uint8)) for part in split(values))
    kept = np.empty((2, *high.shape), dtype=bool)
    for begin in range(0, high.shape[1], _CHUNK):
        at = slice(begin, begin + _CHUNK)
        # High parts first: a non-zero one contributes at least 16, a low one at most 15.
        before = (high[:, at] > 0).sum(axis=0, dtype=np.uint8)
        kept[0, :, at] = (_rank(high[:, at]) < budget) & (high[:, at] > 0)
        kept[1, :, at] = (_rank(low[:, at]) + before < budget) & (low[:, at] > 0)
    kept_high, kept_low = (np.ascontiguousarray(part.T).reshape(values.shape) for part in kept)
    return kept_high, kept_low


_CHUNK = 1 << 14
"""Groups ranked at once: what stays in a core's cache."""


def _rank(parts: np.ndarray) -> np.ndarray:
    """Place of each part among those of its group, uint8 (group, groups): how many are larger, or equal and of lower index.

    Pair by pair over all groups, which is far faster than to sort rows of a few bytes.
    """
    rank = np.zeros(parts.shape, dtype=np.uint8)
    for i in range(len(parts)):
        for j in range(i + 1, len(parts)):
            wins = parts[i] >= parts[j]
            rank[j] += wins
            rank[i] += ~wins
    return rank


def select(values: np.ndarray, budget: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Masked codes and the number of terms kept.

    Parameters
    ----------
    values : int16, (..., channels), channels a multiple of ``group``
    budget : terms kept per group, 1 ... 2 * group; ``2 * group`` keeps everything

    Returns
    -------
    masked : int16, shape of ``values``: the sum of the kept terms of each code
    terms : int, (..., channels / group): kept terms per group (at most ``budget``)
    """
    high, low = split(values)
    if budget >= 2 * group:
        kept_high, kept_low = high > 0, low > 0
        masked = values.astype(np.int16)
    else:
        kept_high, kept_low = keep(values, budget, group)
        masked = (np.sign(values) * ((high << 4) * kept_high + low * kept_low)).astype(np.int16)
    count = kept_high.astype(np.int16) + kept_low
    return masked, count.reshape(*values.shape[:-1], -1, group).sum(axis=-1)


def sequence(codes: list[int], budget: int) -> list[tuple[int, int, int]]:
    """The terms of one group in the order in which the hardware emits them: (signed value, is high, index); (0, 0, 0) is an empty slot.

    ``codes`` are the values of one group. This is the readable form of the rule; :func:`keep` is its vectorised one.
    """
    parts = [(abs(x) >> 4, 1, i) for i, x in enumerate(codes)] + [(abs(x) & 15, 0, i) for i, x in enumerate(codes)]
    parts = sorted((p for p in parts if p[0]), key=lambda p: (-p[1], -p[0], p[2]))[:budget]
    terms = [(nibble if codes[i] > 0 else -nibble, high, i) for nibble, high, i in parts]
    return terms + [(0, 0, 0)] * (budget - len(terms))
