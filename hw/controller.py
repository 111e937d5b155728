"""Controller: the loops of a layer (output-channel block, tile, kernel row, kernel column, channel word) as reads and steps."""

from amaranth import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from golden import cycles
from hw.types import layer_layout, read_layout, wide_address
from sdp.config import STRIDE_MAX, Config
from sdp.program import CHANNELS_MAX, SIZE_MAX, Error, Kind


def step_layout(config: Config) -> data.StructLayout:
    """A reduction step whose operands are complete: does it begin or end a tile, and where its weights lie."""
    return data.StructLayout({"valid": 1, "first": 1, "last": 1, "weight_address": bits_for(config.weight_words - 1)})


def beat_layout(config: Config) -> data.StructLayout:
    """Where the words of a read belong: ``rows`` of strip ``strip``; ``tail``: they end the channels;
    ``inside``: the first of them lies in the image."""
    return data.StructLayout({"rows": config.ports, "strip": max(1, bits_for(config.rows // config.ports - 1)), "tail": 1, "inside": 1})


def mask_layout(config: Config) -> data.StructLayout:
    """A read of the mask memory."""
    return data.StructLayout({"valid": 1, "address": bits_for(config.mask_words - 1)})


class Controller(wiring.Component):
    """Issues the reads of a layer and says when a step's operands are complete.

    Output pixels come in strips of ``ports`` neighbours of one output row; a tile is ``rows / ports`` strips, in a queue whose
    head is read, beat by beat. A walker generates strips in row order and the queue takes the next tile's while the last step of
    the present one leaves, so tiles follow each other without a gap. On the channel unit a strip and a tile are one pixel.

    A strip's read takes ``gcd(stride, ports)`` beats, because that many of its pixels share a bank. A step lasts ``budget`` cycles or its
    beats, whichever is more. The last step of a tile waits until the output stage has taken over the tile before.

    Contract: ``start`` with ``layer`` valid and then stable. ``read`` goes to the activation memory; ``beat`` and ``step``
    stand in the cycle in which the read's data is there.

    Members
    -------
    start : In; layer : In
    read : Out, addresses of this cycle's words
    ahead : Out, what ``step`` will be in the next cycle
    beat, step : Out
    fault : Out, ``sdp.program.Error``, NONE while all is well: an address past a memory, or a reduction too long

    For DRQ, whose array takes its time and says itself when a tile ends, instead of budgets and the wait for the output stage:

    stall : In, no convolution's read is issued in this cycle
    mask : Out, the read of the masks of the word that ``read`` names
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "start": In(1),
            "layer": In(layer_layout(config)),
            "read": Out(read_layout(config)),
            "beat": Out(beat_layout(config)),
            "step": Out(step_layout(config)),
            "ahead": Out(step_layout(config)),
            "fault": Out(4),
            **({"stall": In(1), "mask": Out(mask_layout(config))} if config.array == "drq" else {}),
        })

    def _step(self, beats):
        """Cycles of a convolution's step."""
        return beats if self.config.array == "drq" else Mux(self.layer.budget > beats, self.layer.budget, beats)

    def _waits(self, drain):
        """Whether the present cycle is repeated; ``drain``: the tile must wait for the one before to be drained."""
        return Mux(self.layer.kind == Kind.CONV, self.stall, drain) if self.config.array == "drq" else drain

    def elaborate(self, platform):
        m = Module()
        config, layer, drq = self.config, self.layer, self.config.array == "drq"
        ports, queue_length = config.ports, config.rows // config.ports
        wide, coordinate = wide_address(config), signed(bits_for(SIZE_MAX * STRIDE_MAX) + 2)
        pooling, weighted = Signal(), Signal()
        m.d.comb += [pooling.eq(layer.kind != Kind.CONV), weighted.eq((layer.kind == Kind.CONV) | (layer.kind == Kind.DEPTHWISE))]

        # Constants of the layer.
        span = Signal(range(ports + 1))
        pitch, origin = Signal(wide), Signal(wide)
        gcd = Array(cycles.beats(config, s or 1) // queue_length for s in range(8))[layer.stride_w]
        last_beat_of_strip = Signal(range(ports))
        last_beat = Signal(range(queue_length * ports))
        last_cycle = Signal(range(max(2 * config.group, queue_length * ports)))
        drain = Signal(range(max(cycles.drain(config, k, True) for k in Kind)))
        m.d.comb += span.eq(Mux(pooling, 1, ports))
        constants = [
            pitch.eq(layer.in_w * layer.stride_h),
            origin.eq(-(layer.in_w * layer.pad_top + layer.pad_left)),
            last_beat_of_strip.eq(Mux(pooling, 0, gcd - 1)),
            last_beat.eq(Mux(pooling, 0, gcd * queue_length - 1)),
            last_cycle.eq(Mux(pooling, 0, self._step(gcd * queue_length) - 1)),
            drain.eq(Mux(pooling, cycles.drain(config, Kind.SUM, False),
                         Mux(layer.w4, cycles.drain(config, Kind.CONV, True), cycles.drain(config, Kind.CONV, False))) - 1),
        ]

        # The walker: strips in row order; after the last one of the image, empty ones up to the end of the tile.
        strip_layout = data.StructLayout({"valid": 1, "last": 1, "x": bits_for(SIZE_MAX) + 1, "in_x": coordinate, "in_y": coordinate, "address": wide})
        walker, is_last = Signal(strip_layout), Signal()
        row_address, row = Signal(wide), Signal(bits_for(SIZE_MAX))
        slot = Signal(range(queue_length + 1))
        first_strip = [
            walker.valid.eq(1), walker.x.eq(0), row.eq(0), slot.eq(0),
            walker.in_x.eq(-layer.pad_left), walker.in_y.eq(-layer.pad_top), walker.address.eq(origin), row_address.eq(origin),
        ]
        row_ends, image_ends, tile_ends = Signal(), Signal(), Signal()
        m.d.comb += [
            row_ends.eq(walker.x + span >= layer.out_w),
            image_ends.eq(~walker.valid | (row_ends & (row == layer.out_h - 1))),
            tile_ends.eq(pooling | (slot == queue_length - 1)),
            is_last.eq(walker.valid & image_ends),
        ]

        def advance():
            m.d.sync += slot.eq(Mux(tile_ends, 0, slot + 1))
            with m.If(image_ends):
                m.d.sync += walker.valid.eq(0)
                with m.If(tile_ends):
                    m.d.sync += first_strip
            with m.Elif(row_ends):
                m.d.sync += [
                    row.eq(row + 1), row_address.eq(row_address + pitch), walker.address.eq(row_address + pitch), walker.x.eq(0),
                    walker.in_x.eq(-layer.pad_left), walker.in_y.eq(walker.in_y + layer.stride_h),
                ]
            with m.Else():
                m.d.sync += [
                    walker.x.eq(walker.x + span),
                    walker.in_x.eq(walker.in_x + Mux(pooling, layer.stride_w, layer.stride_w * ports)),
                    walker.address.eq(walker.address + Mux(pooling, layer.stride_w, layer.stride_w * ports)),
                ]

        queue = Signal(data.ArrayLayout(strip_layout, queue_length))

        def shift(last):
            m.d.sync += [queue[n].eq(queue[n + 1]) for n in range(queue_length - 1)]
            m.d.sync += queue[queue_length - 1].eq(last)

        def take_strip():
            """The walker's strip becomes the queue's last."""
            shift(walker)
            m.d.sync += queue[queue_length - 1].last.eq(is_last)
            advance()

        # Loop counters. `offset` is the address of the present kernel tap and channel word relative to a strip's first.
        kernel_y, kernel_x = Signal.like(layer.kernel_h), Signal.like(layer.kernel_w)
        word = Signal.like(layer.in_words)
        cycle, beat, strip, beat_of_strip = Signal.like(last_cycle), Signal.like(last_beat), Signal(range(queue_length)), Signal.like(last_beat_of_strip)
        block_address, row_offset, tap_offset, offset = (Signal(wide, name=n) for n in ("block_address", "row_offset", "tap_offset", "offset"))
        channel = Signal(bits_for(CHANNELS_MAX + 2 * max(config.block(True), config.word)))
        block_weights, weights = (Signal(bits_for(config.weight_words) + 1, name=n) for n in ("block_weights", "weights"))
        steps = Signal(range(config.steps_max + 1))
        drain_left = Signal.like(drain)
        word_ends, x_ends, y_ends, tile_last_step, first_step = (Signal(name=n) for n in ("word_ends", "x_ends", "y_ends", "tile_last_step", "first_step"))
        m.d.comb += [
            word_ends.eq(pooling | (word == layer.in_words - 1)),
            x_ends.eq(kernel_x == layer.kernel_w - 1),
            y_ends.eq(kernel_y == layer.kernel_h - 1),
            tile_last_step.eq(word_ends & x_ends & y_ends),
            first_step.eq((kernel_x == 0) & (kernel_y == 0) & (pooling | (word == 0))),
        ]
        held_image_last, image_last = Signal(), Signal()
        m.d.comb += image_last.eq(Mux(cycle == 0, Mux(pooling, queue[0].last, Cat(queue[n].last for n in range(queue_length)).any()), held_image_last))
        reading, complete, wait, issue = Signal(), Signal(), Signal(), Signal()

        # The pipeline: addresses are registered, then the memory is read; what goes with the data follows two cycles behind.
        beat_1, step_1 = Signal(beat_layout(config)), Signal(step_layout(config))
        wide_addresses = Signal(data.ArrayLayout(wide, ports))
        valid = Signal(ports)
        residual, half = layer.residual, layer.in_base[-1]
        m.d.sync += [self.beat.eq(beat_1), self.beat.inside.eq(valid[0]), self.step.eq(step_1), beat_1.rows.eq(0), step_1.valid.eq(0), valid.eq(0)]
        m.d.comb += [self.read.valid.eq(valid), self.ahead.eq(step_1)]
        outside = Signal(ports)
        for port in range(ports):
            address = wide_addresses[port]
            m.d.comb += [
                self.read.address[port].eq(address[: len(layer.in_base)]),
                outside[port].eq(valid[port] & (address[len(layer.in_base):].any() | (residual & (address[len(layer.in_base) - 1] != half)))),
            ]
        if drq:
            # Masks: the region and the word with the address of the codes, its place in memory with their read.
            region_y, region_x, mask_word, mask_plane = (Signal(bits_for(SIZE_MAX) if name[0] == "r" else self.mask.address.shape(), name=name)
                                                         for name in ("region_y", "region_x", "mask_word", "mask_plane"))
            m.d.comb += [self.mask.valid.eq(valid[0] & layer.masked & ~pooling),
                         self.mask.address.eq(layer.mask_base + mask_plane + region_y * layer.mask_pitch + region_x)]
        too_long, past_weights = Signal(), Signal()
        m.d.sync += [too_long.eq(issue & ~pooling & (steps == config.steps_max)),
                     past_weights.eq(issue & complete & weighted & (weights >= config.weight_words))]
        with m.If(too_long):
            m.d.comb += self.fault.eq(Error.REDUCTION)
        with m.Elif(past_weights):
            m.d.comb += self.fault.eq(Error.WEIGHT_ADDRESS)
        with m.Elif(outside.any()):
            m.d.comb += self.fault.eq(Error.ADDRESS)

        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.next = "constants"
            with m.State("constants"):
                m.d.sync += [*constants, *first_strip, walker.address.eq(-(layer.in_w * layer.pad_top + layer.pad_left)),
                             row_address.eq(-(layer.in_w * layer.pad_top + layer.pad_left))]
                m.d.sync += [s.eq(0) for s in (kernel_y, kernel_x, word, cycle, beat, strip, beat_of_strip, channel, steps, drain_left)]
                if drq:
                    m.d.sync += mask_word.eq(0)
                m.d.sync += [s.eq(layer.in_base) for s in (block_address, row_offset, tap_offset, offset)]
                m.d.sync += [block_weights.eq(layer.weight_base), weights.eq(layer.weight_base)]
                m.next = "fill"
            with m.State("fill"):
                take_strip()
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == queue_length - 1):
                    m.d.sync += beat.eq(0)
                    m.next = "run"
            with m.State("run"):
                m.d.comb += [
                    reading.eq(cycle <= last_beat),
                    complete.eq(cycle == last_beat),
                    wait.eq(self._waits(complete & tile_last_step & (drain_left != 0))),
                    issue.eq(reading & ~wait),
                ]
                with m.If(cycle == 0):
                    m.d.sync += held_image_last.eq(image_last)
                with m.If(drain_left != 0):
                    m.d.sync += drain_left.eq(drain_left - 1)
                with m.If(issue):
                    head = queue[0]
                    in_y = Signal(coordinate)
                    m.d.comb += in_y.eq(head.in_y + kernel_y)
                    for port in range(ports):
                        active, in_x = Signal(name=f"active_{port}"), Signal(coordinate, name=f"in_x_{port}")
                        turn = Array(port * (cycles.beats(config, s or 1) // queue_length) // ports for s in range(8))[layer.stride_w]
                        m.d.comb += [
                            active.eq(Mux(pooling, port == 0, turn == beat_of_strip)),
                            in_x.eq(head.in_x + kernel_x + layer.stride_w * port),
                        ]
                        m.d.sync += [
                            beat_1.rows[port].eq(active),
                            valid[port].eq(active & head.valid & (head.x + port < layer.out_w)
                                           & (in_y >= 0) & (in_y < layer.in_h) & (in_x >= 0) & (in_x < layer.in_w)),
                            wide_addresses[port].eq(head.address + offset + layer.stride_w * port),
                        ]
                    if drq:
                        m.d.sync += [region_y.eq(in_y >> layer.region_h), region_x.eq(in_x >> layer.region_w), mask_plane.eq(mask_word)]
                    m.d.sync += [
                        beat_1.strip.eq(strip), beat_1.tail.eq(~pooling & word_ends),
                        step_1.valid.eq(complete), step_1.first.eq(first_step), step_1.last.eq(tile_last_step), step_1.weight_address.eq(weights),
                        beat_of_strip.eq(beat_of_strip + 1),
                    ]
                    with m.If(beat_of_strip == last_beat_of_strip):
                        m.d.sync += [beat_of_strip.eq(0), strip.eq(strip + 1)]
                        with m.If(tile_last_step):
                            take_strip()
                        with m.Elif(~pooling):
                            shift(queue[0])
                    with m.If(complete):
                        m.d.sync += strip.eq(0)
                        with m.If(tile_last_step):
                            m.d.sync += drain_left.eq(drain)
                with m.If(~wait):
                    m.d.sync += cycle.eq(cycle + 1)
                    with m.If(cycle == last_cycle):
                        m.d.sync += [cycle.eq(0), word.eq(word + 1), weights.eq(weights + 1), steps.eq(steps + 1),
                                     offset.eq(offset + layer.in_plane)]
                        if drq:
                            m.d.sync += mask_word.eq(Mux(word_ends, 0, mask_word + layer.mask_plane))
                        with m.If(word_ends):
                            m.d.sync += [word.eq(0), kernel_x.eq(kernel_x + 1), tap_offset.eq(tap_offset + 1), offset.eq(tap_offset + 1)]
                            with m.If(x_ends):
                                below = Signal(wide)
                                m.d.comb += below.eq(row_offset + layer.in_w)
                                m.d.sync += [kernel_x.eq(0), kernel_y.eq(kernel_y + 1), *(s.eq(below) for s in (row_offset, tap_offset, offset))]
                        with m.If(tile_last_step):
                            base = Signal(wide)
                            m.d.comb += base.eq(block_address + Mux(image_last & pooling, layer.in_plane, 0))
                            m.d.sync += [kernel_y.eq(0), steps.eq(0), weights.eq(block_weights), *(s.eq(base) for s in (block_address, row_offset, tap_offset, offset))]
                            with m.If(image_last):
                                size = Mux(pooling, config.word, Mux(layer.w4, config.block(True), config.block(False)))
                                m.d.sync += [weights.eq(weights + 1), block_weights.eq(weights + 1), channel.eq(channel + size)]
                                with m.If(channel + size >= layer.out_channels):
                                    m.next = "idle"
        return m
