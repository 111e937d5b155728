"""What each array sees of the codes of a convolution, and how many of its slots it fills: all that distinguishes one from another beside its weights.

An operand enters a lane in each of the ``budget`` cycles of a step; ``terms`` counts those that are not zero.
"""

from collections.abc import Callable

import numpy as np

from golden.term_select import select, sequence
from sdp.config import Config


def _magnitude(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.abs(image).astype(np.uint8)


def selected(image: np.ndarray, budget: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """``sdp`` and ``sdp-plain``: the most important terms of each group."""
    masked, terms = select(image, budget, group)
    return masked, terms.sum(axis=-1)


def nibbles(image: np.ndarray, budget: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """``int4``: in ``2 * group`` cycles low and high nibble of each magnitude, in ``group`` cycles the low one alone, with the code's sign."""
    magnitude = _magnitude(image)
    low = magnitude & 15
    if budget == 2 * group:
        return image, ((low > 0) + (magnitude > 15).astype(np.int16)).sum(axis=-1)
    return low if image.dtype == np.uint8 else np.where(image < 0, -low.astype(np.int16), low), (low > 0).sum(axis=-1)


def whole(image: np.ndarray, budget: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """``int8`` and ``int16``: the codes."""
    return image, (image != 0).sum(axis=-1)


SEEN: dict[str, Callable] = {"sdp": selected, "sdp-plain": selected, "int4": nibbles, "int8": whole, "int16": whole}


def operands(config: Config, image: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """What the array multiplies with its weights.

    Parameters
    ----------
    image : codes (n, h, w, channels), channels a multiple of ``group``; int16, or uint8 for codes without a sign
    budget : of the layer, one that the array has

    Returns
    -------
    codes : like ``image``; the sums of the layer are the exact convolution of these with its weights
    terms : integers (n, h, w): operands of a pixel that are not zero
    """
    return SEEN[config.array](image, budget, config.group)


def in_order(config: Config, codes: list[int], budget: int) -> list[tuple[int, int, int]]:
    """What a lane takes of the codes of its group, cycle by cycle: (signed value, is high, index), where a high one counts sixteenfold; (0, 0, 0) is nothing."""
    if config.array_kind.terms:
        return sequence(codes, budget)
    if config.array != "int4":
        return [(x, 0, i) if x else (0, 0, 0) for i, x in enumerate(codes)]
    parts = [((abs(x) >> 4 if high else abs(x) & 15) * (1 if x > 0 else -1), high, i) for i, x in enumerate(codes) for high in range(budget // len(codes))]
    return [part if part[0] else (0, 0, 0) for part in parts]
