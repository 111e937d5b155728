"""Memories as borders of a netlist: what they read is driven as it was recorded, what they are given is compared, and none of their energy is counted."""

import subprocess

import numpy as np
import pytest

from hw.drq_sums import DrqSums
from hw.verilog import export
from sdp.config import Config
from sim.vcd import Waves
from synth.cells import hierarchy, mapping
from synth.cells.cell_library import CellLibrary
from synth.gate_level import cell_model, gate_sim, netlist, switching
from synth.gate_level.activity import Trace
from synth.gate_level.meter import Meter, PowerError
from tests.test_power import PERIOD, WIRE, _bits, library  # noqa: F401, a fixture

INNER = """module inner (a, b, y); input a, b; output y; wire n, q; INV i1 (.A(a), .Y(n));
inner_memory m (.given(n), .clk(b), .read(q)); AND2 i3 (.A(q), .B(b), .Y(y)); endmodule"""
TOP = "module top (a, b, x, y); input a, b; output x, y; inner u1 (.a(a), .b(b), .y(x)); inner u2 (.a(x), .b(b), .y(y)); endmodule"
PINS = {"inner_memory": {"given": ("input", "word"), "read": ("output", "data")}}
CYCLES = 200


def test_pins_are_ports_of_the_netlist(library):  # noqa: F811
    models = cell_model.read(library)
    texts = {"top": TOP, "inner": INNER}
    flat = netlist.flatten(netlist.read(texts), "top", models, PINS)
    assert {name: len(nets) for name, nets in flat.inputs.items()} == {"a": 1, "b": 1, "u1.data": 1, "u2.data": 1}
    assert {name: len(nets) for name, nets in flat.outputs.items()} == {"x": 1, "y": 1, "u1.word": 1, "u2.word": 1}
    state = switching.electrical(flat, models, WIRE)
    a, b, first, second = ([0, 1, 1, 0, 1], [1, 1, 1, 1, 0], [0, 1, 0, 1, 1], [1, 0, 0, 1, 1])
    x = [p & q for p, q in zip(first, b)]
    ports = {"a": a, "b": b, "u1.data": first, "u2.data": second, "x": x, "y": [p & q for p, q in zip(second, b)],
             "u1.word": [1 - v for v in a], "u2.word": [1 - v for v in x]}
    ports = {name: _bits(values) for name, values in ports.items()}
    counts = gate_sim.simulate(flat, state.delays, ports, ports, warm=1, half=PERIOD / 2)
    assert counts.wrong == 0
    # The net of a pin that is given something has no load in the memory; what is read loads the gate that it drives.
    assert state.load[flat.outputs["u1.word"][0]] == 0 and state.load[flat.inputs["u1.data"][0]] == 3 + WIRE
    for name in ("u1.word", "u2.word", "u1.data"):
        changed = {**ports, name: ports[name] ^ _bits([0, 0, 0, 1, 0])}
        assert gate_sim.simulate(flat, state.delays, changed, changed, warm=1, half=PERIOD / 2).wrong > 0
    with pytest.raises(netlist.NetlistError, match=r"^module inner: there is no model of inner_memory \(m\)$"):
        netlist.flatten(netlist.read(texts), "top", models)


def test_energy_of_the_read_data_is_that_of_a_port(library):  # noqa: F811
    """The same gate behind a memory and behind a port: every part of its energy is the same, the memory adds nothing."""
    models, found = cell_model.read(library), []
    port = "module top (q, b, y); input q, b; output y; AND2 g (.A(q), .B(b), .Y(y)); endmodule"
    held = "module top (b, y); input b; output y; wire q; top_memory m (.address(b), .data(q)); AND2 g (.A(q), .B(b), .Y(y)); endmodule"
    for verilog, memories, name in ((port, {}, "q"), (held, {"top_memory": {"address": ("input", "b"), "data": ("output", "word")}}, "word")):
        flat = netlist.flatten(netlist.read({"top": verilog}), "top", models, memories)
        state = switching.electrical(flat, models, WIRE)
        ports = {name: _bits([0, 1, 1, 1, 0]), "b": _bits([1, 1, 0, 1, 1]), "y": _bits([0, 1, 0, 1, 0])}
        counts = gate_sim.simulate(flat, state.delays, ports, ports, warm=1, half=PERIOD / 2)
        assert counts.wrong == 0
        found.append(switching.energies(flat, models, state, counts, PERIOD)[0].sum(axis=0))
    assert found[0].sum() > 0 and found[0].tolist() == pytest.approx(found[1].tolist())


