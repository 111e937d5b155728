"""The activation memory."""

from tests.units import everywhere, simulate


@everywhere
def test_activation_memory(simulator, config):
    simulate("activation_memory", simulator, config)
