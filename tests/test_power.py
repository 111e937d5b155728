"""Power: energies of a module small enough to be computed by hand from the Liberty's numbers, toggles against Icarus, OpenSTA's figures, errors."""

import argparse
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from sdp.config import load
from synth import area, power
from synth.cells import liberty, mapping
from synth.cells.cell_library import LibraryError, read_liberty
from synth.gate_level import cell_model, gate_sim, netlist, power_check, switching
from synth.gate_level.activity import Trace
from synth.output import OutputError
from synth.sta import opensta

TABLE = """(grid) {{ index_1 ("0.1, 0.3"); index_2 ("0.001, 0.1"); values ("{0}, {1}", "{2}, {3}"); }}"""


def _both(kind, unit, rise, fall):
    """Tables that do not depend on slew or load, but for ``rise`` given as four values."""
    rise, fall = (value if isinstance(value, tuple) else (value,) * 4 for value in (rise, fall))
    return f"{kind[0]} {TABLE.format(*rise)} {kind[1]} {TABLE.format(*fall)}"


def _arc(pin, rise, fall, delay, timing="combinational"):
    return (f'timing () {{ related_pin : "{pin}"; timing_type : {timing}; {_both(("cell_rise", "cell_fall"), "ns", delay, delay)} '
            f'{_both(("rise_transition", "fall_transition"), "ns", 0.1, 0.1)} }}\n'
            f'internal_power () {{ related_pin : "{pin}"; {_both(("rise_power", "fall_power"), "pJ", rise, fall)} }}')


LIBERTY = f"""
library ("made") {{
  time_unit : "1ns"; voltage_unit : "1V"; capacitive_load_unit (1,pf); leakage_power_unit : "1nW"; nom_voltage : 1.0;
  current_unit : "1mA"; pulling_resistance_unit : "1kohm"; delay_model : table_lookup; nom_process : 1; nom_temperature : 25;
  operating_conditions (typical) {{ process : 1; temperature : 25; voltage : 1.0; }} default_operating_conditions : typical;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50; output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  lu_table_template (grid) {{ variable_1 : input_net_transition; variable_2 : total_output_net_capacitance; index_1 ("0, 1"); index_2 ("0, 1"); }}
  power_lut_template (grid) {{ variable_1 : input_transition_time; variable_2 : total_output_net_capacitance; index_1 ("0, 1"); index_2 ("0, 1"); }}
  cell (INV) {{
    area : 1; cell_leakage_power : 3;
    pin (A) {{ direction : input; capacitance : 0.002; }}
    pin (Y) {{ direction : output; function : "!A"; {_arc("A", 0.005, 0.003, 0.1)} }}
  }}
  cell (AND2) {{
    area : 2; cell_leakage_power : 5;
    pin (A) {{ direction : input; capacitance : 0.003; }}
    pin (B) {{ direction : input; capacitance : 0.004; internal_power () {{ {_both(("rise_power", "fall_power"), "pJ", 0.0005, 0.0007)} }} }}
    pin (Y) {{ direction : output; function : "A*B"; {_arc("A", (0.010, 0.030, 0.010, 0.030), 0.007, 0.05)} {_arc("B", 0.020, 0.017, 0.05)} }}
  }}
  cell (DFF) {{
    area : 9; cell_leakage_power : 7;
    ff (IQ, IQN) {{ clocked_on : "C"; next_state : "D"; }}
    pin (C) {{ direction : input; clock : true; capacitance : 0.001;
      internal_power () {{ when : "D"; {_both(("rise_power", "fall_power"), "pJ", 0.040, 0.020)} }}
      internal_power () {{ {_both(("rise_power", "fall_power"), "pJ", 0.011, 0.012)} }} }}
    pin (D) {{ direction : input; capacitance : 0.0015; internal_power () {{ when : "C"; {_both(("rise_power", "fall_power"), "pJ", 0.001, 0.002)} }}
      internal_power () {{ {_both(("rise_power", "fall_power"), "pJ", 0.009, 0.008)} }} }}
    pin (Q) {{ direction : output; function : "IQ"; {_arc("C", 0.025, 0.026, 0.2, "rising_edge")} }}
  }}
}}
"""
WIRE, PERIOD = 4.0, 10_000.0
GATES = "module top (a, b, y); input a, b; output y; wire n; INV i1 (.A(a), .Y(n)); AND2 i2 (.A(n), .B(b), .Y(y)); endmodule"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "made.lib"
    path.write_text(LIBERTY)
    return read_liberty(path)


