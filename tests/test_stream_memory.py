"""The stream memory."""

from tests.units import everywhere, simulate


@everywhere
def test_stream_memory(simulator, config):
    simulate("stream_memory", simulator, config)
