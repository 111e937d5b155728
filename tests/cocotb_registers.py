"""The register block: constants, program control, interrupt, timeout, counters and log, against a model kept beside it."""

import cocotb

from sdp import registers as reg
from sdp.program import Error
from tests.bench import SEED, Bench, config, generator

CONFIG = config()
SLOTS = CONFIG.rows * CONFIG.lanes
QUIET = {"done": 0, "fault": 0, "busy": 0, "layer_done": 0, "starved": 0, "terms": 0, "slots": 0, **dict.fromkeys(reg.TRAFFIC, 0)}
WIDTHS = {name: 1 for name in reg.TRAFFIC} | {"activation_reads": 2 * CONFIG.ports, "activation_writes": CONFIG.word // CONFIG.outputs}
"""The most that each counter of traffic counts in a cycle."""


class Port(Bench):
    async def begin(self):
        await super().begin(port__address=0, port__write_enable=0, port__write_data=0, **QUIET)

    async def write(self, name, value, **inputs):
        await self.cycle(port__address=reg.BY_NAME[name].address, port__write_enable=1, port__write_data=value, **inputs)

    async def control(self, bits, **inputs):
        await self.write("control", bits, **inputs)

    async def idle(self, cycles=1, **inputs):
        for _ in range(cycles):
            await self.cycle(port__write_enable=0, **inputs)

    async def read_address(self, address):
        await self.cycle(port__address=address, port__write_enable=0)
        await self.cycle(port__address=0)
        return self["port__read_data"]

    async def read(self, name):
        return await self.read_address(reg.BY_NAME[name].address)

    def outputs(self):
        return {name: self[name] for name in ("running", "interrupt", "core_reset")}


@cocotb.test()
async def constants_and_empty_addresses(dut):
    port = Port(dut)
    await port.begin()
    for name, value in reg.constants(CONFIG).items():
        assert await port.read(name) == value, name
    used = {r.address for r in reg.REGISTERS if "r" in r.access}
    for address in (*range(40), 255, 512, 1023):
        if address not in used:
            assert await port.read_address(address) == 0, address
    # Writes to what is read-only, and to addresses that only share low bits with `control`, do nothing.
    for address in (*(r.address for r in reg.REGISTERS if r.access == "r"), 8 + 32, 8 + 1024, 8 + 256):
        await port.cycle(port__address=address, port__write_enable=1, port__write_data=0xFFFFFFFF)
        await port.idle()
        assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 0}
    for name, value in reg.constants(CONFIG).items():
        assert await port.read(name) == value, name
    for value in (0xDEADBEEF, 0, 0xFFFFFFFF):
        await port.write("timeout", value)
        assert await port.read("timeout") == value
    # Data without an enable is not written.
    await port.cycle(port__address=reg.BY_NAME["timeout"].address, port__write_enable=0, port__write_data=5)
    assert await port.read("timeout") == 0xFFFFFFFF
    # One read per cycle, each belongs to the address of the cycle before.
    addresses = [reg.BY_NAME[n].address for n in ("id", "version", "timeout", "reduction")]
    values = []
    for address in (*addresses, 0):
        await port.cycle(port__address=address)
        values.append(port["port__read_data"])
    assert values[1:] == [reg.ID, reg.VERSION, 0xFFFFFFFF, CONFIG.reduction]


