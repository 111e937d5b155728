"""The whole machine under cocotb: streams with idle sources and stalling sinks, against the golden machine; every error; reset."""

import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

from golden.machine import Machine
from sdp import registers as reg
from sdp.config import NAMED
from sdp.encoding import encode
from sdp.program import Error
from sim.random_layer import Case, build, draw
from tests.malformed import malformed

CONFIG = NAMED["tiny"]
LIMIT = 60000
"""Cycles after which a program that has not ended counts as hanging."""


class Driver:
    """Clock, register port and both streams of the top."""

    def __init__(self, dut):
        self.dut = dut
        self.random = random.Random(cocotb.RANDOM_SEED)

    async def begin(self):
        dut = self.dut
        for name in ("input__valid", "input__payload", "output__ready", "registers__address", "registers__write_enable", "registers__write_data"):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await self.control(reg.CONTROL_INTERRUPT_WRITE | reg.CONTROL_INTERRUPT_VALUE)

    async def write(self, name, value):
        dut = self.dut
        dut.registers__address.value, dut.registers__write_data.value, dut.registers__write_enable.value = reg.BY_NAME[name].address, value, 1
        await RisingEdge(dut.clk)
        dut.registers__write_enable.value = 0

    async def control(self, bits):
        await self.write("control", bits)

    async def read_address(self, address):
        self.dut.registers__address.value = address
        await RisingEdge(self.dut.clk)
        await RisingEdge(self.dut.clk)
        return int(self.dut.registers__read_data.value)

    async def read(self, name):
        return await self.read_address(reg.BY_NAME[name].address)

    async def log(self, layer):
        base = reg.LOG_BASE + 4 * (layer % CONFIG.log_layers)
        return [await self.read_address(base + n) for n in range(4)]

    async def run(self, stream: bytes, idle: float = 0.0, stall: float = 0.0, stop_after: int | None = None, last: bool = True) -> bytes:
        """Start, feed ``stream``, collect the output until the interrupt; ``stop_after`` cycles it returns early."""
        dut, width = self.dut, CONFIG.word
        beats = [int.from_bytes(stream[i : i + width], "little") for i in range(0, len(stream), width)]
        if last and beats:
            beats[-1] |= 1 << CONFIG.stream_bits
        await self.control(reg.CONTROL_START)
        out, at, valid = bytearray(), 0, False
        for cycle in range(LIMIT):
            # A source may not take back what it has offered; whether it offers anything is drawn anew for every beat.
            valid = valid or (at < len(beats) and self.random.random() >= idle)
            ready = self.random.random() >= stall
            dut.input__valid.value = valid
            dut.output__ready.value = ready
            if valid:
                dut.input__payload.value = beats[at]
            await ReadOnly()
            took, gave = valid and int(dut.input__ready.value), ready and int(dut.output__valid.value)
            if gave:
                out += (int(dut.output__payload.value) & (1 << CONFIG.stream_bits) - 1).to_bytes(width, "little")
            ended = int(dut.interrupt.value)
            await RisingEdge(dut.clk)
            if took:
                at, valid = at + 1, False
            if ended or cycle == stop_after:
                dut.input__valid.value = 0
                return bytes(out)
        raise AssertionError(f"the program hangs: no interrupt after {LIMIT} cycles, {at} of {len(beats)} beats taken")


def program(first, count):
    return encode(CONFIG, build(CONFIG, [draw(CONFIG, seed) for seed in range(first, first + count)]))


async def check(driver, machine, stream, idle=0.0, stall=0.0):
    """Codes, terms and cycles equal the golden machine's; total cycles too where no stream waits."""
    expected = machine.run(stream)
    got = await driver.run(stream, idle, stall)
    assert await driver.read("error") == Error.NONE
    assert await driver.read("status") & reg.STATUS_DONE
    assert np.array_equal(np.frombuffer(got, np.uint8), expected.outputs.ravel()), "output codes differ"
    assert await driver.read("layers") == len(expected.layers)
    assert await driver.read("busy") == expected.busy
    for name, value in expected.traffic.counters().items():
        assert await driver.read(name) == value, name
    waited = await driver.read("waiting")
    if not idle and not stall:
        assert await driver.read("cycles") == expected.cycles
        assert waited == 0
    for n, layer in enumerate(expected.layers[-CONFIG.log_layers :], max(0, len(expected.layers) - CONFIG.log_layers)):
        cycles, waiting, terms, empty = await driver.log(n)
        assert (cycles, terms, empty) == (layer.cycles, int(layer.terms[0]), int(layer.empty[0])), f"layer {n}: {layer.layer.tag}"
        assert idle or waiting == 0
    await driver.control(reg.CONTROL_CLEAR)
    return waited


