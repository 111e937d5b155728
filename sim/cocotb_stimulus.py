"""One program through the top under cocotb, timed: the stimulus of ``sim.bench``."""

import json
import os
import time
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

from sdp.registers import BY_NAME, CONTROL_INTERRUPT_VALUE, CONTROL_INTERRUPT_WRITE, CONTROL_START


@cocotb.test()
async def stimulus(dut):
    word, expected = int(os.environ["SDP_WORD"]), int(os.environ["SDP_CYCLES"])
    stream = Path(os.environ["SDP_STIMULUS"]).read_bytes()
    beats = [int.from_bytes(stream[i : i + word], "little") for i in range(0, len(stream), word)]
    beats[-1] |= 1 << 8 * word
    for name in ("input__valid", "input__payload", "output__ready", "registers__address", "registers__write_enable", "registers__write_data"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value, dut.output__ready.value = 0, 1
    dut.registers__address.value, dut.registers__write_enable.value = BY_NAME["control"].address, 1
    for value in (CONTROL_INTERRUPT_WRITE | CONTROL_INTERRUPT_VALUE, CONTROL_START):
        dut.registers__write_data.value = value
        await RisingEdge(dut.clk)
    dut.registers__write_enable.value = 0
    begin, cycles, at, outputs = time.perf_counter(), 0, 0, bytearray()
    dut.input__payload.value, dut.input__valid.value = beats[0], 1
    while True:
        await ReadOnly()
        if int(dut.interrupt.value):
            break
        if int(dut.output__valid.value):
            outputs += (int(dut.output__payload.value) & (1 << 8 * word) - 1).to_bytes(word, "little")
        took = at < len(beats) and int(dut.input__ready.value)
        await RisingEdge(dut.clk)
        cycles += 1
        assert cycles <= 2 * expected + 100, "the program hangs"
        if took:
            at += 1
            if at < len(beats):
                dut.input__payload.value = beats[at]
            else:
                dut.input__valid.value = 0
    seconds = time.perf_counter() - begin
    assert cycles == expected and bytes(outputs) == Path(os.environ["SDP_EXPECTED"]).read_bytes()
    Path(os.environ["SDP_REPORT"]).write_text(json.dumps({"cycles": cycles, "cycles_per_second": cycles / seconds}))
