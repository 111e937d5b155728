"""The convolution unit with each of its arrays, and the operand buffer in it."""

import pytest

from tests.sizes import DENSE
from tests.units import everywhere, plain_digits, simulate


@everywhere
def test_operand_buffer(simulator, config):
    simulate("operand_buffer", simulator, config)


@everywhere
def test_convolution_unit(simulator, config):
    simulate("convolution_unit", simulator, config)


@plain_digits
def test_convolution_unit_with_digits_of_four_bits(config):
    simulate("convolution_unit", "icarus", config)


@pytest.mark.parametrize("config", DENSE, ids=lambda c: c.name)
def test_dense_unit(config):
    simulate("convolution_unit", "icarus", config)
