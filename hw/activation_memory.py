"""Activation memory: two halves of ``ports`` banks each; the read crossbar."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.types import address_bits, read_layout, word_layout
from sdp.config import Config


def word_memory(m: Module, name: str, width: int, depth: int, granularity: int) -> tuple[Any, Any]:
    """Read port and write port; a bit of ``write.en`` is for ``granularity`` bits. What is written while it is read is not needed."""
    memory = m.submodules[name] = Memory(shape=width, depth=depth, init=[])
    read, write = memory.read_port(), memory.write_port(granularity=granularity)  # their names are those of the signals
    return read, write


def multiplex(m: Module, name: str, words: list[Value], number: Value) -> Value:
    """The word of this number."""
    word = Signal(len(words[0]), name=name)
    with m.Switch(number):
        for n, candidate in enumerate(words):
            with m.Case(n):
                m.d.comb += word.eq(candidate)
    return word


class ActivationMemory(wiring.Component):
    """Words of ``lanes * group`` bytes; ``address % ports`` is the bank, the top address bit the half.

    A read fetches up to ``ports`` words of distinct banks; who asks sees to it that they are distinct. The residual operand is read
    through the other half's ports, so neither ever waits for the other: a layer's input and its residual lie in different halves.

    Latency: data of a read one cycle later.

    Members
    -------
    read : In, ``ports`` addresses and which of them are valid
    data : Out, ``ports`` words; zero where the read was not valid
    residual_valid, residual_address : In; residual_data : Out, a word
    write_mask : In, one bit per ``outputs`` codes; write_address, write_data : In
    reads, writes : Out, banks that were read and parts of a word that were written in the cycle before, for the counters
    """

    latency = 1

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "read": In(read_layout(config)),
            "data": Out(data.ArrayLayout(word_layout(config), config.ports)),
            "residual_valid": In(1),
            "residual_address": In(address_bits(config)),
            "residual_data": Out(word_layout(config)),
            "write_mask": In(config.word // config.outputs),
            "write_address": In(address_bits(config)),
            "write_data": In(word_layout(config)),
            "reads": Out(bits_for(2 * config.ports)),
            "writes": Out(bits_for(config.word // config.outputs)),
        })

    def elaborate(self, platform):
        m = Module()
        ports, width = self.config.ports, self.config.stream_bits
        # A platform may have better for its device: `synth.ecp5.platform`.
        memory, choose = getattr(platform, "word_memory", word_memory), getattr(platform, "multiplex", multiplex)
        bank_bits = bits_for(ports - 1) if ports > 1 else 0

        def split(address):
            """(bank, row, half) of an address."""
            return address[:bank_bits], address[bank_bits:-1], address[-1]

        outputs, enables = [], []
        for half in range(2):
            for bank in range(ports):
                read, write = memory(m, f"half_{half}_bank_{bank}", width, self.config.activation_words // 2 // ports, 8 * self.config.outputs)
                m.d.comb += read.en.eq(0)  # a port that says nothing reads all the time
                for port in range(ports):
                    at_bank, at_row, at_half = split(self.read.address[port])
                    with m.If(self.read.valid[port] & (at_half == half) & (at_bank == bank if bank_bits else 1)):
                        m.d.comb += [read.addr.eq(at_row), read.en.eq(1)]
                at_bank, at_row, at_half = split(self.residual_address)
                with m.If(self.residual_valid & (at_half == half) & (at_bank == bank if bank_bits else 1)):
                    m.d.comb += [read.addr.eq(at_row), read.en.eq(1)]
                at_bank, at_row, at_half = split(self.write_address)
                m.d.comb += [
                    write.addr.eq(at_row),
                    write.data.eq(self.write_data),
                    write.en.eq(Mux((at_half == half) & (at_bank == bank if bank_bits else 1), self.write_mask, 0)),
                ]
                outputs.append(read.data)
                enables.append(read.en)
        m.d.sync += [self.reads.eq(sum(enables)), self.writes.eq(sum(self.write_mask))]

        def select(address, name):
            """The word that a read of ``address`` in the last cycle brought."""
            chosen = Signal(bank_bits + 1, name=f"chosen_{name}")
            m.d.sync += chosen.eq(address[:bank_bits] | address[-1] << bank_bits)
            return choose(m, f"word_{name}", outputs, chosen)

        for port in range(ports):
            valid = Signal(name=f"valid_{port}")
            m.d.sync += valid.eq(self.read.valid[port])
            m.d.comb += self.data[port].eq(Mux(valid, select(self.read.address[port], f"{port}"), 0))
        m.d.comb += self.residual_data.eq(select(self.residual_address, "residual"))
        return m
