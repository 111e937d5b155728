"""Number formats and records that units exchange. The one place that knows bit positions."""

from amaranth import Shape, signed, unsigned
from amaranth.lib import data
from amaranth.utils import bits_for

from sdp.config import Config
from sdp.program import CHANNELS_MAX, SIZE_MAX, fields, limits


class Code(data.Struct):
    """A code as sign and magnitude: -128 ... 127 and 0 ... 255 alike, so that selection needs no signedness."""

    low: 4
    high: 4
    negative: 1


def digit_layout(config: Config) -> data.StructLayout:
    """A weight digit as sign and magnitude; a sign without a magnitude is 0, or -8 where a digit has four bits."""
    return data.StructLayout({"magnitude": config.array_kind.digit_bits - 1, "negative": 1})


def slot_layout(config: Config) -> data.StructLayout:
    """A weight slot: two digits; ``golden.weights`` says what they mean in each weight mode."""
    return data.StructLayout({"low": digit_layout(config), "high": digit_layout(config)})


def product_shape(config: Config) -> Shape:
    """Of a term, at most 15 times 16, and a digit, at most 15, or 8 where it has four bits."""
    return signed(bits_for(15 * 16 * (15 if config.array_kind.digit_bits == 5 else 8)) + 1)


def term_layout(group: int) -> data.StructLayout:
    """A term: sign and magnitude (0 in an empty slot), its place, and which datum of the group it belongs to, one bit for each.

    The selector has the index as single bits anyway, and decodes it once where every element of the row would have to.
    """
    return data.StructLayout({"magnitude": 4, "negative": 1, "high": 1, "select": group})


def sums_layout(config: Config) -> data.StructLayout:
    """The two accumulators of a processing element, one per digit column."""
    return data.StructLayout({"low": signed(config.accumulator_bits), "high": signed(config.accumulator_bits)})


def address_bits(config: Config) -> int:
    return bits_for(config.activation_words - 1)


def wide_address(config: Config) -> Shape:
    """Wide enough for every address that a checked header can lead to: past the memory is seen, not wrapped."""
    return signed(max(bits_for(SIZE_MAX) * 2, address_bits(config) + bits_for(CHANNELS_MAX)) + 3)


def layer_layout(config: Config) -> data.StructLayout:
    """The layer header, every field as wide as its largest allowed value."""
    bounds = {name: (low, high) for name, low, high, _ in limits(config)}
    shapes = {}
    for f in fields(config):
        low, high = bounds.get(f.name, (0, (1 << f.bits) - 1))
        shapes[f.name] = signed(max(bits_for(low), bits_for(high) + 1)) if low < 0 else unsigned(bits_for(high))
    return data.StructLayout(shapes)


def read_layout(config: Config) -> data.StructLayout:
    """A read of up to ``ports`` words of activation memory."""
    return data.StructLayout({"valid": config.ports, "address": data.ArrayLayout(address_bits(config), config.ports)})


def word_layout(config: Config) -> data.ArrayLayout:
    return data.ArrayLayout(8, config.word)
