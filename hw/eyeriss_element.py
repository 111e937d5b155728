"""One element of Eyeriss: scratch pads, a multiplier of two stages that zeros do not wake, an adder, and their control. Sources:
``golden.eyeriss_element``."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.eyeriss_element import LATENCY
from golden.eyeriss_mapping import FILTER_WORDS, IFMAP_WORDS, PSUM_WORDS

BITS = 16


class GatedMultiplier(wiring.Component):
    """``product = a * b`` of the last cycle with ``enable``, 32 bits: products with both halves of ``b`` are held, then added. Without
    ``enable`` nothing switches."""

    def __init__(self):
        super().__init__({"a": In(signed(BITS)), "b": In(signed(BITS)), "enable": In(1), "product": Out(signed(2 * BITS))})

    def elaborate(self, platform):
        m = Module()
        half = BITS // 2
        low, high = Signal(signed(BITS + half + 1), reset_less=True), Signal(signed(BITS + half), reset_less=True)
        with m.If(self.enable):
            m.d.sync += [low.eq(self.a * self.b[:half]), high.eq(self.a * self.b[half:].as_signed())]
        m.d.comb += self.product.eq(low + (high << half))
        return m


class EyerissElement(wiring.Component):
    """A row of ``filters`` filters over a row of ifmaps: ``golden.eyeriss_element.rows``, in ``golden.eyeriss_element.cycles``.

    Each ifmap word of a window meets all filters before the next one does. A zero word takes its cycles, but reads no filter and multiplies
    nothing.

    Contract: ``start`` empties the pads, once all psums have left; ``window``, ``filters`` and ``step`` stand still from then on. Filters come
    first, one word per cycle with ``filter_valid``, all filters' first words first. ``ifmap`` and ``psum`` are taken in cycles with both their
    ``valid`` and ``ready``; a psum per filter and window, filters in order, in which order ``out`` leaves, too, without waiting for anyone. ``1
    <= step <= window <= 12``, ``filters <= 24``.

    Latency: four cycles from a word's last address to ``out``. Throughput: a product per cycle.

    Parameters
    ----------
    fraction : lower bits of a product that are cut, 0 ... 16

    Members
    -------
    window, step : In, words; filters : In; start : In
    filter, filter_valid : In
    ifmap, ifmap_valid : In; ifmap_ready : Out
    psum, psum_valid : In; psum_ready : Out
    out, out_valid : Out; words are two's complement
    """

    latency = LATENCY

    def __init__(self, *, fraction: int = 8):
        if not 0 <= fraction <= BITS:
            raise ValueError(f"fraction must be 0 ... {BITS}, not {fraction}")
        self.fraction = fraction
        super().__init__({
            "window": In(range(IFMAP_WORDS + 1)), "step": In(range(IFMAP_WORDS + 1)), "filters": In(range(PSUM_WORDS + 1)), "start": In(1),
            "filter": In(signed(BITS)), "filter_valid": In(1), "ifmap": In(signed(BITS)), "ifmap_valid": In(1), "ifmap_ready": Out(1),
            "psum": In(signed(BITS)), "psum_valid": In(1), "psum_ready": Out(1), "out": Out(signed(BITS)), "out_valid": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # Ifmaps and psums are registers, filters a memory, as on the chip.
        ifmaps, psums = (Signal(data.ArrayLayout(signed(BITS), words), name=name, reset_less=True) for name, words in (("ifmaps", IFMAP_WORDS), ("psums", PSUM_WORDS)))
        nonzero = Signal(IFMAP_WORDS, reset_less=True)
        m.submodules.pad = pad = Memory(shape=signed(BITS), depth=FILTER_WORDS, init=[])
        write, read = pad.write_port(), pad.read_port()

        # Control: which word of the window, which filter; where the word lies, and where the next new one will.
        busy, word, which, address = Signal(), Signal(range(IFMAP_WORDS)), Signal(range(PSUM_WORDS)), Signal(range(FILTER_WORDS))
        at, put, have, filled = Signal(range(IFMAP_WORDS)), Signal(range(IFMAP_WORDS)), Signal(range(IFMAP_WORDS + 1)), Signal(range(FILTER_WORDS + 1))
        stall, issue, last_filter, last_word, ends, begins, take, fresh = (
            Signal(name=name) for name in ("stall", "issue", "last_filter", "last_word", "ends", "begins", "take", "fresh"))
        new = Signal(range(IFMAP_WORDS + 1))

        def following(position):
            return Mux(position == self.window - 1, 0, position + 1)

        m.d.comb += [
            issue.eq(busy & ~stall), last_filter.eq(which == self.filters - 1), last_word.eq(word == self.window - 1),
            ends.eq(issue & last_filter & last_word), begins.eq((~busy | ends) & (have == self.window) & (self.window != 0)),
            # Words of the next window that have come meanwhile each took the place of one that was done with.
            new.eq(have + self.step - self.window),
            fresh.eq((word > new) | ((word == new) & issue & last_filter)),
            self.ifmap_ready.eq((have != self.window) & (~busy | fresh)), take.eq(self.ifmap_valid & self.ifmap_ready),
            write.addr.eq(filled), write.data.eq(self.filter), write.en.eq(self.filter_valid),
        ]
        with m.If(self.filter_valid):
            m.d.sync += filled.eq(filled + 1)
        with m.If(take):
            m.d.sync += [ifmaps[put].eq(self.ifmap), nonzero.bit_select(put, 1).eq(self.ifmap.any()), put.eq(following(put)), have.eq(have + 1)]
        with m.If(issue):
            m.d.sync += [address.eq(address + 1), which.eq(Mux(last_filter, 0, which + 1))]
            with m.If(last_filter):
                m.d.sync += [word.eq(word + 1), at.eq(following(at))]
        with m.If(ends):
            m.d.sync += busy.eq(0)
        with m.If(begins):
            m.d.sync += [busy.eq(1), word.eq(0), which.eq(0), address.eq(0), at.eq(put), have.eq(self.window - self.step)]
        with m.If(self.start):
            m.d.sync += [busy.eq(0), have.eq(0), put.eq(0), filled.eq(0)]

        # Addresses, then pads, half products, sum: a stage each, and all wait for a psum that has not come.
        flags = data.StructLayout({"valid": 1, "first": 1, "last": 1, "nonzero": 1, "which": range(PSUM_WORDS)})
        addressed, fetched, multiplied = (Signal(flags, name=name) for name in ("addressed", "fetched", "multiplied"))
        ifmap, ifmap_operand, filter_operand = (Signal(signed(BITS), name=name, reset_less=True) for name in ("ifmap_word", "ifmap_operand", "filter_operand"))
        wakes = Signal()
        m.d.comb += [wakes.eq(nonzero.bit_select(at, 1)), read.addr.eq(address), read.en.eq(issue & wakes)]
        with m.If(~stall):
            m.d.sync += [multiplied.eq(fetched), fetched.eq(addressed), addressed.valid.eq(issue), addressed.first.eq(word == 0),
                         addressed.last.eq(last_word), addressed.nonzero.eq(wakes), addressed.which.eq(which)]
        # The word is taken along: by the time that its filter has been read, another may have its place.
        with m.If(issue & wakes):
            m.d.sync += ifmap.eq(ifmaps[at])
        with m.If(addressed.valid & addressed.nonzero & ~stall):
            m.d.sync += [ifmap_operand.eq(ifmap), filter_operand.eq(read.data)]
        m.submodules.multiplier = multiplier = GatedMultiplier()
        m.d.comb += [multiplier.a.eq(ifmap_operand), multiplier.b.eq(filter_operand), multiplier.enable.eq(fetched.valid & fetched.nonzero & ~stall)]

        total = Signal(signed(BITS))
        done = Signal()
        m.d.comb += [
            stall.eq(multiplied.valid & multiplied.first & ~self.psum_valid), self.psum_ready.eq(multiplied.valid & multiplied.first),
            done.eq(multiplied.valid & ~stall),
            total.eq(Mux(multiplied.first, self.psum, psums[multiplied.which]) + Mux(multiplied.nonzero, multiplier.product >> self.fraction, 0)),
        ]
        with m.If(done & (multiplied.first | multiplied.nonzero)):
            m.d.sync += psums[multiplied.which].eq(total)
        m.d.sync += self.out_valid.eq(done & multiplied.last)
        with m.If(done & multiplied.last):
            m.d.sync += self.out.eq(total)
        return m
