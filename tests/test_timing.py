"""Timing: OpenSTA's reports are read right, drive strengths hold, what cannot be used is named in one sentence."""

import argparse
import json
import re
import shutil

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.verilog import export
from sdp import UserError
from synth import area, timing
from synth.cells import drive, hierarchy, macros, mapping
from synth.cells.cell_library import read_liberty
from synth.sta import opensta
from synth.sta.opensta import Session, Step, TimingError, read_path

needs_sta = pytest.mark.skipif(not shutil.which("sta"), reason="OpenSTA is not installed (make timing installs it)")

DELAY = {"INV": 0.1, "INV4": 0.1, "NAND2": 0.25, "BUF": 0.3, "DFF": 0.5}
SETUP = 0.125


def liberty(timed=True):
    """Constant delays; an output may drive ``FILL`` of its limit: four inputs, eight for the large inverter, ten for the buffer."""
    def arc(pin, kind, **values):
        tables = "".join(f'{name} (scalar) {{ values ("{value}"); }} ' for name, value in values.items())
        return f'\ntiming () {{ related_pin : "{pin}"; timing_type : {kind}; {tables}}}' if timed else ""

    def delay(pin, cell, kind="combinational"):
        return arc(pin, kind, cell_rise=DELAY[cell], cell_fall=DELAY[cell], rise_transition=0.0, fall_transition=0.0)

    def gate(name, size, function, inputs, limit):
        pins = "".join(f"pin ({pin}) {{ direction : input; capacitance : 0.01; }}\n" for pin in inputs)
        delays = " ".join(delay(pin, name) for pin in inputs)
        return f'cell ({name}) {{ area : {size};\n{pins} pin (Y) {{ direction : output; function : "{function}"; max_capacitance : {limit}; {delays} }} }}'

    return f"""
library (plain) {{
  delay_model : table_lookup; time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA"; capacitive_load_unit (1, pf); pulling_resistance_unit : "1kohm";
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50; output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  nom_voltage : 1; nom_temperature : 25; nom_process : 1;
  {gate("INV", 1, "!A", "A", 0.08)}
  {gate("INV4", 1.5, "!A", "A", 0.16)}
  {gate("NAND2", 2, "!(A*B)", "AB", 0.08)}
  {gate("BUF", 2, "A", "A", 0.2)}
  cell (DFF) {{ area : 10; ff (IQ, IQN) {{ clocked_on : "C"; next_state : "D"; }}
    pin (C) {{ direction : input; clock : true; capacitance : 0.01; }}
    pin (D) {{ direction : input; capacitance : 0.01; {arc("C", "setup_rising", rise_constraint=SETUP, fall_constraint=SETUP)} }}
    pin (Q) {{ direction : output; function : "IQ"; max_capacitance : 0.08; {delay("C", "DFF", "rising_edge")} }}
  }}
}}
"""


LIBERTY = liberty()

CHAIN = """\
module chain (clk, d, q);
  input clk; input d; output q;
  wire held; wire n1; wire n2;
  DFF held_reg (.C(clk), .D(d), .Q(held));
  INV g1 (.A(held), .Y(n1));
  NAND2 g2 (.A(n1), .B(held), .Y(n2));
  DFF q_reg (.C(clk), .D(n2), .Q(q));
endmodule
"""


class Child(wiring.Component):
    """A register behind an inverter."""

    d: In(1)
    q: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.q.eq(~self.d)
        return m


class Top(wiring.Component):
    """A memory, a register, and children that hang on it: more than one cell may drive."""

    address: In(5)
    d: In(4)
    q: Out(24)

    def elaborate(self, platform):
        m = Module()
        memory = m.submodules.words = Memory(shape=4, depth=32, init=[])
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [read.addr.eq(self.address), write.addr.eq(self.address), write.data.eq(self.d), write.en.eq(1)]
        held = Signal()
        m.d.sync += held.eq(read.data.all())
        for n in range(24):
            child = m.submodules[f"pe_{n}"] = Child()
            m.d.comb += [child.d.eq(held), self.q[n].eq(child.q)]
        return m


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(mapping, "ABC", "strash; map -a")
    (tmp_path / "plain.lib").write_text(LIBERTY)
    return read_liberty(tmp_path / "plain.lib")


