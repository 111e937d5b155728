"""SDP: the search of :mod:`compiler.flow` as it is; cost: exact cycles of the configuration."""

import functools

from compiler import schedule
from compiler.arithmetic import Terms
from sdp.config import Config


class Sdp(Terms):
    """Modes: (budget, w4)."""

    def __init__(self, config: Config):
        super().__init__(config, functools.partial(schedule.cycles, config))

    def ideal(self, layer, codes):
        return layer.macs * layer.budget * (1 if layer.w4 else 2) / self.config.group
