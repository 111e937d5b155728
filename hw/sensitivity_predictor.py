"""DRQ's sensitivity predictor (Song et al., ISCA 2020) behind the output stage, and the memory of its masks."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from golden.sensitivity_predictor import REGIONS_MAX
from hw.types import layer_layout
from sdp.config import Config
from sdp.program import CHANNELS_MAX, REGION_H_MAX, REGION_W_MAX, SIZE_MAX, THRESHOLD_MAX, Kind

SUM_BITS = 8 + REGION_H_MAX + REGION_W_MAX
"""Of the magnitudes of a region."""


def settings_layout(config: Config) -> data.StructLayout:
    """What the predictor must know of a layer: whether masks are wanted, where they lie, and what is sensitive; see ``golden.sensitivity_predictor``.

    The mask of channel word ``n`` and region (i, j) lies at ``base + n * plane + i * pitch + j``.
    """
    address = bits_for(config.mask_words - 1)
    return data.StructLayout({"predict": 1, "base": address, "plane": address, "pitch": address, "threshold": bits_for(THRESHOLD_MAX),
                              "region_h": bits_for(REGION_H_MAX), "region_w": bits_for(REGION_W_MAX)})


class SensitivityPredictor(wiring.Component):
    """``mask = sum of |code| over a region >= threshold << (region_h + region_w)``, per channel.

    Codes come as the drain walks: for each block of output channels, pixel by pixel in row order, ``outputs`` channels per cycle. What a region has
    so far is kept in a memory, one word for every chunk and every region across the image; its last pixel decides.

    Contract: ``start`` before the first code of a layer; ``valid`` with every chunk that is written, channels in order. ``layer`` and ``settings``
    stay until the cycle after the last code. At most REGIONS_MAX regions across; addresses beyond the memory wrap.

    Latency: ``latency`` cycles from a region's last codes to the write. Throughput: a chunk per cycle.

    Members
    -------
    start, layer, settings : In
    valid, codes : In, ``outputs`` codes as they are written
    write_mask : Out, one bit per ``outputs`` channels of a word; write_address, write_data : Out, bits of ``outputs`` channels
    """

    latency = 2

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(layer_layout(config)),
            "settings": In(settings_layout(config)),
            "valid": In(1),
            "codes": In(data.ArrayLayout(8, config.outputs)),
            "write_mask": Out(config.word // config.outputs),
            "write_address": Out(bits_for(config.mask_words - 1)),
            "write_data": Out(config.outputs),
        })

    def elaborate(self, platform):
        m = Module()
        config, layer, settings, outputs = self.config, self.layer, self.settings, self.config.outputs
        chunks_per_word, block = config.word // outputs, config.block(False)
        chunks = max(block, config.word) // outputs

        # Where in the image: regions across are counted, and the pixel's place in its region are the lower bits of its coordinates.
        x, y = (Signal(bits_for(SIZE_MAX), name=name) for name in "xy")
        across, line = Signal(range(REGIONS_MAX)), Signal.like(self.write_address)
        in_x, in_y, last_x, last_y, x_ends, y_ends, row_ends, image_ends = (
            Signal(n, name=name) for name, n in (("in_x", REGION_W_MAX), ("in_y", REGION_H_MAX), ("last_x", REGION_W_MAX), ("last_y", REGION_H_MAX),
                                                 ("x_ends", 1), ("y_ends", 1), ("row_ends", 1), ("image_ends", 1)))
        m.d.comb += [
            last_x.eq((1 << settings.region_w) - 1), last_y.eq((1 << settings.region_h) - 1), in_x.eq(x & last_x), in_y.eq(y & last_y),
            row_ends.eq(x == layer.out_w - 1), image_ends.eq(row_ends & (y == layer.out_h - 1)),
            x_ends.eq((in_x == last_x) | row_ends), y_ends.eq((in_y == last_y) | (y == layer.out_h - 1)),
        ]
        # Where in the channels: of this chunk, and of the block's first.
        place = data.StructLayout({"channel": bits_for(CHANNELS_MAX + 2 * max(block, config.word)), "position": range(chunks_per_word),
                                   "plane": len(self.write_address)})
        here, first, after = (Signal(place, name=name) for name in ("here", "first", "after"))
        index, pixel_ends, word_ends = Signal(range(chunks)), Signal(), Signal()
        m.d.comb += [
            word_ends.eq(here.position == chunks_per_word - 1),
            after.channel.eq(here.channel + outputs), after.position.eq(Mux(word_ends, 0, here.position + 1)),
            after.plane.eq(here.plane + Mux(word_ends, settings.plane, 0)),
            pixel_ends.eq((index == Mux(layer.kind == Kind.CONV, block, config.word) // outputs - 1) | (after.channel >= layer.out_channels)),
        ]
        with m.If(self.valid):
            m.d.sync += [index.eq(index + 1), here.eq(after)]
            with m.If(pixel_ends):
                m.d.sync += [index.eq(0), here.eq(first), x.eq(x + 1), across.eq(across + x_ends)]
                with m.If(row_ends):
                    m.d.sync += [x.eq(0), across.eq(0), y.eq(y + 1), line.eq(line + Mux(y_ends, settings.pitch, 0))]
                with m.If(image_ends):
                    m.d.sync += [y.eq(0), line.eq(settings.base), here.eq(after), first.eq(after)]
        with m.If(self.start):
            m.d.sync += [*(s.eq(0) for s in (index, x, y, across, here, first)), line.eq(settings.base)]

        # Read; then add, write and decide. What was written in the cycle of the read comes past the memory.
        memory = m.submodules.partials = Memory(shape=outputs * SUM_BITS, depth=REGIONS_MAX * chunks, init=[])
        read, write = memory.read_port(), memory.write_port()
        sums = data.ArrayLayout(SUM_BITS, outputs)
        magnitudes = Signal(data.ArrayLayout(8, outputs), reset_less=True)
        stored, total, before = Signal(sums), Signal(sums), Signal(sums, reset_less=True)
        adds, begins, past, ends = Signal(), Signal(), Signal(), Signal(chunks_per_word)
        address, mask_address, limit = Signal.like(read.addr), Signal.like(self.write_address), Signal(len(settings.threshold) + SUM_BITS - 8)
        m.d.comb += [
            read.addr.eq(Cat(across, index)), read.en.eq(self.valid & settings.predict),
            write.addr.eq(address), write.en.eq(adds), write.data.eq(total),
            stored.eq(Mux(past, before, read.data)),
        ]
        m.d.sync += [
            adds.eq(self.valid & settings.predict), begins.eq((in_x == 0) & (in_y == 0)), past.eq(adds & (address == read.addr)),
            ends.eq(Mux(self.valid & settings.predict & x_ends & y_ends, 1 << here.position, 0)),
            address.eq(read.addr), mask_address.eq(line + here.plane + across), before.eq(total),
            limit.eq(settings.threshold << (settings.region_h + settings.region_w)),
            self.write_mask.eq(ends), self.write_address.eq(mask_address),
        ]
        for n in range(outputs):
            negative = self.codes[n][7] & (layer.clamp_low < 0)
            m.d.sync += magnitudes[n].eq(Mux(negative, -self.codes[n], self.codes[n]))
            m.d.comb += total[n].eq(Mux(begins, 0, stored[n]) + magnitudes[n])
            m.d.sync += self.write_data[n].eq(total[n] >= limit)
        return m


class MaskMemory(wiring.Component):
    """A bit per region and channel, in words of ``lanes * group`` channels. Latency: ``read_data`` one cycle after ``read_enable``, and until the next.

    Members
    -------
    write_mask, write_address, write_data : In, from ``SensitivityPredictor``
    read_enable, read_address : In; read_data : Out
    """

    latency = 1

    def __init__(self, config: Config):
        self.config = config
        address = bits_for(config.mask_words - 1)
        super().__init__({"write_mask": In(config.word // config.outputs), "write_address": In(address), "write_data": In(config.outputs),
                          "read_enable": In(1), "read_address": In(address), "read_data": Out(config.word)})

    def elaborate(self, platform):
        m = Module()
        memory = m.submodules.bits = Memory(shape=self.config.word, depth=self.config.mask_words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=self.config.outputs)
        m.d.comb += [
            read.en.eq(self.read_enable), read.addr.eq(self.read_address), self.read_data.eq(read.data),
            write.en.eq(self.write_mask), write.addr.eq(self.write_address), write.data.eq(self.write_data.replicate(self.config.word // self.config.outputs)),
        ]
        return m
