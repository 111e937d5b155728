"""Register port, performance counters and layer log; ``sdp.registers`` is the map."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from sdp import registers as reg
from sdp.config import Config
from sdp.program import Error


class RegisterPort(wiring.Signature):
    """32-bit registers, addressed in words; ``read_data`` belongs to the address of the cycle before."""

    def __init__(self):
        super().__init__({"address": Out(reg.ADDRESS_BITS), "write_enable": Out(1), "write_data": Out(32), "read_data": In(32)})


def event_members(config: Config) -> dict:
    """What the core tells the registers, as outputs of the core."""
    count = bits_for(config.rows * config.lanes)
    at_once = {"activation_reads": 2 * config.ports, "activation_writes": config.word // config.outputs,
               "weight_reads": config.weight_beats, "scale_reads": config.scale_beats}
    return {"done": Out(1), "fault": Out(4), "busy": Out(1), "layer_done": Out(1), "starved": Out(1), "terms": Out(count), "slots": Out(count),
            **{name: Out(bits_for(at_once.get(name, 1))) for name in reg.TRAFFIC}}


class Registers(wiring.Component):
    """Starts programs, stops them on a fault, counts.

    While ``error`` is set the core is held in reset, so that nothing goes on behind it; ``control`` bit 1 clears it.

    Members
    -------
    port : In, the register port; interrupt : Out, a program has ended or failed, and the interrupt is enabled
    running : Out, a program runs; core_reset : Out
    done, fault : In, from the core; busy, layer_done, starved : In; terms, slots : In, of this cycle
    activation_reads ... beats_out : In, ``sdp.registers.TRAFFIC``, of the cycle before: the last of them comes with ``done`` at the latest
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__({
            "port": In(RegisterPort()),
            "interrupt": Out(1),
            "running": Out(1),
            "core_reset": Out(1),
            **{name: member.flip() for name, member in event_members(config).items()},
        })

    def elaborate(self, platform):
        m = Module()
        port = self.port
        error, ended, pending, enabled, timeout = Signal(4), Signal(), Signal(), Signal(), Signal(32)
        totals = {name: Signal(32, name=f"total_{name}") for name in ("layers", "cycles", "busy", "waiting", "terms", "empty", *reg.TRAFFIC)}
        starving = Signal(32)

        control = Signal(5)
        m.d.comb += control.eq(Mux(port.write_enable & (port.address == reg.BY_NAME["control"].address), port.write_data[:5], 0))
        start, clear = Signal(), Signal()
        m.d.comb += [
            start.eq((control & reg.CONTROL_START).any() & ~self.running & (error == 0)),
            clear.eq((control & reg.CONTROL_RESET).any()),
            self.core_reset.eq(clear | (error != 0)),
            self.interrupt.eq(pending & enabled),
        ]
        timed_out = Signal()
        m.d.comb += timed_out.eq(self.running & (timeout != 0) & (starving == timeout))

        # Per layer, since the end of the layer before.
        layer_counts = {name: Signal(32, name=f"layer_{name}") for name in reg.LOG_FIELDS}
        empty = Signal.like(self.slots)
        m.d.comb += empty.eq(self.slots - self.terms)
        increments = {"busy": self.busy, "waiting": self.starved, "terms": self.terms, "empty": empty,
                      **{name: getattr(self, name) for name in reg.TRAFFIC}}
        with m.If(self.running):
            m.d.sync += [
                totals["cycles"].eq(totals["cycles"] + 1),
                *(totals[name].eq(totals[name] + by) for name, by in increments.items()),
                totals["layers"].eq(totals["layers"] + self.layer_done),
                starving.eq(Mux(self.starved, starving + 1, 0)),
            ]
            for name, by in (("cycles", self.busy), ("waiting", self.starved), ("terms", self.terms), ("empty", empty)):
                m.d.sync += layer_counts[name].eq(Mux(self.layer_done, 0, layer_counts[name] + by))
        m.submodules.log = log = Memory(shape=128, depth=self.config.log_layers, init=[])
        log_write, log_read = log.write_port(), log.read_port()
        m.d.comb += [
            log_write.addr.eq(totals["layers"]), log_write.en.eq(self.running & self.layer_done),
            log_write.data.eq(Cat((layer_counts["cycles"] + 1)[:32], *((layer_counts[n] + by)[:32] for n, by in
                                                               (("waiting", self.starved), ("terms", self.terms), ("empty", empty))))),
            log_read.addr.eq(port.address[2:]), log_read.en.eq(port.address >= reg.LOG_BASE),
        ]
        if self.config.log_layers == 1:
            m.d.comb += [log_write.addr.eq(0), log_read.addr.eq(0)]

        with m.If(start):
            m.d.sync += [self.running.eq(1), ended.eq(0), pending.eq(0), starving.eq(0)]
            m.d.sync += [s.eq(0) for s in (*totals.values(), *layer_counts.values())]
        with m.If(self.running):
            with m.If(self.fault != 0):
                m.d.sync += [error.eq(self.fault), self.running.eq(0), pending.eq(1)]
            with m.Elif(timed_out):
                m.d.sync += [error.eq(Error.TIMEOUT), self.running.eq(0), pending.eq(1)]
            with m.Elif(self.done):
                m.d.sync += [ended.eq(1), self.running.eq(0), pending.eq(1)]
        with m.If((control & reg.CONTROL_CLEAR).any()):
            m.d.sync += pending.eq(0)
        with m.If((control & reg.CONTROL_INTERRUPT_WRITE).any()):
            m.d.sync += enabled.eq((control & reg.CONTROL_INTERRUPT_VALUE).any())
        with m.If(clear):
            m.d.sync += [error.eq(0), self.running.eq(0), ended.eq(0), pending.eq(0)]
        with m.If(port.write_enable & (port.address == reg.BY_NAME["timeout"].address)):
            m.d.sync += timeout.eq(port.write_data)

        values = {
            **reg.constants(self.config),
            "status": Cat(self.running, ended, error != 0, self.interrupt, enabled),
            "error": error, "timeout": timeout, **totals,
        }
        value, field, in_log = Signal(32), Signal(2), Signal()
        m.d.sync += [value.eq(0), field.eq(port.address[:2]), in_log.eq(port.address >= reg.LOG_BASE)]
        with m.Switch(port.address):
            for r in reg.REGISTERS:
                if "r" in r.access:
                    with m.Case(r.address):
                        m.d.sync += value.eq(values[r.name])
        m.d.comb += port.read_data.eq(Mux(in_log, log_read.data.word_select(field, 32), value))
        return m