def _flat(library, verilog):
    models = cell_model.read(library)
    flat = netlist.flatten(netlist.read({"top": verilog}), "top", models)
    return models, flat, switching.electrical(flat, models, WIRE)


def _bits(values):
    return np.array(values, np.uint8)[:, None]


def _simulate(flat, state, inputs, outputs, warm=0):
    return gate_sim.simulate(flat, state.delays, inputs, outputs, warm=warm, half=PERIOD / 2)


@pytest.mark.parametrize("function, pins, value", [
    ("!(A*B)", "AB", 0b0111), ("A B'+C", "ABC", 0b11110010), ("A|B&C", "ABC", 0b11101010), ("A^B*C", "ABC", 0b01100000), ("(A)'", "A", 0b01), ("1", "A", 0b11),
])
def test_functions(function, pins, value):
    assert liberty.truth_table(function, list(pins)) == value


@pytest.mark.parametrize("function, message", [
    ("A*", r"^function 'A\*': its end is not expected$"), ("A*Z", r"^function 'A\*Z': 'Z' is none of A$"), ("(A", r"^function '\(A': a bracket is not closed$"),
    ("A)", r"^function 'A\)': '\)' is not expected$")])
def test_bad_functions(function, message):
    with pytest.raises(ValueError, match=message):
        liberty.truth_table(function, ["A"])


def test_energy_of_gates_by_hand(library):
    models, flat, state = _flat(library, GATES)
    # a: 0 1 0 (n: 1 0 1), b: 1 1 1: y falls in cycle 1 and rises in cycle 2, both because of input A. Then b falls: y falls because of B; a rises: B decides, y stays.
    inputs = {"a": _bits([0, 1, 0, 0, 1]), "b": _bits([1, 1, 1, 0, 0])}
    counts = _simulate(flat, state, inputs, {"y": _bits([1, 0, 1, 0, 0])}, warm=1)
    assert counts.wrong == 0 and counts.cycles == 4
    found, glitches = switching.energies(flat, models, state, counts, PERIOD)
    total = dict(zip(switching.PARTS, 4 * found.sum(axis=0)))
    a, n, b = 3, 3, 1  # toggles
    assert total["pins"] == pytest.approx(0.5 * (a * 2 + n * 3 + b * 4))
    assert total["wires"] == pytest.approx(0.5 * (a + n + b) * WIRE)
    # The output drives nothing: the table is read at its first load, 10 fJ. Input A hides nothing; B's only transition made the output switch.
    assert total["internal"] == pytest.approx((3 + 5 + 3) + (7 + 10 + 17))
    assert total["leakage"] == pytest.approx(4 * (3 + 5) * PERIOD * 1e-6) and total["clock"] == 0 and glitches.sum() == 0


def test_hidden_transitions(library):
    models, flat, state = _flat(library, GATES)
    counts = _simulate(flat, state, {"a": _bits([1, 1, 1]), "b": _bits([0, 1, 0])}, {}, warm=1)
    found, _ = switching.energies(flat, models, state, counts, PERIOD)
    assert 2 * found.sum(axis=0)[2] == pytest.approx(0.5 + 0.7)  # b rises and falls while the inverter holds the output


