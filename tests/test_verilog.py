"""The Verilog writer: the same bytes everywhere, equal modules once, ports that arrive."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from amaranth import Cat, ClockDomain, Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.mac_array import MacArray
from hw.verilog import describe, export
from hw.verilog_ports import PortError, flat_ports
from sdp.config import NAMED
from sim.toolchain import lint

ROOT = Path(__file__).resolve().parent.parent


class Leaf(wiring.Component):
    """Its port ``a`` is cut differently in every instance, as far as the netlist knows."""

    a: In(8)
    b: In(signed(4))
    y: Out(8)

    def __init__(self, step):
        self.step = step
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a + self.b + self.step)
        return m


class Tree(wiring.Component):
    x: In(64)
    z: In(32)
    y: Out(64)

    def __init__(self, steps=(1, 1, 1, 1, 1, 1, 1, 1)):
        self.steps = steps
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        late = Signal(64)
        m.d.sync += late.eq(self.x)
        for n, step in enumerate(self.steps):
            leaf = m.submodules[f"leaf_{n}"] = Leaf(step)
            # From the port, from a register, from both.
            source = [self.x[8 * n : 8 * n + 8], late[8 * n : 8 * n + 8], Cat(self.x[n : n + 3], late[n : n + 5])][n % 3]
            m.d.comb += [leaf.a.eq(source), leaf.b.eq(self.z[4 * n : 4 * n + 4]), self.y[8 * n : 8 * n + 8].eq(leaf.y)]
        return m


class Plain(wiring.Component):
    """Nothing but ports."""

    _MustUse__silence = True  # the warning for what is never elaborated
    x: In(64)
    z: In(signed(3))
    y: Out(64)

    def elaborate(self, platform):
        return Module()


def component(signature, elaborate):
    """A component from both, driving nothing by itself."""
    class Anonymous(wiring.Component):
        _MustUse__silence = True  # rejected ones are never elaborated

        def __init__(self):
            super().__init__(signature)

        def elaborate(self, platform):
            m = Module()
            elaborate(self, m)
            return m

    return Anonymous()


def modules(text):
    return re.findall(r"^module (\w+)", text, re.MULTILINE)


def test_same_bytes_under_every_hash_seed_and_in_every_folder(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from hw.mac_array import MacArray; from hw.verilog import export; from sdp.config import NAMED\n"
        "sys.stdout.write(export(MacArray(NAMED['tiny']), 'mac_array'))"
    )
    texts = set()
    for seed, folder in (("0", ROOT), ("1", tmp_path), ("random", tmp_path)):
        env = {**os.environ, "PYTHONHASHSEED": seed, "AMARANTH_USE_YOSYS": "system"}
        texts.add(subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout)
    assert texts == {export(MacArray(NAMED["tiny"]), "mac_array")}


def test_equal_modules_are_written_once():
    config = NAMED["tiny"]
    text = export(MacArray(config), "mac_array")
    # The last row has nothing to chain on: a body of its own.
    assert modules(text) == ["mac_array", "mac_array_multiplier", "mac_array_pe", "mac_array_pe_2"]
    instances = re.findall(r"^  mac_array_pe(?:_2)? pe_\d+_\d+ \(", text, re.MULTILINE)
    assert len(instances) == config.rows * config.columns


def test_ports_cut_differently_do_not_prevent_sharing():
    text = export(Tree(), "tree")
    assert modules(text) == ["tree", "tree_leaf"]
    assert re.search(r"^module tree_leaf\(clk, rst, a, b, y\);", text, re.MULTILINE)


def test_different_bodies_stay_apart():
    assert modules(export(Tree((1, 2, 1, 2, 2, 1, 1, 1)), "tree")) == ["tree", "tree_leaf", "tree_leaf_2"]


def test_shared_modules_behave_as_before(tmp_path):
    from sim.cocotb_runner import run

    for simulator in ("icarus", "verilator"):
        run(Tree((1, 2, 1, 2, 2, 1, 1, 1)), "tree", "tests.cocotb_tree", simulator=simulator)


def test_only_plain_identifiers_and_no_processes():
    text = export(MacArray(NAMED["tiny"]), "mac_array")
    assert "\\" not in text and "(*" not in text
    assert not re.search(r"always @\*|always_comb", text)


def test_memories_start_unknown_unless_they_hold_something():
    def memory(init):
        def elaborate(self, m):
            m.submodules.memory = memory = Memory(shape=8, depth=4, init=init)
            read = memory.read_port()
            m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data)]
        return component({"address": In(2), "data": Out(8)}, elaborate)

    assert "initial" not in export(memory([]), "memory")
    assert "initial" in export(memory([]), "memory", initialise=True)
    assert "8'h07" in export(memory([0, 7]), "memory")


def test_shared_modules_lint_clean(tmp_path):
    """The whole accelerator: ``test_accepted``."""
    path = tmp_path / "tree.v"
    path.write_text(export(Tree(), "tree"))
    lint(path, "tree", ROOT / "hw" / "lint.vlt")


@pytest.mark.parametrize("signature, message", [
    ({"a": Out(wiring.Signature({"b": Out(1)})), "a__b": Out(1)}, r"members '.*' and '.*' both become port 'a__b': rename one"),
    ({"output": Out(1)}, r"member 'output' has a name that Verilog reserves: rename it"),
    ({"rst": In(1)}, r"member 'rst' has the name of the clock or reset of domain 'sync': rename it"),
    ({"none": In(0)}, r"member 'none' has no bits: leave it out of the signature"),
    ({"s": In(stream.Signature(8, always_ready=True))}, r"member 's\.ready' is a constant and no port \(.*\): connect it inside"),
])
def test_ports_that_would_not_arrive_are_rejected(signature, message):
    with pytest.raises(PortError, match=f"^{message}$"):
        export(component(signature, lambda self, m: None), "top")


def test_constant_outputs_are_noticed():
    def drive(self, m):
        m.d.comb += self.driven.eq(self.a)

    unit = component({"a": In(4), "driven": Out(4), "forgotten": Out(4)}, drive)
    with pytest.warns(UserWarning, match=r"^top: output forgotten is constant; is it driven\?$"):
        export(unit, "top")
    with pytest.raises(PortError, match=r"^top: output forgotten is constant; is it driven\?$"):
        export(unit, "top", constant=())
    export(unit, "top", constant=("forgotten",))


def test_a_clock_that_nothing_drives_is_an_error():
    def elaborate(self, m):
        m.domains.sync = ClockDomain()
        m.d.sync += self.q.eq(~self.q)

    with pytest.raises(PortError, match=r"^top: a clock domain is declared but nothing drives its clock$"):
        export(component({"q": Out(1)}, elaborate), "top")


def test_description():
    config = NAMED["tiny"]
    description = json.loads(json.dumps(describe(config, flat_ports(Plain()))))
    assert description["ports"] == [{"name": "x", "direction": "input", "width": 64}, {"name": "z", "direction": "input", "width": 3},
                                    {"name": "y", "direction": "output", "width": 64}]
    assert description["parameters"]["rows"] == config.rows and description["memory_bits"] == config.memory_bits()
    assert {"name": "control", "address": 8, "access": "w"}.items() <= description["registers"][8].items()


def test_outputs_that_are_used_in_part(tmp_path):
    def elaborate(self, m):
        leaf = m.submodules.leaf = Leaf(1)
        late = Signal(3)
        m.d.sync += late.eq(self.a)
        m.d.comb += [leaf.a.eq(Cat(late, self.a)), self.y.eq(leaf.y[2:5])]

    path = tmp_path / "part.v"
    path.write_text(export(component({"a": In(5), "y": Out(3)}, elaborate), "part"))
    lint(path, "part", ROOT / "hw" / "lint.vlt")
    assert re.search(r"^module part_leaf\(clk, rst, a, \w+\);", path.read_text(), re.MULTILINE)
