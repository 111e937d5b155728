"""Memory whose words are wider than a stream beat: written a beat at a time, read whole."""

from amaranth import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for


class StreamMemory(wiring.Component):
    """Weights and scales. One physical memory per beat of a word, so that no write needs a mask, and a reader of few beats need not pay for all.

    Contract: ``data`` is the word of the last cycle with ``read_enable``, from the next cycle on, and keeps it until the next read:
    the memory's output is the operand register of what reads it. With ``read_few`` that holds for the first ``few`` beats only; the others keep
    what they had.

    Members
    -------
    write_enable : In; write_address : In, word; write_beat : In, beat within the word; write_data : In, a stream beat
    read_enable, read_few, read_address : In; data : Out, ``width`` bits
    reads : Out, beats that this cycle reads
    """

    def __init__(self, *, width: int, depth: int, beat: int, few: int = 0):
        self.width, self.depth, self.beat = width, depth, beat
        self.beats = -(-width // beat)
        self.few = few or self.beats
        super().__init__({
            "write_enable": In(1),
            "write_address": In(bits_for(depth - 1)),
            "write_beat": In(bits_for(self.beats - 1)),
            "write_data": In(beat),
            "read_enable": In(1),
            "read_few": In(1),
            "read_address": In(bits_for(depth - 1)),
            "data": Out(width),
            "reads": Out(bits_for(self.beats)),
        })

    def elaborate(self, platform):
        m = Module()
        parts = []
        for n in range(self.beats):
            width = min(self.beat, self.width - n * self.beat)
            memory = m.submodules[f"memory_{n}"] = Memory(shape=width, depth=self.depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data[:width]),
                write.en.eq(self.write_enable & (self.write_beat == n)),
                read.addr.eq(self.read_address),
                read.en.eq(self.read_enable & ~self.read_few if n >= self.few else self.read_enable),
            ]
            parts.append(read.data)
        m.d.comb += [self.data.eq(Cat(*parts)), self.reads.eq(Mux(self.read_enable, Mux(self.read_few, self.few, self.beats), 0))]
        return m
