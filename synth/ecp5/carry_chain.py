"""Rows of the ECP5's carry cells, with a function of four inputs of our own before every bit's adder."""

from amaranth import Const, Instance, Module, Signal, Value

# A CCU2C holds two bits (Lattice FPGA-TN-02201, sysCONFIG cells; Yosys' model ccu2c_sim.vh). For each: the sum is the carry exclusive-or the LUT of A, B,
# C and D; the carry out is the carry in where the LUT is 1, else the LUT's function of A and B where C and D are 0. The LUT's bit i is its value for
# A + 2 B + 4 C + 8 D = i.
ADD = 0x66AA
"""A + B; D must be 1."""
ADD_UNLESS = 0xA6AA
"""A + B where C is 0, else A; D must be 1."""
ADD_PRODUCTS = 0x7888
"""A B + C D."""


def carry_chain(m: Module, name: str, function: int, *operands: Value) -> Value:
    """The sum, as wide as the widest of ``operands``: A, B and, where the function takes them, C and D; the others' upper bits are 0.

    Without a carry input: a caller that has one lengthens A and B downwards by a bit.
    """
    bits = max(len(operand) for operand in operands)
    a, b, c, d = [*operands, *[Const(0, 0)] * (3 - len(operands)), *[Const((1 << bits) - 1, bits)] * (len(operands) < 4)][:4]
    total, carry = Signal(bits + bits % 2, name=name), Const(0, 1)
    for i in range(0, bits, 2):
        following = Signal(name=f"{name}_carry_{i}")
        m.submodules[f"{name}_{i}"] = Instance(
            "CCU2C", p_INIT0=Const(function, 16), p_INIT1=Const(function, 16), p_INJECT1_0="NO", p_INJECT1_1="NO", i_CIN=carry, o_COUT=following,
            **{f"i_{letter}{half}": operand[i + half : i + half + 1] if i + half < len(operand) else Const(0, 1)
               for letter, operand in zip("ABCD", (a, b, c, d)) for half in (0, 1)},
            **{f"o_S{half}": total[i + half] for half in (0, 1)})
        carry = following
    return total[:bits]