@pytest.mark.parametrize("arrival, on_data, on_fall", [(200, 1 + 2, 20 + 20 + 12), (6000, 9 + 8, 12 + 20 + 20)])
def test_energy_of_a_flip_flop_by_hand(library, arrival, on_data, on_fall):
    """Data that changes while the clock is high, or low, which costs more as the first latch is open."""
    models, flat, state = _flat(library, "module top (clk, d, q); input clk, d; output q; DFF f (.C(clk), .D(d), .Q(q)); endmodule")
    state.delays[-1] = arrival  # of d, the last driver
    counts = _simulate(flat, state, {"clk": _bits([0] * 4), "d": _bits([0, 1, 1, 0])}, {"q": _bits([0, 0, 1, 1])}, warm=1)
    assert counts.wrong == 0
    found, _ = switching.energies(flat, models, state, counts, PERIOD)
    total = dict(zip(switching.PARTS, 3 * found.sum(axis=0)))
    # Before the rising edges D is 0, 1, 1, at the falling ones 1, 1, 0, or, where it is late, 0, 1, 1.
    assert total["internal"] == pytest.approx(on_data + 25)
    pin = 1 + WIRE
    assert total["clock"] == pytest.approx((11 + 40 + 40) + on_fall + 3 * pin)  # no buffer in this library, so no tree
    assert total["pins"] == pytest.approx(0.5 * 2 * 1.5) and total["leakage"] == pytest.approx(3 * 7 * PERIOD * 1e-6)


def test_tables_between_their_points(library):
    models = cell_model.read(library)
    number = models.gates["AND2"][0].power[0, 1]
    assert models.tables.look_up(np.array(number), np.array(200.0), np.array([0.0, 1.0, 50.5, 100.0, 1e6])) == pytest.approx([10, 10, 20, 30, 30])


@pytest.mark.parametrize("delay, toggles", [(100, 2), (40, 0)])
def test_glitches_are_inertial(library, delay, toggles):
    """``a AND NOT a``: a pulse as long as the inverter's delay, which a gate of 50 ps lets through or not."""
    _, flat, state = _flat(library, "module top (a, y); input a; output y; wire n; INV i (.A(a), .Y(n)); AND2 g (.A(a), .B(n), .Y(y)); endmodule")
    delays = state.delays.copy()
    delays[[flat.kinds[kind].cell for kind in flat.gates].index("INV")] = delay
    counts = gate_sim.simulate(flat, delays, {"a": _bits([0, 1, 1])}, {"y": _bits([0, 0, 0])}, warm=0, half=PERIOD / 2)
    y = flat.outputs["y"][0]
    assert counts.wrong == 0 and counts.toggles[y].sum() == toggles and counts.settled[y] == 0


def _random_netlist(random, gates=40):
    """Gates and flip-flops on four inputs: Verilog with cells, and the same for Icarus with a delay on every gate."""
    nets, cells, models = ["a", "b", "c", "d"], [], []
    for n in range(gates):
        kind = ("INV", "AND2", "DFF")[random.choice(3, p=(0.4, 0.4, 0.2))]
        x, y = random.choice(nets, 2)
        delay = int(random.integers(1, 90))
        if kind == "DFF":
            cells.append(f"DFF g{n} (.C(clk), .D({x}), .Q(n{n}));")
            models.append((f"reg r{n} = 0; always @(posedge clk) r{n} <= {x}; assign #{delay} n{n} = r{n};", delay))
        else:
            cells.append(f"INV g{n} (.A({x}), .Y(n{n}));" if kind == "INV" else f"AND2 g{n} (.A({x}), .B({y}), .Y(n{n}));")
            models.append((f"assign #{delay} n{n} = {'~' + x if kind == 'INV' else f'{x} & {y}'};", delay))
        nets.append(f"n{n}")
    wires = "".join(f"wire n{n};\n" for n in range(gates))
    return "module top (clk, a, b, c, d, y); input clk, a, b, c, d; output [%d:0] y;\n%s%s\nassign y = {%s}; endmodule" % (
        gates - 1, wires, "\n".join(cells), ", ".join(f"n{n}" for n in reversed(range(gates)))), wires, models