def session(folder, verilog, top, memories=None):
    (folder / "library.lib").write_text(LIBERTY)
    (folder / "memories.lib").write_text(macros.memories_liberty(memories or {}))
    (folder / "netlist.v").write_text(verilog)
    return Session(folder, top)


@needs_sta
def test_delay_of_a_known_chain(tmp_path):
    with session(tmp_path, CHAIN, "chain") as sta:
        ends = sta.ends()
        path = sta.path("q_reg/D")
    assert ends == {"held_reg/D": pytest.approx(SETUP), "q": pytest.approx(DELAY["DFF"]),
                    "q_reg/D": pytest.approx(DELAY["DFF"] + DELAY["INV"] + DELAY["NAND2"] + SETUP)}
    assert path == [Step("held_reg/C", "DFF", 0.0), Step("held_reg/Q", "DFF", 0.5), Step("g1/Y", "INV", 0.6), Step("g2/Y", "NAND2", 0.85), Step("q_reg/D", "DFF", 0.85)]


@needs_sta
@pytest.mark.parametrize("words", [16, 256, 300, 1024, 5000])
def test_memories_have_the_delays_of_the_source(tmp_path, words):
    ports = {"clk": ("input", 1), "address": ("input", 4), "out": ("output", 4)}
    verilog = """module top (clk, address, q); input clk; input [3:0] address; output [3:0] q;
  top_memory top_memory (.clk(clk), .address(address), .out(q)); endmodule"""
    with session(tmp_path, verilog, "top", {"top_memory": (words, ports)}) as sta:
        ends = sta.ends()
    assert ends["q[3]"] == pytest.approx(macros.clock_to_output(words), abs=1e-3)
    assert ends["top_memory/address[0]"] == pytest.approx(macros.SETUP, abs=2e-3)


def test_delays_between_the_published_ones():
    assert [macros.clock_to_output(words) for words in (1, 64, 512, 768, 2048, 1 << 16)] == pytest.approx([3.18, 3.18, 3.91, 4.17, 5.48, 5.48])


def test_a_report_without_path():
    assert read_path("No paths found.\n") == []


@needs_sta
def test_paths_of_units(library):
    paths = {path.unit: path for path in timing.analyse(export(Top(), area.TOP), area.TOP, library)}
    elements, top = paths["processing elements"], paths["top"]
    # A register, buffers for 24 children, and what inverts and resets in each.
    assert re.fullmatch(r"q of pe_\d+", elements.end)
    assert elements.through[0][2] == pytest.approx(DELAY["DFF"] + DELAY["BUF"]) and elements.through[1][2] > DELAY["NAND2"] + SETUP
    assert [unit for unit, *_ in elements.through] == ["top", "processing elements"]
    assert elements.ns == pytest.approx(sum(ns for *_, ns in elements.through), abs=1e-3)
    assert top.start == "memory" and top.ns > macros.clock_to_output(32)


def test_no_cell_drives_more_than_it_may(library):
    """Over module borders: what the children load is seen in the parent, and everything is still connected to what it was."""
    bodies = hierarchy.parse(export(Top(), area.TOP))
    mapped = mapping.map_bodies(bodies, list(hierarchy.instances(bodies, area.TOP)), library)
    top = mapped[area.TOP]
    assert top["cells"]["BUF"] >= 3
    assert top["memory_ports"]["clk"] == ("input", 1)
    loads, cells = {}, drive.Cells.of(library)
    for kind, pins in re.findall(r"^  (\w+) \w+ \((.*)\);$", top["netlist"], re.MULTILINE):
        for pin, net in re.findall(r"\.(\w+)\(([^)]*)\)", pins):
            if kind in cells.limit and pin in cells.outputs[kind]:
                loads.setdefault(net, [0.0, 0.0])[1] = cells.limit[kind]
            elif pin not in ("C", "clk"):
                loads.setdefault(net, [0.0, 0.0])[0] += 0.01
    assert max(load - limit for load, limit in loads.values() if limit) <= 1e-9
    source = {out: net for net, out in re.findall(r"BUF g\d+ \(\.A\((\w+)\), \.Y\((\w+)\)\)", top["netlist"])}
    roots = re.findall(r"accelerator_pe pe_\d+ \(.*?\.d\((\w+)\)", top["netlist"])
    assert len(roots) == 24 and len(set(roots)) >= 3
    while any(net in source for net in roots):
        roots = [source.get(net, net) for net in roots]
    assert len(set(roots)) == 1 and f".Q({roots[0]})" in top["netlist"]


