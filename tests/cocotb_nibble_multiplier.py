"""All products of a term and a digit."""

import itertools

import cocotb
import numpy as np
from cocotb.triggers import Timer

from golden.weights import decode_digit
from hw.types import product_shape
from tests.bench import config

CONFIG = config()
WIDTH = product_shape(CONFIG).width


@cocotb.test()
async def every_product(dut):
    magnitude_port, negative_port, high_port, digit_port, product_port, carry_port = (
        getattr(dut, f"nibble_multiplier__{name}") for name in ("magnitude", "negative_term", "high", "digit", "product", "negative"))
    bits = CONFIG.array_kind.digit_bits
    worth = decode_digit(np.arange(1 << bits, dtype=np.uint8), bits).tolist()
    count = 0
    for magnitude, negative, high, digit in itertools.product(range(16), (0, 1), (0, 1), range(len(worth))):
        magnitude_port.value, negative_port.value, high_port.value, digit_port.value = magnitude, negative, high, digit
        await Timer(1, "ns")
        expected = (-1) ** negative * magnitude * 16**high * worth[digit]
        product = int(product_port.value)
        seen = product - (product >> WIDTH - 1 << WIDTH) + int(carry_port.value)
        assert seen == expected, f"{magnitude} negative {negative} high {high} times digit {digit}: expected {expected}, not {seen}"
        count += 1
    assert count == 16 * 2 * 2 * len(worth) and WIDTH == (13 if CONFIG.array == "sdp" else 12)
