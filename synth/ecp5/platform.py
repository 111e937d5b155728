"""Amaranth platform of the ECP5: what processing elements are made of where the device's own cells do better than what synthesis finds."""

from typing import Any

from amaranth import Cat, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory, ReadPort, WritePort

from synth.ecp5.carry_chain import ADD, ADD_PRODUCTS, ADD_UNLESS, carry_chain

_JOINING = [
    lambda low, high, select, out: Instance("LUT4", p_INIT=Const(0xCACA, 16), i_A=low, i_B=high, i_C=select, i_D=Const(0, 1), o_Z=out),
    lambda low, high, select, out: Instance("PFUMX", i_BLUT=low, i_ALUT=high, i_C0=select, o_Z=out),
    lambda low, high, select, out: Instance("L6MUX21", i_D0=low, i_D1=high, i_SD=select, o_Z=out),
]
"""Multiplexers of two, of LUTs, of pairs of LUTs and of pairs of those."""


class Ecp5:
    """Its methods stand in for the functions of the same name in ``hw``, and compute the same."""

    def word_memory(self, m: Module, name: str, width: int, depth: int, granularity: int) -> tuple[Any, Any]:
        """A memory for every part that is written whole: no block RAM then has a word read, and needed, while some of it is written."""
        address_bits = (depth - 1).bit_length()
        read, write = (port.Signature(addr_width=address_bits, shape=width, **more).create()
                       for port, more in ((ReadPort, {}), (WritePort, {"granularity": granularity})))
        for i, part in enumerate(range(0, width, granularity)):
            memory = m.submodules[f"{name}_{i}"] = Memory(shape=granularity, depth=depth, init=[])
            reading, writing = memory.read_port(), memory.write_port()
            m.d.comb += [
                reading.addr.eq(read.addr), reading.en.eq(read.en), read.data[part : part + granularity].eq(reading.data),
                writing.addr.eq(write.addr), writing.en.eq(write.en[i]), writing.data.eq(write.data[part : part + granularity]),
            ]
        return read, write

    def times(self, m: Module, name: str, a: Value, b: Value) -> Value:
        """``a * b``, unsigned: two bits of ``b`` to a row of carry cells, whose LUTs also make their partial products."""
        total, below = Const(0, 0), Const(0, 0)  # of the rows so far: the bits that further ones add to, and those below
        for i in range(0, len(b), 2):
            pair = b[i : i + 2]
            upper = (Cat(Const(0, 1), a), Cat(Const(0, 1), pair[1].replicate(len(a)), Const(0, 1))) if len(pair) == 2 else ()
            row = carry_chain(m, f"{name}_row_{i}", ADD_PRODUCTS, Cat(a, Const(0, 1)), pair[0].replicate(len(a)), *upper)
            total = carry_chain(m, f"{name}_sum_{i}", ADD, total, row) if i else row
            below, total = Cat(below, total[: len(pair)]), total[len(pair) :]
        return Cat(below, total)

    def multiplex(self, m: Module, name: str, words: list[Value], number: Value) -> Value:
        """The word of this number, some word where there is none: LUTs and the cells that join them to wider ones.

        A bit of eight words is four LUTs with 15 wires; synthesis makes it of eight, as a sum of products of the decoded number.
        """
        words = [*words, *[Const(0, len(words[0]))] * ((1 << len(number)) - len(words))]
        return Cat(self._multiplexer(m, f"{name}_{i}", [word[i] for word in words], number) for i in range(len(words[0])))

    def select(self, m: Module, name: str, words: list[Value], chosen: Value) -> Value:
        """The word whose bit of ``chosen`` is set, some word if none is: by its number."""
        return self.multiplex(m, name, words, Cat(Cat(chosen[i] for i in range(len(words)) if i >> level & 1).any()
                                                  for level in range((len(words) - 1).bit_length())))

    def _multiplexer(self, m, name, bits, number):
        for level, select in enumerate(number):
            after = []
            for i in range(0, len(bits), 2):
                out = Signal(name=f"{name}_{level}_{i}")
                if level < len(_JOINING):
                    m.submodules[f"{name}_{level}_{i}"] = _JOINING[level](bits[i], bits[i + 1], select, out)
                else:
                    m.d.comb += out.eq(Mux(select, bits[i + 1], bits[i]))
                after.append(out)
            bits = after
        return bits[0]

    def accumulate(self, m: Module, name: str, before: Value, first: Value, step: Value, carry: Value) -> Value:
        """``step + carry``, plus ``before`` unless ``first``: carry cells mask ``before`` themselves."""
        step = step.as_signed()
        step = Cat(step, step[-1].replicate(len(before) - len(step)))
        return carry_chain(m, name, ADD_UNLESS, Cat(carry, step), Cat(carry, before), Cat(Const(0, 1), first.replicate(len(before))))[1:]
