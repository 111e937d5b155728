"""The drain."""

from tests.units import everywhere, simulate


@everywhere
def test_drain(simulator, config):
    simulate("drain", simulator, config)
