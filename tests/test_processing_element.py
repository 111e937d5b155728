"""The nibble multiplier and the processing element."""

import pytest

from tests.units import SIMULATORS, everywhere, simulate


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_nibble_multiplier(simulator):
    simulate("nibble_multiplier", simulator)


@everywhere
def test_processing_element(simulator, config):
    simulate("processing_element", simulator, config)
