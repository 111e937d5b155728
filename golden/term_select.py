"""Split of codes into terms and the run-time selection of the ``budget`` most important terms of a group.

The abstract of SDP (TODAES 28(1):12) fixes that high and low parts are masked independently and that every group keeps a fixed number
of parts, chosen by importance. Splitting by magnitude, the order of ties and the empty slots are this project's reconstruction.
"""

import functools

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
    magnitude = _magnitude(values).reshape(-1, group)
    kept = np.empty((2, *magnitude.shape), dtype=bool)
    for at in _chunks(len(magnitude)):
        kept[0, at], kept[1, at] = (part.T for part in _keep(np.ascontiguousarray(magnitude[at].T), budget))
    return kept[0].reshape(values.shape), kept[1].reshape(values.shape)


_CHUNK = 1 << 13
"""Groups at once: what stays in a core's cache."""


def _chunks(groups: int) -> list[slice]:
    return [slice(begin, begin + _CHUNK) for begin in range(0, groups, _CHUNK)]


def _magnitude(values: np.ndarray) -> np.ndarray:
    return np.abs(values).astype(np.uint8)


def _keep(magnitude: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """:func:`keep` for magnitudes (group, groups): index by index over many groups, which keeps the loops over bytes.

    A part's key orders it among all of its group: high before low, then the nibble, then the lower index. What is kept is what reaches
    the ``budget``-th largest key, found with a sorting network of minima and maxima.
    """
    group = len(magnitude)
    if budget >= 2 * group:
        return magnitude > 15, magnitude & 15 > 0
    bits = (group - 1).bit_length()
    kind = np.uint8 if bits <= 3 else np.uint16
    index = np.arange(group - 1, -1, -1, dtype=kind)[:, None]
    nonzero = magnitude > 15
    low = (magnitude & 15).astype(kind, copy=False) << bits | index
    high = (magnitude >> 4).astype(kind, copy=False) << bits | index | nonzero.astype(kind) << (bits + 4)
    top_high, top_low = (_largest(keys, min(budget, group)) for keys in (high, low))
    # The budget-th largest of two descending lists: the best of the splits that take i of one and the rest of the other.
    # Keys of zeros are below all others and below this least limit.
    limit = np.full(magnitude.shape[1], 1 << bits, dtype=kind)
    for i in range(max(0, budget - group), min(budget, group) + 1):
        ends = [top[count - 1] for top, count in ((top_high, i), (top_low, budget - i)) if count]
        np.maximum(limit, np.minimum(*ends) if len(ends) == 2 else ends[0], out=limit)
    return high >= limit, low >= limit


def _largest(keys: np.ndarray, count: int) -> list[np.ndarray]:
    """The ``count`` largest of each column, descending."""
    rows = list(keys)
    for i, j, upper, lower in _network(len(rows), count):
        a, b = rows[i], rows[j]
        rows[i], rows[j] = np.maximum(a, b) if upper else a, np.minimum(a, b) if lower else b
    return rows[:count]


@functools.cache
def _network(size: int, count: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """Comparators (i, j, maximum needed, minimum needed) that bring the ``count`` largest of ``size`` to the front, descending.

    Batcher's odd-even merge sort without what ``count`` does not depend on; places past ``size`` would hold the least key.
    """
    width, pairs = 1 << (size - 1).bit_length(), []
    p = 1
    while p < width:
        k = p
        while k >= 1:
            pairs += [(i + j, i + j + k) for j in range(k % p, width - k, 2 * k) for i in range(min(k, width - j - k))
                      if (i + j) // (2 * p) == (i + j + k) // (2 * p)]
            k //= 2
        p *= 2
    needed, found = set(range(count)), []
    for i, j in reversed([pair for pair in pairs if pair[1] < size]):
        if i in needed or j in needed:
            found.append((i, j, i in needed, j in needed))
            needed |= {i, j}
    return tuple(reversed(found))


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
    magnitude = _magnitude(values).reshape(-1, group)
    masked, terms = np.empty(magnitude.shape, dtype=np.int16), np.empty(len(magnitude), dtype=np.int64)
    for at in _chunks(len(magnitude)):
        part = np.ascontiguousarray(magnitude[at].T)
        high, low = (kept.view(np.uint8) for kept in _keep(part, budget))
        masked[at] = (part & (high * np.uint8(240) | low * np.uint8(15))).T
        terms[at] = (high + low).sum(axis=0, dtype=np.uint8)
    masked = masked.reshape(values.shape)
    if values.size and values.min() < 0:
        np.negative(masked, out=masked, where=values < 0)
    return masked, terms.reshape(*values.shape[:-1], -1)


def sequence(codes: list[int], budget: int) -> list[tuple[int, int, int]]:
    """The terms of one group in the order in which the hardware emits them: (signed value, is high, index); (0, 0, 0) is an empty slot.

    ``codes`` are the values of one group. This is the readable form of the rule; :func:`keep` is its vectorised one.
    """
    parts = [(abs(x) >> 4, 1, i) for i, x in enumerate(codes)] + [(abs(x) & 15, 0, i) for i, x in enumerate(codes)]
    parts = sorted((p for p in parts if p[0]), key=lambda p: (-p[1], -p[0], p[2]))[:budget]
    terms = [(nibble if codes[i] > 0 else -nibble, high, i) for nibble, high, i in parts]
    return terms + [(0, 0, 0)] * (budget - len(terms))