@pytest.mark.parametrize("number, kinds", [(4, {"INV": 1}), (6, {"INV4": 1}), (10, {"INV": 1, "BUF": 1}), (40, {"INV": 1, "BUF": 4})])
def test_larger_cells_and_buffers(library, number, kinds):
    """What an inverter becomes with so many loads."""
    body = {"ports": {"a": ["input", [2]]}, "instances": [""] * (number + 1), "names": {}, "cells": [
        ["INV", {"A": [2], "Y": [3]}, None], *(["DFF", {"C": [1], "D": [3], "Q": [4 + n]}, None] for n in range(number))]}
    border = drive.strengthen(body, {}, drive.Cells.of(library), library)
    assert drive.count(body) == {"DFF": number, **kinds}
    assert border.load == {"a": [0.01]}


def command(tmp_path, **arguments):
    return timing.main(argparse.Namespace(**{"config": "tiny", "liberty": None, "out": tmp_path, **arguments}))


@needs_sta
def test_command(library, tmp_path, monkeypatch, capsys):
    verilog = export(Top(), area.TOP)
    monkeypatch.setattr(timing, "export", lambda component, top: verilog if top == area.TOP else export(component, top))
    monkeypatch.setattr(timing, "Accelerator", lambda _: None)
    assert command(tmp_path, liberty=tmp_path / "plain.lib") == 0
    said = json.loads((tmp_path / "tiny" / "timing.json").read_text())
    assert said["critical_ns"] == max(unit["ns"] for unit in said["units"])
    assert said["ratio"] == pytest.approx(said["critical_ns"] / said["reference"]["ns"])
    assert said["sta"].startswith("OpenSTA ") and said["library_sha256"] == library.digest and "clock" in said["assumptions"]
    assert "INT8 multiply-accumulate" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    ({}, r"^delays come from a cell library: name one with --liberty FILE\.lib \(make timing LIBERTY=FILE\.lib\)$"),
    ({"liberty": "absent.lib"}, r"^liberty absent\.lib: No such file or directory$"),
    ({"config": "huge"}, r"^configuration 'huge' is neither one of .* nor a \.toml file$"),
])
def test_what_cannot_be_used(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        command(tmp_path, **arguments)


def test_missing_sta(library, tmp_path, monkeypatch):
    monkeypatch.setattr(opensta.shutil, "which", lambda _: None)
    with pytest.raises(TimingError, match=r"^no OpenSTA: install it with 'apt-get install opensta' \(Debian, Ubuntu\)$"):
        command(tmp_path, liberty=tmp_path / "plain.lib")


@needs_sta
def test_unwritable_folder(library, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot write .*: Not a directory$"):
        command(tmp_path, liberty=tmp_path / "plain.lib", out=tmp_path / "file")


@needs_sta
def test_errors_of_sta_are_passed_on(tmp_path):
    with pytest.raises(TimingError, match=r"^OpenSTA: .+"):
        session(tmp_path, CHAIN, "absent")


@needs_sta
def test_a_library_without_delays(library, tmp_path):
    (tmp_path / "bare.lib").write_text(liberty(timed=False))
    with pytest.raises(TimingError, match=r"^library plain gives no path a time: it has no delays$"):
        command(tmp_path, liberty=tmp_path / "bare.lib")