@cocotb.test()
async def start_done_interrupt(dut):
    port = Port(dut)
    await port.begin()
    assert await port.read("status") == 0
    await port.control(reg.CONTROL_START)
    assert port["running"] == 0
    await port.idle()
    assert port.outputs() == {"running": 1, "interrupt": 0, "core_reset": 0}
    assert await port.read("status") == reg.STATUS_RUNNING
    await port.idle(done=1)
    await port.idle(done=0)
    assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 0}
    assert await port.read("status") == reg.STATUS_DONE
    # Enabling shows what is pending; clearing leaves `done`.
    await port.control(reg.CONTROL_INTERRUPT_WRITE | reg.CONTROL_INTERRUPT_VALUE)
    await port.idle()
    assert port["interrupt"] == 1
    assert await port.read("status") == reg.STATUS_DONE | reg.STATUS_INTERRUPT | reg.STATUS_INTERRUPT_ENABLE
    await port.control(reg.CONTROL_CLEAR)
    await port.idle()
    assert port["interrupt"] == 0
    assert await port.read("status") == reg.STATUS_DONE | reg.STATUS_INTERRUPT_ENABLE
    # The value alone does not change the enable; the write bit with value 0 clears it.
    await port.control(reg.CONTROL_START | reg.CONTROL_INTERRUPT_VALUE)
    await port.idle()
    assert await port.read("status") == reg.STATUS_RUNNING | reg.STATUS_INTERRUPT_ENABLE
    await port.idle(done=1)
    await port.idle(done=0)
    assert port["interrupt"] == 1
    await port.control(reg.CONTROL_INTERRUPT_WRITE)
    await port.idle()
    assert port["interrupt"] == 0
    await port.control(reg.CONTROL_INTERRUPT_WRITE | reg.CONTROL_INTERRUPT_VALUE)
    await port.idle()
    assert port["interrupt"] == 1
    # A start takes the interrupt back; events of a machine that does not run count for nothing.
    await port.control(reg.CONTROL_START)
    await port.idle()
    assert port.outputs() == {"running": 1, "interrupt": 0, "core_reset": 0}
    await port.idle(done=1)
    await port.control(reg.CONTROL_CLEAR, done=0)
    await port.idle(fault=5, done=1)
    await port.idle(**QUIET)
    assert await port.read("status") == reg.STATUS_DONE | reg.STATUS_INTERRUPT_ENABLE and await port.read("error") == 0
    # A start while running does not begin anew.
    await port.control(reg.CONTROL_START)
    await port.idle(10)
    await port.control(reg.CONTROL_START)
    await port.idle(4)
    await port.idle(done=1)
    await port.idle(done=0)
    assert await port.read("cycles") == 16


@cocotb.test()
async def faults_and_reset(dut):
    port = Port(dut)
    await port.begin()
    await port.write("timeout", 1234)
    await port.control(reg.CONTROL_INTERRUPT_WRITE | reg.CONTROL_INTERRUPT_VALUE)
    for error in (*list(Error)[1:], 13, 14, 15):
        await port.control(reg.CONTROL_START)
        await port.idle(3)
        assert port.outputs() == {"running": 1, "interrupt": 0, "core_reset": 0}
        # A fault counts more than an end in the same cycle, and the first fault stays.
        await port.idle(fault=int(error), done=1)
        await port.idle(fault=1 + error % 12, done=0)
        assert port.outputs() == {"running": 0, "interrupt": 1, "core_reset": 1}
        await port.idle(fault=0)
        assert await port.read("error") == error
        assert await port.read("status") == reg.STATUS_ERROR | reg.STATUS_INTERRUPT | reg.STATUS_INTERRUPT_ENABLE
        # No start before the reset.
        await port.control(reg.CONTROL_START)
        await port.idle(2)
        assert port.outputs() == {"running": 0, "interrupt": 1, "core_reset": 1}
        await port.control(reg.CONTROL_CLEAR)
        await port.idle()
        assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 1}
        await port.control(reg.CONTROL_RESET)
        assert port["core_reset"] == 1
        await port.idle()
        assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 0}
        assert await port.read("status") == reg.STATUS_INTERRUPT_ENABLE and await port.read("error") == 0
        assert await port.read("timeout") == 1234
    # Reset of a running machine, and of one that has ended.
    await port.control(reg.CONTROL_START)
    await port.idle(3)
    await port.control(reg.CONTROL_RESET)
    assert port.outputs() == {"running": 1, "interrupt": 0, "core_reset": 1}
    await port.idle()
    assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 0}
    await port.control(reg.CONTROL_START)
    await port.idle(done=1)
    await port.control(reg.CONTROL_RESET, done=0)
    await port.idle()
    assert await port.read("status") == reg.STATUS_INTERRUPT_ENABLE


