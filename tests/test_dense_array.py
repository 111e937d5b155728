"""The dense INT4 array that the array of terms is measured against."""

import pytest

from hw.dense_array import dense_accumulator_bits
from sdp.config import NAMED
from tests.units import everywhere, simulate


@everywhere
def test_dense_array(simulator, config):
    simulate("dense_array", simulator, config)


@pytest.mark.parametrize("config", NAMED.values(), ids=lambda c: c.name)
def test_accumulators_hold_every_sum_and_no_bit_more(config):
    bits = dense_accumulator_bits(config)
    assert 15 * -8 * config.reduction >= -(1 << bits - 1) and 15 * -8 * config.reduction < -(1 << bits - 2)
