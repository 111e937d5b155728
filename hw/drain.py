"""Drain: walks the finished tile in the order in which its codes are written."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.types import address_bits, layer_layout, wide_address
from sdp.config import Config
from sdp.program import CHANNELS_MAX, SIZE_MAX, Error, Kind


def chunk_layout(config: Config) -> data.StructLayout:
    """``outputs`` neighbouring channels of one pixel, one per cycle.

    ``index`` counts the chunks of the present row of the array (``w4``: those of the low digits first) or word of the channel unit;
    ``position`` is the chunk's place in its word of activation memory.
    """
    return data.StructLayout({
        "index": bits_for(max(2 * config.columns, config.word) // config.outputs - 1),
        "position": bits_for(config.word // config.outputs - 1),
        "write": 1,
        "address": address_bits(config),
        "residual_address": address_bits(config),
        "scale_address": bits_for(config.scale_words - 1),
        "done": 1,
    })


class Drain(wiring.Component):
    """After ``captured`` it takes ``golden.cycles.drain`` cycles, in each of which ``chunk`` names what leaves.

    Tiles, rows and strips come in the controller's order; pixels that a strip has beyond the row's end, and channels beyond
    ``out_channels``, take their cycle but are not written. ``chunk.done`` marks the layer's last cycle.

    Members
    -------
    start, layer : In; captured : In, from the unit that computes
    chunk : Out, valid while ``active``; shift : Out, the array's next row please
    ending : Out, only for DRQ, whose tiles end when they like: ``active`` for the last time
    fault : Out, ``sdp.program.Error``
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(layer_layout(config)),
            "captured": In(1),
            "active": Out(1),
            "chunk": Out(chunk_layout(config)),
            "shift": Out(1),
            "fault": Out(4),
            **({"ending": Out(1)} if config.array == "drq" else {}),
        })

    def elaborate(self, platform):
        m = Module()
        config, layer, chunk = self.config, self.layer, self.chunk
        ports, rows, outputs = config.ports, config.rows, config.outputs
        chunks_per_word = config.word // outputs
        wide = wide_address(config)
        index = Signal.like(chunk.index)
        pooling = Signal()
        m.d.comb += pooling.eq(layer.kind != Kind.CONV)

        last_index, last_slot = Signal.like(chunk.index), Signal(range(rows))
        span = Mux(pooling, 1, ports)
        m.d.comb += [
            last_index.eq(Mux(pooling, chunks_per_word, Mux(layer.w4, config.block(True) // outputs, config.block(False) // outputs)) - 1),
            last_slot.eq(Mux(pooling, 0, rows - 1)),
        ]

        # Where in the image.
        slot, in_strip = Signal(range(rows)), Signal(range(ports))
        x, y = Signal(bits_for(SIZE_MAX) + 1), Signal(bits_for(SIZE_MAX))
        pixel, image_done = Signal(wide), Signal()
        in_image, strip_ends, row_ends, image_ends = Signal(), Signal(), Signal(), Signal()
        pixel_ends, tile_ends = Signal(), Signal()
        m.d.comb += [
            in_image.eq(~image_done & (x + in_strip < layer.out_w)),
            strip_ends.eq(pooling | (in_strip == ports - 1)),
            row_ends.eq(x + span >= layer.out_w),
            image_ends.eq(image_done | (strip_ends & row_ends & (y == layer.out_h - 1))),
            pixel_ends.eq(index == last_index),
            tile_ends.eq(pixel_ends & (slot == last_slot)),
        ]

        # Where in the channels: of this chunk, and of the block's first.
        channel_layout = data.StructLayout({
            "channel": bits_for(CHANNELS_MAX + 2 * max(config.block(True), config.word)), "position": chunk.position.shape(),
            "plane": wide, "scale": bits_for(config.scale_words - 1) + bits_for(CHANNELS_MAX)})
        here, block, after = (Signal(channel_layout, name=n) for n in ("here", "block", "after"))
        word_ends = Signal()
        m.d.comb += [
            word_ends.eq(here.position == chunks_per_word - 1),
            after.channel.eq(here.channel + outputs),
            after.position.eq(Mux(word_ends, 0, here.position + 1)),
            after.plane.eq(here.plane + Mux(word_ends, layer.out_plane, 0)),
            after.scale.eq(here.scale + 1),
        ]

        out_address, residual_address = Signal(wide), Signal(wide)
        m.d.comb += [
            out_address.eq(layer.out_base + here.plane + pixel),
            residual_address.eq(layer.residual_base + here.plane + pixel),
            chunk.index.eq(index),
            chunk.position.eq(here.position),
            chunk.write.eq(self.active & in_image & (here.channel < layer.out_channels)),
            chunk.address.eq(out_address),
            chunk.residual_address.eq(residual_address),
            chunk.scale_address.eq(here.scale),
            chunk.done.eq(self.active & tile_ends & image_ends & (after.channel >= layer.out_channels)),
            self.shift.eq(self.active & pixel_ends & ~pooling),
        ]
        bits = address_bits(config)
        with m.If(chunk.write):
            with m.If(out_address[bits:].any() | (layer.residual & (residual_address[bits - 1 :] != layer.residual_base[-1]))):
                m.d.comb += self.fault.eq(Error.ADDRESS)
            with m.Elif(here.scale >= config.scale_words):
                m.d.comb += self.fault.eq(Error.SCALE_ADDRESS)

        if config.array == "drq":
            m.d.comb += self.ending.eq(self.active & tile_ends)
        with m.If(self.active):
            m.d.sync += [index.eq(index + 1), here.eq(after)]
            with m.If(pixel_ends):
                m.d.sync += [index.eq(0), here.eq(block), slot.eq(slot + 1), pixel.eq(pixel + in_image), in_strip.eq(in_strip + 1)]
                with m.If(strip_ends):
                    m.d.sync += [in_strip.eq(0), x.eq(x + span), image_done.eq(image_ends)]
                    with m.If(row_ends):
                        m.d.sync += [x.eq(0), y.eq(y + 1)]
            with m.If(tile_ends):
                m.d.sync += [slot.eq(0), self.active.eq(0)]
                with m.If(image_ends):
                    m.d.sync += [x.eq(0), y.eq(0), pixel.eq(0), image_done.eq(0), here.eq(after), block.eq(after)]
        with m.If(self.captured):
            m.d.sync += self.active.eq(1)
        with m.If(self.start):
            m.d.sync += [s.eq(0) for s in (index, slot, in_strip, x, y, pixel, image_done)]
            for place in (here, block):
                m.d.sync += [place.channel.eq(0), place.position.eq(0), place.plane.eq(0), place.scale.eq(layer.scale_base)]
        return m