@cocotb.test()
async def timeout(dut):
    """So many cycles without input in a row; 0 is never."""
    port = Port(dut)
    await port.begin()
    for limit in (1, 2, 7):
        await port.write("timeout", limit)
        await port.control(reg.CONTROL_START)
        await port.idle()
        for _ in range(3):
            await port.idle(limit - 1, starved=1)
            await port.idle(1, starved=0)
            assert port["running"] == 1
        # The limit is seen in the cycle after the last one without input.
        await port.idle(limit, starved=1)
        assert port["running"] == 1
        await port.idle(1)
        assert port["running"] == 1
        await port.idle(1)
        assert port.outputs() == {"running": 0, "interrupt": 0, "core_reset": 1}
        assert await port.read("error") == Error.TIMEOUT
        await port.control(reg.CONTROL_RESET, starved=0)
        # What was counted before does not shorten the next one.
        await port.control(reg.CONTROL_START)
        await port.idle(limit - 1, starved=1)
        await port.idle(2, starved=0)
        assert port["running"] == 1
        await port.control(reg.CONTROL_RESET)
    await port.write("timeout", 0)
    await port.control(reg.CONTROL_START)
    await port.idle(50, starved=1)
    assert port["running"] == 1


@cocotb.test()
async def counters_and_log(dut):
    rng = generator()
    port = Port(dut)
    await port.begin()
    for layers in (1, 3, CONFIG.log_layers, CONFIG.log_layers + 3, 2 * CONFIG.log_layers + 1):
        totals = dict.fromkeys(("cycles", "busy", "waiting", "terms", "empty", *reg.TRAFFIC), 0)
        part = dict.fromkeys(reg.LOG_FIELDS, 0)
        log = []

        def count(busy=0, starved=0, terms=0, slots=0, layer_done=0, **moved):
            for name, by in moved.items():
                totals[name] += by
            for target, names in ((totals, {"cycles": 1, "busy": busy}), (part, {"cycles": busy})):
                for name, by in {**names, "waiting": starved, "terms": terms, "empty": slots - terms}.items():
                    target[name] += by

        def draw():
            return {name: rng.randint(0, most) for name, most in WIDTHS.items()}

        # What happens before the start does not count.
        await port.idle(3, busy=1, starved=1, slots=SLOTS, terms=1, **WIDTHS)
        await port.control(reg.CONTROL_START, **QUIET)
        for _ in range(layers):
            for _ in range(rng.randint(1, 12)):
                slots = rng.choice((0, SLOTS))
                events = {"busy": rng.randrange(2), "starved": rng.randrange(2), "slots": slots, "terms": rng.randint(0, slots), **draw()}
                await port.idle(1, **events)
                count(**events)
            events = {"busy": 1, "starved": rng.randrange(2), "slots": SLOTS, "terms": rng.randint(0, SLOTS), "layer_done": 1, **draw()}
            await port.idle(1, **events)
            count(**events)
            log.append(dict(part))
            part = dict.fromkeys(part, 0)
            await port.idle(1, **QUIET)
            count()
        # What moved in the cycle before comes with the end.
        events = draw()
        await port.idle(1, done=1, **events)
        count(**events)
        await port.idle(5, **{**QUIET, **WIDTHS, "busy": 1, "starved": 1})
        await port.idle(1, **QUIET)
        assert await port.read("layers") == layers
        for name, value in totals.items():
            assert await port.read(name) == value, f"{name}, seed {SEED}"
        for n in range(max(0, layers - CONFIG.log_layers), layers):
            base = reg.LOG_BASE + 4 * (n % CONFIG.log_layers)
            entry = [await port.read_address(base + i) for i in range(4)]
            assert entry == [log[n][name] for name in reg.LOG_FIELDS], f"layer {n} of {layers}, seed {SEED}"


@cocotb.test()
async def wide_sums(dut):
    """Counters of a layer carry over their bytes: as many terms per cycle as there are, for a while."""
    port = Port(dut)
    await port.begin()
    await port.control(reg.CONTROL_START)
    cycles = 70000 // SLOTS
    await port.idle(cycles - 1, busy=1, slots=SLOTS, terms=SLOTS)
    await port.idle(1, layer_done=1)
    await port.idle(1, **{**QUIET, "done": 1})
    await port.idle(1, done=0)
    assert await port.read("terms") == cycles * SLOTS > 1 << 16 and await port.read("empty") == 0
    assert [await port.read_address(reg.LOG_BASE + n) for n in range(4)] == [cycles, 0, cycles * SLOTS, 0]