@pytest.mark.parametrize("seed", range(3))
def test_toggles_equal_those_of_icarus(library, tmp_path, seed):
    """Every net's toggles, glitches included, and its value at the end of every cycle."""
    random = np.random.default_rng(seed)
    verilog, wires, models = _random_netlist(random)
    _, flat, state = _flat(library, verilog)
    cycles, number = 50, len(models)
    inputs = {name: _bits(random.integers(0, 2, cycles)) for name in "abcd"}
    place = {int(net): n for n, net in enumerate(flat.outputs["y"])}
    delays = np.ones_like(state.delays)
    for driver, net in enumerate(gate_sim.drivers(flat)):
        if int(net) in place:
            delays[driver] = models[place[int(net)]][1]
    rows = ["".join(str(inputs[name][i, 0]) for name in "abcd") for i in range(cycles)]
    steps = "\n".join(f"#1 clk = 1; #1 {{a, b, c, d}} = 4'b{row}; #5000 clk = 0; #4000 $display(\"%b\", y);" for row in rows)
    (tmp_path / "t.v").write_text(f"`timescale 1ps/1ps\nmodule t; reg clk = 0, a = 0, b = 0, c = 0, d = 0; integer k; integer count [0:{number - 1}];\n{wires}"
                                  + "\n".join(text for text, _ in models) + f"\nwire [{number - 1}:0] y = {{{', '.join(f'n{n}' for n in reversed(range(number)))}}};\n"
                                  + "\n".join(f"always @(n{n}) if (on) count[{n}] = count[{n}] + 1;" for n in range(number))
                                  + f"\nreg on = 0; initial begin for (k = 0; k < {number}; k = k + 1) count[k] = 0; #9000 on = 1;\n{steps}\n"
                                  f"for (k = 0; k < {number}; k = k + 1) $display(\"count %0d\", count[k]); $finish; end endmodule\n")
    subprocess.run(["iverilog", "-g2005", "-o", tmp_path / "t.vvp", tmp_path / "t.v"], check=True)
    said = subprocess.run(["vvp", "-n", tmp_path / "t.vvp"], check=True, capture_output=True, text=True).stdout.splitlines()
    expected = np.array([[int(bit) for bit in reversed(line)] for line in said if re.fullmatch("[01]+", line)], np.uint8)
    counts = gate_sim.simulate(flat, delays, {"clk": _bits([0] * cycles), **inputs}, {"y": expected}, warm=0, half=5000)
    assert counts.wrong == 0
    assert counts.toggles[flat.outputs["y"]].sum(axis=(1, 2)).tolist() == [int(line.split()[1]) for line in said if line.startswith("count")]


def test_netlist_that_differs_is_noticed(library, tmp_path, monkeypatch):
    monkeypatch.setattr(mapping, "CACHE", tmp_path)
    meter = power.Meter({"top": GATES}, "top", library, 100.0, name=area.unit_name)
    ports = {"a": _bits([0, 1, 0]), "b": _bits([1, 1, 1]), "y": _bits([1, 0, 1])}
    trace = Trace("layer", 4, True, 1, 8.0, ports)
    measured = meter.measure(trace)
    assert measured.pj_per_mac == pytest.approx(measured.pj_per_cycle * 2 / 8)
    with monkeypatch.context() as context:  # the same once more is not simulated
        context.setattr(gate_sim, "simulate", None)
        assert meter.measure(trace).pj_per_cycle == measured.pj_per_cycle > 0
    with pytest.raises(power.PowerError, match=r"^layer layer: 1 bits of the netlist's outputs differ from the RTL's, the first in cycle 2, output bit 0$"):
        meter.measure(Trace("layer", 4, True, 1, 8.0, {**ports, "y": _bits([1, 0, 0])}))


@pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA is installed by the targets that need it")
def test_opensta_agrees(library):
    """Two inverters, rising as often as falling: then the means that OpenSTA works with are what was counted."""
    models, flat, state = _flat(library, GATES.replace("AND2 i2 (.A(n), .B(b), .Y(y))", "INV i2 (.A(n), .Y(y))"))
    counts = _simulate(flat, state, {"a": _bits([0, 1, 0, 1, 1, 0, 1]), "b": _bits([0] * 7)}, {}, warm=1)
    found = power_check.compare(flat, models, state, counts, library, "top", PERIOD)
    assert found["gates"] == 2 and found["ours_mw"] == pytest.approx(found["opensta_mw"], rel=1e-4)
    assert found["ours_mw"]["internal"] == pytest.approx(2 * 5 * (5 + 3) / 2 / 6 / PERIOD) and found["ours_mw"]["switching"] > 0


