"""The convolution unit, and the operand buffer in it."""

from tests.units import everywhere, simulate


@everywhere
def test_operand_buffer(simulator, config):
    simulate("operand_buffer", simulator, config)


@everywhere
def test_convolution_unit(simulator, config):
    simulate("convolution_unit", simulator, config)
