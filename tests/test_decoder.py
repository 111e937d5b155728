"""The decoder."""

from tests.units import everywhere, simulate


@everywhere
def test_decoder(simulator, config):
    simulate("decoder", simulator, config)