def test_names_of_pins():
    text = "module m(clk);\n  reg [3:0] _0_;\n  assign data = _0_;\n  assign n_1[3:0] = total;\nendmodule"
    assert netlist.memory_pins(text, {"_0_": ("output", 4), "clk": ("input", 1), "n_1": ("input", 4), "_1_": ("output", 2)}) == {
        "_0_": ("output", "data"), "n_1": ("input", "n_1"), "_1_": ("output", "_1_")}


@pytest.fixture(scope="module")
def sums(tmp_path_factory, library):  # noqa: F811
    """DRQ's accumulators, mapped, and what they and their memories do under Icarus: (Meter, Trace)."""
    config = Config(name="few", array="drq", group=2, lanes=2, rows=8, columns=1, ports=1, outputs=1, reduction=64, activation_words=64, weight_words=16, scale_words=16)
    folder, random = tmp_path_factory.mktemp("sums"), np.random.default_rng(4)
    verilog = export(DrqSums(config), "sums")
    bodies = hierarchy.parse(verilog)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "CACHE", folder)
        # ABC's mapper wants a larger library.
        patch.setattr(CellLibrary, "mapping", "dfflibmap -liberty library.lib\nopt -fast\nabc -g AND\nchtype -set AND2 t:$_AND_\nchtype -set INV t:$_NOT_")
        mapped = mapping.map_bodies(bodies, ["sums"], library)["sums"]
    assert [memory["words"] for memory in mapped["memories"]] == [8, 8]
    pins = netlist.memory_pins(bodies["sums"].text, mapped["memory_ports"])
    meter = Meter({"sums": mapped["netlist"]}, "sums", library, 100.0, memories={"sums_memory": pins})
    wanted = [name for name in meter.flat.inputs if name in ("rst", "leaves", "first", "last", "partials", "draining", "shift")]
    steps = []
    for cycle in range(CYCLES):
        values = {name: random.integers(0, 1 << min(len(meter.flat.inputs[name]), 31)) for name in wanted}
        values |= {"rst": int(cycle < 2), "leaves": int(random.random() < 0.8), "first": int(random.random() < 0.3), "draining": int(random.random() < 0.4)}
        steps.append("clk = 0; " + " ".join(f"{name} = {value};" for name, value in values.items()) + " #1 clk = 1; #1;")
    regs = "\n".join(f"reg [{len(meter.flat.inputs[name]) - 1}:0] {name};" for name in wanted)
    clear = "for (k = 0; k < 8; k = k + 1) begin dut.bank_0[k] = 0; dut.bank_1[k] = 0; end dut._0_ = 0; dut._1_ = 0;"
    (folder / "t.v").write_text(f"module t; reg clk; integer k;\n{regs}\nsums dut (.clk(clk), {', '.join(f'.{name}({name})' for name in wanted)});\n"
                                f"initial begin $dumpfile(\"{folder / 't.vcd'}\"); $dumpvars(0, t); {clear}\n" + "\n".join(steps) + "\n$finish; end endmodule\n")
    (folder / "sums.v").write_text(verilog)
    subprocess.run(["iverilog", "-g2005", "-o", folder / "t.vvp", folder / "t.v", folder / "sums.v"], check=True)
    subprocess.run(["vvp", "-n", folder / "t.vvp"], check=True, capture_output=True)
    waves = Waves(folder / "t.vcd", meter.ports)
    assert not waves.missing
    ports = {name: np.array([[waves.value(name, cycle) >> bit & 1 for bit in range(width)] for cycle in range(CYCLES)], np.uint8)
             for name, width in meter.ports.items()}
    return meter, Trace("layer", 0, False, 4, 1.0, ports)


def test_accumulators_with_their_memories(sums, tmp_path, monkeypatch):
    """All pins of both memories, in all cycles: addresses, enables, data, as the RTL has them."""
    monkeypatch.setattr(mapping, "CACHE", tmp_path)
    meter, trace = sums
    reads = [name for name in trace.ports if name.startswith("signature__data")]
    assert len(reads) == 2 and all(trace.ports[name].any() for name in reads) and meter.measure(trace).pj_per_cycle > 0
    given = [name for name in meter.flat.outputs if name not in ("blocked", "captured", "drain", "step_ends")]
    assert len(given) >= 6
    for name in (*given, *reads):
        bits = trace.ports[name].copy()
        bits[CYCLES // 2 :, 0] ^= 1
        with pytest.raises(PowerError, match=r"^layer layer: \d+ bits of the netlist's outputs differ from the RTL's, the first in cycle \d+, output bit \d+$"):
            meter.measure(Trace("layer", 0, False, 4, 1.0, {**trace.ports, name: bits}))
