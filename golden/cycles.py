"""Cycles per layer, exactly: no data decides them, so a closed formula does.

The hardware takes its sizes (beats per step, length of the drain, pipeline depths) from here.
"""

import math
from dataclasses import dataclass

from sdp.config import Config
from sdp.program import Kind, Layer

# Pipeline depths in cycles, from the issue of a step's last read (cycle 0) on.
READ_STAGES = 3
"""address register, memory, staging register: the selectors load in cycle 3"""
SELECT_STAGES = 2
"""selector, term register: the first term is multiplied in cycle READ_STAGES + 2"""
CAPTURE_STAGES = 1
"""the sums stand; they are captured, and the drain begins in the next cycle"""
CHANNEL_STAGES = 5
"""channel unit: address register, memory, multiply, accumulate, capture; the drain begins in cycle 5"""
OUTPUT_STAGES = 7
"""select and combine, bias, multiply (two), shift, round and clamp, write"""
START_STAGES = 2
"""header register, constants of the layer"""


def beats(config: Config, stride_w: int) -> int:
    """Cycles that reading one step's operands takes: ``ports`` pixels a cycle, fewer where the stride hits banks twice."""
    return config.rows // config.ports * math.gcd(stride_w, config.ports)


def drain(config: Config, kind: Kind, w4: bool) -> int:
    """Cycles in which the output stage takes over a tile: ``outputs`` codes a cycle."""
    if kind is Kind.CONV:
        return config.rows * config.block(w4) // config.outputs
    return config.word // config.outputs


@dataclass(frozen=True)
class LayerCycles:
    """What a layer costs, and why.

    ``total`` is what the hardware counts from the cycle after its start to its last write.
    """

    step: int
    """cycles per reduction step: the budget, or the operands' beats where they take longer"""
    steps: int
    """reduction steps per tile"""
    tiles: int
    """tiles of all output-channel blocks"""
    drain: int
    fixed: int
    """filling of the strip queue, pipeline"""

    @property
    def tile(self) -> int:
        """Cycles from tile to tile: the drain of one runs beside the computation of the next."""
        return max(self.steps * self.step, self.drain)

    @property
    def total(self) -> int:
        return self.steps * self.step + (self.tiles - 1) * self.tile + self.drain + self.fixed


def layer_cycles(config: Config, layer: Layer) -> LayerCycles:
    """The exact cycles of ``layer`` on ``config``; of a convolution with DRQ, where data decide, about the least: see ``golden.drq_array``."""
    queue = config.rows // config.ports
    if layer.kind is not Kind.CONV:
        blocks = -(-layer.out_channels // config.word)
        return LayerCycles(
            step=1, steps=layer.kernel_h * layer.kernel_w, tiles=blocks * layer.out_h * layer.out_w,
            drain=drain(config, layer.kind, layer.w4), fixed=START_STAGES + queue + CHANNEL_STAGES - 1 + OUTPUT_STAGES - 1)
    blocks = -(-layer.out_channels // config.block(layer.w4))
    strips = layer.out_h * -(-layer.out_w // config.ports)
    operands = beats(config, layer.stride_w)
    step = operands if config.array == "drq" else max(layer.budget, operands)
    # The last step ends with its reads; its terms, `budget` cycles, belong to the pipeline.
    pipeline = operands - step + READ_STAGES + SELECT_STAGES + layer.budget - 1 + CAPTURE_STAGES
    return LayerCycles(
        step=step, steps=layer.kernel_h * layer.kernel_w * layer.in_words, tiles=blocks * -(-strips // queue),
        drain=drain(config, layer.kind, layer.w4), fixed=START_STAGES + queue + pipeline + OUTPUT_STAGES - 1)


def term_slots(config: Config, layer: Layer) -> int:
    """Lanes times cycles that could have taken a term: those filled and those left empty."""
    if layer.kind is not Kind.CONV:
        return 0
    c = layer_cycles(config, layer)
    return c.tiles * c.steps * layer.budget * config.rows * config.lanes


def utilization(config: Config, layer: Layer, macs: int) -> float:
    """Share of the multipliers' cycles that the layer's ``macs`` need at its budget and weight mode."""
    per_cycle = config.rows * config.block(layer.w4) * config.lanes * config.group / layer.budget
    return macs / (layer_cycles(config, layer).total * per_cycle)


# The decoder, in cycles: see ``hw.decoder``.
BEGIN = 1
"""from the start register to the first header beat"""
CHECK = 1
STORE_TAIL = 3
"""from the last word read to the empty queue, with a sink that is always ready"""