@cocotb.test()
async def streams(dut):
    """Free-running, idle source, stalling sink, both; several layers per program, weights loaded beside them."""
    driver, machine = Driver(dut), Machine(CONFIG)
    await driver.begin()
    count = int(os.environ.get("PROGRAMS", 2))
    for n, (idle, stall) in enumerate(((0, 0), (0.5, 0), (0, 0.5), (0.4, 0.4))):
        for k in range(count):
            waited = await check(driver, machine, program(1000 + 100 * n + 10 * k, 3), idle, stall)
            assert bool(waited) == bool(idle)


@cocotb.test()
async def log_wraps(dut):
    """More layers than the log holds: the newest are kept."""
    driver = Driver(dut)
    await driver.begin()
    cases = [Case(seed=n, channels_in=1 + n, budget=1 + n % 8, in_w=1 + n % 3) for n in range(CONFIG.log_layers + 3)]
    await check(driver, Machine(CONFIG), encode(CONFIG, build(CONFIG, cases)))


@cocotb.test()
async def errors(dut):
    """Every malformed program stops with its named code, and after a reset the machine computes as if nothing had been."""
    driver = Driver(dut)
    await driver.begin()
    seen = set()
    for name, error, stream in malformed(CONFIG):
        await driver.run(stream)
        assert await driver.read("error") == error, f"{name}: error register shows {Error(await driver.read('error')).name}, not {error.name}"
        status = await driver.read("status")
        assert status & reg.STATUS_ERROR and not status & (reg.STATUS_RUNNING | reg.STATUS_DONE), name
        # It takes no further input, and no start, until it is reset.
        await driver.control(reg.CONTROL_START)
        dut.input__valid.value = 1
        for _ in range(4):
            await RisingEdge(dut.clk)
            assert not int(dut.input__ready.value) and not await driver.read("status") & reg.STATUS_RUNNING, name
        dut.input__valid.value = 0
        await driver.control(reg.CONTROL_RESET)
        assert await driver.read("error") == Error.NONE
        if error not in seen:
            await check(driver, Machine(CONFIG), program(42, 1))
        seen.add(error)
    assert seen == set(Error) - {Error.NONE, Error.TIMEOUT}


@cocotb.test()
async def timeout(dut):
    """A stream that dries up: with the watchdog armed the machine stops by itself, without it waits, and it can be reset either way."""
    driver = Driver(dut)
    await driver.begin()
    stream = program(7, 1)
    cut = stream[: len(stream) // 2 // CONFIG.word * CONFIG.word]
    await driver.write("timeout", 50)
    assert await driver.read("timeout") == 50
    await driver.run(cut, last=False)
    assert await driver.read("error") == Error.TIMEOUT
    await driver.control(reg.CONTROL_RESET)
    await driver.write("timeout", 0)
    await driver.run(cut, last=False, stop_after=3000)
    assert await driver.read("status") & reg.STATUS_RUNNING
    await driver.control(reg.CONTROL_RESET)
    assert not await driver.read("status") & reg.STATUS_RUNNING
    await check(driver, Machine(CONFIG), stream)


@cocotb.test()
async def reset_anywhere(dut):
    """Both resets at any moment, in the middle of a load or of a layer: the next program runs as if nothing had been."""
    driver = Driver(dut)
    await driver.begin()
    stream = program(3, 2)
    total = Machine(CONFIG).run(stream).cycles
    for n, moment in enumerate(sorted(driver.random.sample(range(2, total - 2), 8))):
        await driver.run(stream, stop_after=moment)
        if n % 2:
            await driver.control(reg.CONTROL_RESET)
        else:
            dut.rst.value = 1
            await RisingEdge(dut.clk)
            dut.rst.value = 0
            await driver.control(reg.CONTROL_INTERRUPT_WRITE | reg.CONTROL_INTERRUPT_VALUE)
        assert await driver.read("status") == reg.STATUS_INTERRUPT_ENABLE
        await check(driver, Machine(CONFIG), stream)


@cocotb.test()
async def constants(dut):
    """The registers that tell a driver what it talks to."""
    driver = Driver(dut)
    await driver.begin()
    for name, value in reg.constants(CONFIG).items():
        assert await driver.read(name) == value, name
