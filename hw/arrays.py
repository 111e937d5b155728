"""The compute arrays that the shell can have, behind the members of ``ConvolutionUnit``."""

from amaranth import Cat
from amaranth.lib import data, wiring

from hw.convolution_unit import ConvolutionUnit
from hw.dense_unit import DenseUnit
from hw.drq_array import DrqUnit
from hw.types import slot_layout
from sdp.config import Config

UNITS = {"sdp": ConvolutionUnit, "sdp-plain": ConvolutionUnit, "int4": DenseUnit, "int8": DenseUnit, "int16": DenseUnit, "drq": DrqUnit}


def convolution_unit(config: Config) -> wiring.Component:
    """What computes the convolutions of ``config``."""
    return UNITS[config.array](config)


def depthwise_slots(config: Config, weights) -> data.ValueLike:
    """A word of weights as the channel unit reads it: of the slots of column 0 the bits that two nibbles take."""
    return Cat(weights[i * config.slot_bits :][: slot_layout(config).size] for i in range(config.word))
