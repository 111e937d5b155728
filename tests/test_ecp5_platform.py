"""What elements are made of on the ECP5 computes what `hw` says: proved by SAT for every input, and an element simulated as mapped."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw import activation_memory, processing_element
from hw.accelerator import Accelerator
from hw.multiply import times
from hw.verilog import export
from sdp.config import NAMED
from sim.fuzz import Fuzzer
from sim.harness import Harness
from sim.random_layer import draw
from synth.cells.yosys import YosysError, run_script
from synth.ecp5 import platform, synthesis
from synth.ecp5.platform import Ecp5
from tests.sizes import ALL, PLAIN
from tests.units import UNITS, Units, simulate

TINY = NAMED["tiny"]
MODELS = "read_verilog -overwrite +/ecp5/cells_sim.v\n"


class Same(wiring.Component):
    """``same`` while both give the same value of the inputs; ``make(m, inputs, device)`` gives the generic one without a device."""

    def __init__(self, make, **widths):
        self.make = make
        super().__init__({"same": Out(1), **{name: In(width) for name, width in widths.items()}})

    def elaborate(self, platform):
        m = Module()
        inputs = {name: getattr(self, name) for name in self.signature.members if name != "same"}
        generic, ours = self.make(m, **inputs, device=None), self.make(m, **inputs, device=Ecp5())
        width = max(len(generic), len(ours))
        left, right = Signal(width), Signal(width)
        m.d.comb += [left.eq(generic), right.eq(ours), self.same.eq(left == right)]
        return m


def prove(component, folder):
    """By SAT, for all inputs; with cell models as Yosys has them."""
    (folder / "same.v").write_text(export(component, "same", constant=()))
    (folder / "prove.ys").write_text(f"{MODELS}read_verilog same.v\nhierarchy -top same\nproc\nflatten\nopt_clean\nsat -verify -prove same 1 same\n")
    run_script(folder / "prove.ys")


def product(bits):
    return Same(lambda m, a, b, device: device.times(m, "product", a, b) if device else times(a, b), a=4, b=bits)


def selection(count, bits):
    def make(m, words, place, device):
        chosen = Signal(count, name="chosen_ours" if device else "chosen")
        m.d.comb += chosen.eq(Mux(place < count, 1 << place, 1))
        parts = [words[bits * i : bits * (i + 1)] for i in range(count)]
        return (device.select if device else processing_element.select)(m, "slot", parts, chosen)

    return Same(make, words=count * bits, place=(count - 1).bit_length())


def accumulation(bits, step_bits):
    def make(m, earlier, first, step, carry, device):
        return (device.accumulate if device else processing_element.accumulate)(m, "sum", earlier.as_signed(), first, step.as_signed(), carry)

    return Same(make, earlier=bits, first=1, step=step_bits, carry=1)


@pytest.mark.parametrize("bits", [3, 4])
def test_times(bits, tmp_path):
    prove(product(bits), tmp_path)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 12, 17])
def test_select(count, tmp_path):
    prove(selection(count, 2), tmp_path)


def lookup(count, bits):
    def make(m, words, number, device):
        there = Signal(number.shape(), name="number_ours" if device else "number_there")
        m.d.comb += there.eq(Mux(number < count, number, 0))
        parts = [words[bits * i : bits * (i + 1)] for i in range(count)]
        return (device.multiplex if device else activation_memory.multiplex)(m, "word", parts, there)

    return Same(make, words=count * bits, number=(count - 1).bit_length())


@pytest.mark.parametrize("count", [2, 4, 7, 8, 16])
def test_multiplex(count, tmp_path):
    prove(lookup(count, 3), tmp_path)


@pytest.mark.parametrize("bits, step_bits", [(26, 14), (7, 7), (8, 3)])
def test_accumulate(bits, step_bits, tmp_path):
    prove(accumulation(bits, step_bits), tmp_path)


def mapped(unit, config, folder):
    """Of the unit alone: the netlist that place and route would get, with models of its cells."""
    synthesis.synthesize(export(Units({unit: UNITS[unit](config)}), "units", platform=Ecp5()), "units", folder)
    netlist = json.loads((folder / "netlist.json").read_text())
    (folder / "units.json").write_text(json.dumps({"modules": {"units": netlist["modules"]["units"]}}))
    (folder / "mapped.ys").write_text(f"{MODELS}read_json units.json\nhierarchy -top units\nproc\nflatten\nopt_clean\nwrite_verilog -noattr mapped.v\n")
    run_script(folder / "mapped.ys")
    return (folder / "mapped.v").read_text()


@pytest.mark.parametrize("unit, config", [("nibble_multiplier", c) for c in (ALL[0], PLAIN[0])] + [("processing_element", c) for c in ALL + PLAIN[:1]],
                         ids=lambda value: getattr(value, "name", value))
def test_as_mapped(unit, config, tmp_path):
    simulate(unit, "icarus", config, verilog=mapped(unit, config, tmp_path))


@pytest.mark.parametrize("name, broken, check", [
    ("ADD", 0x66A0, lambda folder: prove(product(4), folder)),
    ("ADD_PRODUCTS", 0x7880, lambda folder: prove(product(3), folder)),
    ("ADD_UNLESS", 0x96AA, lambda folder: prove(accumulation(8, 5), folder)),
])
def test_a_wrong_cell_is_found(name, broken, check, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, name, broken)
    with pytest.raises(YosysError, match="proof did fail"):
        check(tmp_path)


def failures(verilog, layers=60):
    """Of random layers on this accelerator; half of their residuals are replaced in place."""
    return Fuzzer(TINY, Harness(TINY, verilog)).failures([[draw(TINY, seed) for seed in range(first, first + 3)] for first in range(0, layers, 3)])


def test_the_machine(tmp_path):
    """Before synthesis, since Yosys has no model of block RAM."""
    (tmp_path / "accelerator.v").write_text(export(Accelerator(TINY), "accelerator", platform=Ecp5()))
    (tmp_path / "described.ys").write_text(
        f"{MODELS}read_verilog accelerator.v\nhierarchy -top accelerator\nproc\nflatten\nopt_clean\nwrite_verilog -noattr described.v\n")
    run_script(tmp_path / "described.ys")
    verilog = (tmp_path / "described.v").read_text()
    assert "CCU2C" not in verilog and not failures(verilog)


@dataclass(frozen=True)
class Colliding:
    """Block RAM at its worst: of a word that is read in the cycle that writes some of it, the parts that share a memory with that come out inverted."""

    whole: bool
    """All parts of a word do."""

    def word_memory(self, m, name, width, depth, granularity):
        memory = m.submodules[name] = Memory(shape=width, depth=depth, init=[])
        reading, writing = memory.read_port(), memory.write_port(granularity=granularity)
        collided = Signal(len(writing.en), name=f"{name}_collided")
        written = writing.en.any().replicate(len(writing.en)) if self.whole else writing.en
        with m.If(reading.en):
            m.d.sync += collided.eq(Mux(reading.addr == writing.addr, written, 0))
        spoilt = Cat(bit.replicate(granularity) for bit in collided)
        return SimpleNamespace(addr=reading.addr, en=reading.en, data=reading.data ^ spoilt), writing


def test_no_part_is_needed_while_it_is_written():
    """What lets ``synth.fpga.UNCHECKED`` name the activation memory; parts that are not written are needed, so they must not be in the same memory."""
    assert not failures(export(Accelerator(TINY), "accelerator", platform=Colliding(whole=False)))
    assert failures(export(Accelerator(TINY), "accelerator", platform=Colliding(whole=True)))
