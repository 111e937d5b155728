"""What a configuration can have for its compute array, and what of its sizes depends on that. One line per array, read by all others.

``sdp`` and ``sdp-plain`` are the machine of this project. The others are what it is measured against, in the same shell: same memories, controller,
output stage and program format. A step of the reduction takes ``budget`` cycles on each of them; what a cycle does is the array's own business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdp.config import Config


@dataclass(frozen=True, kw_only=True)
class Array:
    """Sizes of an array.

    Attributes
    ----------
    text : what it is
    multipliers : of a configuration, in multipliers of 4 x 4 bits, or as many as larger ones are worth
    slot_bits : of weight memory, for each column and each code of a word
    largest : magnitude that no product of a code and what one of the two sums takes of a weight exceeds
    accumulator : least width of a sum
    channels : output channels per column in (w8, w4); none where the array does not have the mode
    budgets : of ``group``: cycles that a step may take, the layer's ``budget``
    budget_text : the same for people
    terms : codes enter it as terms, chosen at run time, weights as digits
    digit_bits : of a digit, a sign and the rest its magnitude; elsewhere those of half a byte
    """

    text: str
    multipliers: Callable[["Config"], int]
    slot_bits: int
    largest: int
    accumulator: int = 1
    channels: tuple[int, int | None]
    budgets: Callable[[int], Sequence[int]]
    budget_text: str
    terms: bool = False
    digit_bits: int = 4

    @property
    def modes(self) -> tuple[bool, ...]:
        """Values of ``w4`` that a layer may have."""
        return tuple(w4 for w4 in (False, True) if self.channels[w4])


_SDP = Array(
    text="terms of codes times digits of weights: the most important ones of a group, chosen at run time",
    multipliers=lambda c: c.rows * c.columns * c.lanes * 2, slot_bits=10, largest=255 * 15, channels=(1, 2),
    budgets=lambda group: range(1, 2 * group + 1), budget_text="1 ... 2 * group", terms=True, digit_bits=5)

ARRAYS = {
    "sdp": _SDP,
    "sdp-plain": replace(_SDP, text="terms of codes times digits of weights of four bits instead of five", slot_bits=8, largest=255 * 8, digit_bits=4),
    "int4": Array(
        text="4-bit codes times 4-bit weights; 8-bit codes in two cycles each, 8-bit weights in two multipliers",
        multipliers=lambda c: c.rows * c.columns * c.lanes * 2, slot_bits=8, largest=255 * 15, channels=(1, 2),
        budgets=lambda group: (group, 2 * group), budget_text="group (codes of 4 bits) and 2 * group (of 8)"),
    "int8": Array(
        text="8-bit codes times 8-bit weights",
        multipliers=lambda c: c.rows * c.columns * c.lanes * 4, slot_bits=8, largest=255 * 128, channels=(1, None),
        budgets=lambda group: (group,), budget_text="group"),
    "int16": Array(
        text="16-bit codes times 16-bit weights, both sign-extended from the 8 bits that the shell has, in sums of 32 bits",
        multipliers=lambda c: c.rows * c.columns * c.lanes * 16, slot_bits=8, largest=255 * 128, accumulator=32, channels=(1, None),
        budgets=lambda group: (group,), budget_text="group"),
    "drq": Array(
        text="DRQ: 8-bit codes of sensitive regions times 8-bit weights in four cycles, of others high nibble times high nibble in one",
        multipliers=lambda c: c.word * 2 * c.columns, slot_bits=16, largest=255 * 136, channels=(2, None),
        budgets=lambda group: range(1, 2 * group + 1), budget_text="1 ... 2 * group, without meaning"),
}
