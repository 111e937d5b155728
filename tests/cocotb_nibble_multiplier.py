"""All products of a term and a digit."""

import itertools

import cocotb
import numpy as np
from cocotb.triggers import Timer

from golden.weights import digit_value


@cocotb.test()
async def every_product(dut):
    value_port, high_port, nibble_port, flag_port, product_port = (
        getattr(dut, f"nibble_multiplier__{name}") for name in ("value", "high", "nibble", "flag", "product"))
    count = 0
    for value, high, nibble, flag in itertools.product(range(-15, 16), (0, 1), range(-8, 8), (0, 1)):
        value_port.value, high_port.value, nibble_port.value, flag_port.value = value % 32, high, nibble % 16, flag
        await Timer(1, "ns")
        expected = value * 16**high * int(digit_value(np.array(nibble), np.array(flag)))
        assert int(product_port.value) == expected % (1 << 14), f"{value} high {high} times {nibble} flag {flag}: expected {expected}"
        count += 1
    assert count == 31 * 2 * 16 * 2
