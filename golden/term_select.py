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
    by_index = _by_index(np.abs(values).astype(np.uint8), group)
    kept = np.empty((2, *by_index.shape), dtype=bool)
    for at in _chunks(by_index):
        kept[0][at], kept[1][at] = _keep(by_index[at], budget)
    return _by_channel(kept[0], values.shape), _by_channel(kept[1], values.shape)


def _by_index(values: np.ndarray, group: int) -> np.ndarray:
    """(..., channels) as (group, groups per pixel, pixels): a code's place in its group first. A view where channels lie in planes."""
    planes = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    return planes.reshape(len(planes) // group, group, -1).swapaxes(0, 1)


def _by_channel(by_index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`_by_index`, for a result of this shape: its channels lie in planes."""
    return np.moveaxis(np.ascontiguousarray(by_index.swapaxes(0, 1)).reshape(shape[-1], *shape[:-1]), 0, -1)


_CHUNK = 1 << 15
"""Groups at once: what stays in a core's cache."""


def _chunks(by_index: np.ndarray) -> list[tuple[slice, slice, slice]]:
    _, groups, pixels = by_index.shape
    step = max(1, _CHUNK // max(1, groups))
    return [(slice(None), slice(None), slice(begin, begin + step)) for begin in range(0, pixels, step)]


def _keep(magnitude: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """:func:`keep` for magnitudes (group, ...): index by index over many groups, so that all loops run over bytes side by side.

    A part's key orders it among all of its group: high before low, then the nibble, then the lower index. What is kept is what reaches
    the ``budget``-th largest key, found with a sorting network of minima and maxima.
    """
    group = len(magnitude)
    if budget >= 2 * group:
        return magnitude > 15, magnitude & 15 > 0
    bits = (group - 1).bit_length()
    kind = np.uint8 if bits <= 3 else np.uint16
    index = np.arange(group - 1, -1, -1, dtype=kind).reshape(group, *[1] * (magnitude.ndim - 1))
    # Products and quotients by constants, since NumPy's shifts take bytes one by one.
    low = (magnitude & 15).astype(kind, copy=False) * kind(1 << bits) | index
    high = (magnitude // 16).astype(kind, copy=False) * kind(1 << bits) | index
    high |= (magnitude > 15).astype(kind) * kind(1 << bits + 4)
    top_high, top_low = (_largest(keys, min(budget, group)) for keys in (high, low))
    # The budget-th largest of two descending lists: the best of the splits that take i of one and the rest of the other.
    # Keys of zeros are below all others and below this least limit.
    limit = np.full(magnitude.shape[1:], 1 << bits, dtype=kind)
    for i in range(max(0, budget - group), min(budget, group) + 1):
        ends = [top[count - 1] for top, count in ((top_high, i), (top_low, budget - i)) if count]
        np.maximum(limit, np.minimum(*ends) if len(ends) == 2 else ends[0], out=limit)
    return high >= limit, low >= limit


def _largest(keys: np.ndarray, count: int) -> list[np.ndarray]:
    """The ``count`` largest along the first axis, descending."""
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
    values : (..., channels), channels a multiple of ``group``; int16, or uint8 for codes without a sign
    budget : terms kept per group, 1 ... 2 * group; ``2 * group`` keeps everything

    Returns
    -------
    masked : shape and type of ``values``: the sum of the kept terms of each code
    terms : int16, (..., channels / group): kept terms per group (at most ``budget``)
    """
    if values.dtype != np.uint8 and values.size and values.min() < 0:
        magnitude, negative = np.abs(values).astype(np.uint8), values < 0
    else:
        magnitude, negative = values.astype(np.uint8, copy=False), None
    by_index = _by_index(magnitude, group)
    masked, terms = np.empty(by_index.swapaxes(0, 1).shape, dtype=values.dtype).swapaxes(0, 1), np.empty(by_index.shape[1:], dtype=np.int16)
    for at in _chunks(by_index):
        high, low = (kept.view(np.uint8) for kept in _keep(by_index[at], budget))
        masked[at] = by_index[at] & (high * np.uint8(240) | low * np.uint8(15))
        terms[at[1:]] = np.add.reduce(high + low, axis=0, dtype=np.uint8)
    masked = _by_channel(masked, values.shape)
    if negative is not None:
        np.negative(masked, out=masked, where=negative)
    return masked, _by_channel(terms[None], (*values.shape[:-1], values.shape[-1] // group))


def sequence(codes: list[int], budget: int) -> list[tuple[int, int, int]]:
    """The terms of one group in the order in which the hardware emits them: (signed value, is high, index); (0, 0, 0) is an empty slot.

    ``codes`` are the values of one group. This is the readable form of the rule; :func:`keep` is its vectorised one.
    """
    parts = [(abs(x) >> 4, 1, i) for i, x in enumerate(codes)] + [(abs(x) & 15, 0, i) for i, x in enumerate(codes)]
    parts = sorted((p for p in parts if p[0]), key=lambda p: (-p[1], -p[0], p[2]))[:budget]
    terms = [(nibble if codes[i] > 0 else -nibble, high, i) for nibble, high, i in parts]
    return terms + [(0, 0, 0)] * (budget - len(terms))
