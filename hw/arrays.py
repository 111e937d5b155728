"""The compute arrays that the shell can have, behind the members of ``ConvolutionUnit``."""

from amaranth import Cat
from amaranth.lib import data, wiring

from golden.weights import FORMATS
from hw.convolution_unit import ConvolutionUnit
from hw.dense_unit import DenseUnit
from hw.drq_array import DrqUnit
from hw.types import Slot
from sdp.config import Config

UNITS = {"sdp": ConvolutionUnit, "int4": DenseUnit, "int8": DenseUnit, "int16": DenseUnit, "drq": DrqUnit}


def convolution_unit(config: Config) -> wiring.Component:
    """What computes the convolutions of ``config``."""
    return UNITS[config.array](config)


def depthwise_slots(config: Config, weights) -> data.ValueLike:
    """A word of weights as the channel unit reads it: slots of column 0, the nibbles of a byte where they lie in those of ``sdp``."""
    if config.array == "sdp":
        return weights[: data.ArrayLayout(Slot, config.word).size]
    shift = FORMATS[config.array].byte_shift
    slots = (weights[i * config.slot_bits :][: config.slot_bits] for i in range(config.word))
    return Cat(Cat(slot[:4], 0, slot[shift : shift + 4], 0) for slot in slots)
