"""A stand-in with the accelerator's ports: it echoes its input, so that the harness can be tested without the machine."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from sdp import registers as reg

FAIL, HANG = 0xFF, 0xFE
"""First bytes of a beat that stop the machine with the error in the next byte, and that it never gets past."""


class MockAccelerator(wiring.Component):
    """Every beat counts as a layer; a log entry reads as its own address."""

    def __init__(self, config):
        super().__init__({
            "input": In(stream.Signature(config.stream_bits + 1)),
            "output": Out(stream.Signature(config.stream_bits + 1)),
            "registers": In(wiring.Signature({
                "address": Out(reg.ADDRESS_BITS), "write_enable": Out(1), "write_data": Out(32), "read_data": In(32)})),
            "interrupt": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        port, source, sink = self.registers, self.input, self.output
        running, done, pending, enabled = (Signal(name=n) for n in ("running", "done", "pending", "enabled"))
        error, counters = Signal(4), {n: Signal(32, name=n) for n in ("layers", "cycles", "busy", "waiting", "terms", "empty")}
        control = Signal(5)
        stuck, last = source.payload[:8] == HANG, source.payload[-1]
        m.d.comb += [
            control.eq(Mux(port.write_enable & (port.address == reg.BY_NAME["control"].address), port.write_data[:5], 0)),
            sink.payload.eq(source.payload), sink.valid.eq(running & source.valid & ~stuck & (source.payload[:8] != FAIL)),
            source.ready.eq(running & sink.ready & ~stuck), self.interrupt.eq(pending & enabled),
        ]
        taken = source.valid & source.ready
        with m.If(running):
            m.d.sync += [
                counters["cycles"].eq(counters["cycles"] + 1), counters["layers"].eq(counters["layers"] + taken),
                counters["busy"].eq(counters["busy"] + taken), counters["waiting"].eq(counters["waiting"] + ~source.valid),
                counters["terms"].eq(counters["terms"] + 3), counters["empty"].eq(counters["empty"] + 2),
            ]
            with m.If(taken & (source.payload[:8] == FAIL)):
                m.d.sync += [error.eq(source.payload[8:12]), running.eq(0), pending.eq(1)]
            with m.Elif(taken & last):
                m.d.sync += [done.eq(1), running.eq(0), pending.eq(1)]
        with m.If((control & reg.CONTROL_CLEAR).any()):
            m.d.sync += pending.eq(0)
        with m.If((control & reg.CONTROL_START).any() & (error == 0)):
            m.d.sync += [running.eq(1), done.eq(0), *(c.eq(0) for c in counters.values())]
        with m.If((control & reg.CONTROL_RESET).any()):
            m.d.sync += [error.eq(0), running.eq(0), done.eq(0)]
        with m.If((control & reg.CONTROL_INTERRUPT_WRITE).any()):
            m.d.sync += enabled.eq((control & reg.CONTROL_INTERRUPT_VALUE).any())
        values = {"id": reg.ID, "status": Cat(running, done, error != 0), "error": error, **counters}
        m.d.sync += port.read_data.eq(port.address)
        with m.Switch(port.address):
            for name, value in values.items():
                with m.Case(reg.BY_NAME[name].address):
                    m.d.sync += port.read_data.eq(value)
        return m
