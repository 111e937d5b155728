"""The nibble multiplier and the processing element."""

import pytest

from tests.sizes import PLAIN
from tests.units import SIMULATORS, everywhere, plain_digits, simulate


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_nibble_multiplier(simulator):
    simulate("nibble_multiplier", simulator)


def test_nibble_multiplier_of_four_bits():
    simulate("nibble_multiplier", "icarus", PLAIN[0])


@everywhere
def test_processing_element(simulator, config):
    simulate("processing_element", simulator, config)


@plain_digits
def test_processing_element_with_digits_of_four_bits(config):
    simulate("processing_element", "icarus", config)
