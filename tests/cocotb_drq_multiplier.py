"""The multiplier of a DRQ element, all of it."""

import itertools

import cocotb
from amaranth import signed
from cocotb.triggers import Timer

from hw.drq_row import Nibble
from tests.bench import pack, unpack


@cocotb.test()
async def every_product(dut):
    ports = {name: getattr(dut, f"drq_multiplier__{name}") for name in ("magnitude", "negative_code", "high_code", "high_weight", "digit", "product", "negative")}
    for magnitude, negative, digit, high_code, high_weight in itertools.product(range(16), (0, 1), range(-8, 8), (0, 1), (0, 1)):
        inputs = {"magnitude": magnitude, "negative_code": negative, "high_code": high_code, "high_weight": high_weight,
                  "digit": pack(Nibble, {"magnitude": abs(digit) & 7, "negative": digit < 0})}
        for name, value in inputs.items():
            ports[name].value = value
        await Timer(1, "ns")
        product = unpack(signed(16), int(ports["product"].value)) + int(ports["negative"].value)
        assert product == (-magnitude if negative else magnitude) * digit * 16**high_code * 16**high_weight, inputs
