"""All products of a term and a digit."""

import itertools

import cocotb
import numpy as np
from cocotb.triggers import Timer

from golden.weights import decode_digit


@cocotb.test()
async def every_product(dut):
    magnitude_port, negative_port, high_port, digit_port, product_port, carry_port = (
        getattr(dut, f"nibble_multiplier__{name}") for name in ("magnitude", "negative_term", "high", "digit", "product", "negative"))
    worth = decode_digit(np.arange(32, dtype=np.uint8)).tolist()
    count = 0
    for magnitude, negative, high, digit in itertools.product(range(16), (0, 1), (0, 1), range(32)):
        magnitude_port.value, negative_port.value, high_port.value, digit_port.value = magnitude, negative, high, digit
        await Timer(1, "ns")
        expected = (-1) ** negative * magnitude * 16**high * worth[digit]
        product = int(product_port.value)
        seen = product - (product >> 13 << 14) + int(carry_port.value)
        assert seen == expected, f"{magnitude} negative {negative} high {high} times digit {digit}: expected {expected}, not {seen}"
        count += 1
    assert count == 16 * 2 * 2 * 32