def test_flat_netlist_of_a_hierarchy(library):
    models = cell_model.read(library)
    inner = "module inner (x, z, through); input x; output z, through; INV i (.A(x), .Y(z)); assign through = x; endmodule"
    outer = "module top (a, y, z); input a; output y, z; wire n, t; inner u1 (.x(a), .z(n), .through(t)); inner u2 (.x(t), .z(y), .through(z)); endmodule"
    flat = netlist.flatten(netlist.read({"top": outer, "inner": inner}), "top", models)
    assert flat.owners == [("top", "top"), ("inner", "top.u1"), ("inner", "top.u2")]
    assert flat.pins[:, 0].tolist() == [flat.inputs["a"][0]] * 2 and flat.outputs["z"] == flat.inputs["a"] and flat.gate_owner.tolist() == [1, 2]
    with pytest.raises(netlist.NetlistError, match=r"^module top: there is no model of NAND9 \(i1\)$"):
        netlist.flatten(netlist.read({"top": GATES.replace("INV", "NAND9")}), "top", models)


def _arguments(folder, **changed):
    return argparse.Namespace(**{"config": load("tiny"), "liberty": folder / "made.lib", "clock": None, "model": None, "test": None, "calibration": None,
                                 "preprocess": "none", "out": folder, **changed})


def test_unusable_library(tmp_path):
    with pytest.raises(LibraryError, match=r"^liberty .*absent\.lib: No such file or directory$"):
        power.main(_arguments(tmp_path, liberty=tmp_path / "absent.lib"))
    (tmp_path / "made.lib").write_text(re.sub(r"internal_power \(\)", "other ()", LIBERTY))
    with pytest.raises(LibraryError, match=r"^library made has no tables of internal power \(internal_power, rise_power\), so no energy can be had from it$"):
        power.main(_arguments(tmp_path))
    (tmp_path / "made.lib").write_text(LIBERTY + "}")
    with pytest.raises(LibraryError, match=r"^library made: line \d+ closes a group that was not opened$"):
        power.main(_arguments(tmp_path))
    with pytest.raises(power.PowerError, match=r"^--liberty is missing: energies come from a cell library$"):
        power.main(_arguments(tmp_path, liberty=None))
    with pytest.raises(power.PowerError, match=r"^configuration 'drq-small': its drq array has no budgets to measure; 'python -m compare.power' measures the rivals' "
                                               r"arrays$"):
        power.main(_arguments(tmp_path, config="drq-small"))


def test_missing_tool(tmp_path, monkeypatch):
    (tmp_path / "made.lib").write_text(LIBERTY)
    monkeypatch.setattr(opensta.shutil, "which", lambda tool: None if tool == "sta" else f"/bin/{tool}")
    with pytest.raises(opensta.TimingError, match=r"^no OpenSTA: install it with 'apt-get install opensta' \(Debian, Ubuntu\)$"):
        power.main(_arguments(tmp_path))


@pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA is installed by the targets that need it")
def test_unwritable_folder_and_model_without_data(tmp_path):
    (tmp_path / "made.lib").write_text(LIBERTY)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^cannot write .*: Not a directory$"):
        power.main(_arguments(tmp_path, out=tmp_path / "file"))
    with pytest.raises(power.PowerError, match=r"^--model needs --test and --calibration, npz files as for 'sdp run'$"):
        power.main(_arguments(tmp_path, model=tmp_path / "x.onnx"))


@pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA is installed by the targets that need it")
def test_another_network_does_not_replace_what_energy_takes(tmp_path, monkeypatch):
    (tmp_path / "made.lib").write_text(LIBERTY)
    monkeypatch.setattr(power, "workload", lambda args: SimpleNamespace(name="digits" if args.model is None else "other"))
    monkeypatch.setattr(power, "report", lambda config, library, clock, work, progress: {"network": work.name})
    monkeypatch.setattr(power, "show", lambda found, console: None)
    for model, file in ((None, "power.json"), (tmp_path / "other.onnx", "power-other.json"), (None, "power.json")):
        assert power.main(_arguments(tmp_path, model=model)) == 0
        assert json.loads((tmp_path / "tiny" / file).read_text()) == {"network": "digits" if model is None else "other"}
