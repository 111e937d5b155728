"""The cocotb side of test_verilog: leaves fed from a port, a register and both add what they were told to."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

STEPS = (1, 2, 1, 2, 2, 1, 1, 1)


@cocotb.test()
async def adds(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value, dut.x.value, dut.z.value = 1, 0, 0
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    late = 0
    for _ in range(100):
        x, z = rng.getrandbits(64), rng.getrandbits(32)
        dut.x.value, dut.z.value = x, z
        await FallingEdge(dut.clk)
        expected = 0
        for n, step in enumerate(STEPS):
            a = (x >> 8 * n & 255, late >> 8 * n & 255, x >> n & 7 | (late >> n & 31) << 3)[n % 3]
            b = (z >> 4 * n & 15 ^ 8) - 8
            expected |= (a + b + step & 255) << 8 * n
        assert int(dut.y.value) == expected
        late = x
