"""The controller."""

from tests.units import everywhere, simulate


@everywhere
def test_controller(simulator, config):
    simulate("controller", simulator, config)
