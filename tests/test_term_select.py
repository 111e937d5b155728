"""Selection of terms: the rule against brute force, and the selector against the rule."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.term_select import keep, select, sequence, split, to_signed
from hw.term_select import TermSelector
from tests.units import GROUPS, SIMULATORS, simulate

code = st.one_of(st.integers(0, 255), st.integers(-128, 127), st.sampled_from([0, 1, 15, 16, 17, 128, 240, 255, -1, -16, -127, -128]))


@st.composite
def groups(draw, largest=8):
    """(values of several groups, group size, budget)"""
    group = draw(st.integers(2, largest))
    values = draw(st.lists(code, min_size=group, max_size=3 * group).map(lambda v: v[: len(v) // group * group]))
    return np.array(values, dtype=np.int16), group, draw(st.integers(1, 2 * group))


def contributions(values):
    """What every part, first the high ones, adds to the magnitude of its datum."""
    return [abs(int(x)) // 16 * 16 for x in values] + [abs(int(x)) % 16 for x in values]


def as_sequence(terms):
    return {(index, high) for value, high, index in terms if value}


def test_split_of_every_code():
    values = np.arange(-128, 256, dtype=np.int16)
    high, low = split(values)
    assert (16 * high + low == abs(values)).all() and high.min() >= 0 and low.min() >= 0 and high.max() == low.max() == 15


def test_to_signed():
    codes = np.arange(256, dtype=np.uint8)
    assert to_signed(codes, False).tolist() == list(range(256))
    assert to_signed(codes, True).tolist() == [*range(128), *range(-128, 0)]
    assert to_signed(codes, True).dtype == to_signed(codes, False).dtype == np.int16


@given(groups(largest=4))
def test_kept_parts_are_a_brute_force_optimum(case):
    """No set of at most K non-zero parts has a larger sum, and of those with that sum it is the first in order (high before low, lower index)."""
    values, group, budget = case
    kept_high, kept_low = keep(values, budget, group)
    for at in range(0, len(values), group):
        parts = contributions(values[at : at + group])
        kept = tuple(np.flatnonzero(np.concatenate([kept_high[at : at + group], kept_low[at : at + group]])))
        nonzero = [i for i, part in enumerate(parts) if part]
        sets = itertools.chain.from_iterable(itertools.combinations(nonzero, n) for n in range(min(budget, len(nonzero)) + 1))
        best = max(sets, key=lambda chosen: (sum(parts[i] for i in chosen), [-i for i in chosen]))
        assert kept == best


@given(groups())
def test_sequence_is_ordered_by_contribution_and_ends_in_empty_slots(case):
    values, group, budget = case
    terms = sequence(values[:group].tolist(), budget)
    assert len(terms) == budget
    order = [(-abs(value) * 16**high, 1 - high, index) for value, high, index in terms if value]
    assert order == sorted(order) and len(set(as_sequence(terms))) == len(order)
    assert terms[len(order) :] == [(0, 0, 0)] * (budget - len(order))
    assert len(order) == min(budget, sum(part > 0 for part in contributions(values[:group])))
    for value, high, index in terms[: len(order)]:
        x = int(values[index])
        assert value == (1 if x > 0 else -1) * (abs(x) >> 4 if high else abs(x) & 15)


@given(groups())
def test_keep_select_and_sequence_agree(case):
    values, group, budget = case
    kept_high, kept_low = keep(values, budget, group)
    masked, counts = select(values, budget, group)
    assert masked.shape == values.shape and counts.shape == (len(values) // group,)
    for n in range(len(values) // group):
        part = slice(n * group, n * group + group)
        terms = sequence(values[part].tolist(), budget)
        chosen = {(i, 1) for i in np.flatnonzero(kept_high[part])} | {(i, 0) for i in np.flatnonzero(kept_low[part])}
        assert chosen == as_sequence(terms)
        sums = [0] * group
        for value, high, index in terms:
            sums[index] += value * 16**high
        assert masked[part].tolist() == sums
        assert counts[n] == sum(value != 0 for value, _, _ in terms) <= budget


@given(groups())
def test_codes_without_a_sign_may_stay_bytes(case):
    values, group, budget = abs(case[0]), *case[1:]
    masked, counts = select(values.astype(np.uint8), budget, group)
    wanted, wanted_counts = select(values, budget, group)
    assert masked.dtype == np.uint8 and wanted.dtype == np.int16 and (masked == wanted).all()
    assert counts.dtype == np.int16 and (counts == wanted_counts).all()


@given(groups())
def test_whole_budget_is_the_identity(case):
    values, group, _ = case
    masked, counts = select(values, 2 * group, group)
    assert (masked == values).all()
    assert counts.sum() == sum(part > 0 for part in contributions(values))
    high, low = keep(values, 2 * group, group)
    assert (np.sign(values) * (high * (abs(values) & ~15) + low * (abs(values) & 15)) == values).all()


@given(groups())
def test_a_larger_budget_keeps_all_that_a_smaller_one_keeps(case):
    values, group, _ = case
    before = np.zeros(2 * len(values), dtype=bool)
    for budget in range(1, 2 * group + 1):
        now = np.concatenate(keep(values, budget, group))
        assert (now >= before).all() and now.sum() - before.sum() <= len(values) // group
        error, error_before = (np.abs(values - select(values, b, group)[0]).sum() for b in (budget, max(1, budget - 1)))
        assert error <= error_before
        before = now


@given(groups())
def test_zeros_are_never_kept_and_the_budget_holds(case):
    values, group, budget = case
    high, low = keep(values, budget, group)
    assert not high[abs(values) < 16].any() and not low[abs(values) % 16 == 0].any()
    assert ((high.reshape(-1, group).sum(1) + low.reshape(-1, group).sum(1)) <= budget).all()


@given(groups())
def test_groups_do_not_see_each_other(case):
    values, group, budget = case
    together = select(values, budget, group)[0]
    alone = [select(values[n : n + group], budget, group)[0] for n in range(0, len(values), group)]
    assert together.tolist() == np.concatenate(alone).tolist()
    stacked = select(np.stack([values, values[::-1]]).reshape(2, 1, -1), budget, group)[0]
    assert stacked[0, 0].tolist() == together.tolist()


@pytest.mark.parametrize("values, budget, kept", [
    ([16, 16], 1, [16, 0]),  # equal high parts: lower index
    ([15, 15], 1, [15, 0]),  # equal low parts: lower index
    ([15, 16], 1, [0, 16]),  # the smallest high part outweighs the largest low one
    ([0x1F, 0x21], 2, [0x10, 0x20]),
    ([0x1F, 0x21], 3, [0x1F, 0x20]),
    ([-128, 255], 1, [0, 240]),
    ([-128, 128], 1, [-128, 0]),
    ([-5, 0], 4, [-5, 0]),
    ([0, 0], 4, [0, 0]),
])
def test_documented_ties(values, budget, kept):
    assert select(np.array(values, dtype=np.int16), budget, 2)[0].tolist() == kept


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("group", GROUPS)
def test_selector(group, simulator):
    simulate(f"term_select_{group}", simulator)


class Rejected(TermSelector):
    """Never elaborated; the warning for that looks at the instance, and may come after the test has ended."""

    _MustUse__silence = True


@pytest.mark.parametrize("group", [1, 0, -4])
def test_selector_of_less_than_two(group):
    with pytest.raises(ValueError, match=rf"^group must be at least 2, not {group}$"):
        Rejected(group=group)
