"""The cocotb side of test_toolchain: not collected by pytest itself."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


async def _count(dut, cycles):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.enable.value = 0
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    dut.enable.value = 1
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    return int(dut.count.value)


@cocotb.test()
async def counts(dut):
    cycles = int(os.environ.get("CYCLES", "5"))
    assert await _count(dut, cycles) == cycles


@cocotb.test()
async def wrong(dut):
    assert await _count(dut, 5) == 6, "five is not six"
