"""The tests of the rivals' units see what is broken: each line changes one place of a unit's source, and the unit's test must fail. See ``test_mutations``.

``python -m tests.test_olaccel_mutations`` prints which of its tests failed, for every line.
"""

import contextlib
import importlib
import types
from pathlib import Path
from unittest import mock

import pytest

from hw import olaccel_normal, olaccel_outlier
from hw.eyeriss_element import EyerissElement
from sim.cocotb_runner import SimulationError, run
from tests.units import Units

NORMAL, OUTLIER, ELEMENT = ("olaccel_normal", lambda: olaccel_normal.NormalGroup()), ("olaccel_outlier_16", lambda: olaccel_outlier.OutlierGroup()), (
    "eyeriss_element", lambda: EyerissElement())

# unit, file of hw/, what stands there, what is put in its place
MUTATIONS = [
    (NORMAL, "olaccel_lanes", "(more << 4)", "(more << 3)"),
    (NORMAL, "olaccel_lanes", "Mux(self.second, 0, product)", "product"),
    (NORMAL, "olaccel_lanes", "Mux(self.chosen, self.outlier, 0)", "self.outlier"),
    (NORMAL, "olaccel_lanes", "& fetched.value.any() & ~self.stall", "& ~self.stall"),
    (NORMAL, "olaccel_lanes", "self.weights.pointer.any()", "self.weights.pointer[:7].any()"),
    (NORMAL, "olaccel_lanes", "busy & held.last & ~self.stall", "busy & held.last"),
    (NORMAL, "olaccel_lanes", "held.value.eq(Mux(fetched_valid, fetched.value, 0))", "held.value.eq(fetched.value)"),
    (NORMAL, "olaccel_lanes", "first.eq(busy & held.first & ~second)", "first.eq(busy & held.first)"),
    (NORMAL, "olaccel_normal", "mask[i] & ~mask[:i].any()", "mask[i] & ~mask[i + 1 :].any()"),
    (NORMAL, "olaccel_normal", "last & final", "last"),
    (NORMAL, "olaccel_normal", "m.d.sync += first.eq(0)", "pass"),
    (NORMAL, "olaccel_normal", "~lanes.stall & (~holding | final)", "~lanes.stall & ~holding"),
    (NORMAL, "olaccel_normal", "holding & ~lanes.stall & left.any()", "holding & left.any()"),
    (OUTLIER, "olaccel_lanes", "self.base if self.based else 0", "0"),
    (OUTLIER, "olaccel_lanes", "product, more = Signal(signed(self.bits + 4))", "product, more = Signal(signed(self.bits + 3))"),
    (OUTLIER, "olaccel_lanes", "chunk.nibbles.eq(self.msbs)", "chunk.nibbles.eq(0)"),
    (OUTLIER, "olaccel_lanes", "fetched.value.any() & ~self.stall", "fetched.value.any()"),
    (OUTLIER, "olaccel_lanes", "self.begins.eq(first)", "self.begins.eq(held.first)"),
    (OUTLIER, "olaccel_outlier", "{8: 24, 16: 32}[bits]", "{8: 24, 16: 31}[bits]"),
    (OUTLIER, "olaccel_outlier", "self.ready.eq(~lanes.stall)", "self.ready.eq(1)"),
    (ELEMENT, "eyeriss_element", "self.b[half:].as_signed()", "self.b[half:]"),
    (ELEMENT, "eyeriss_element", "nonzero.bit_select(put, 1).eq(self.ifmap.any())", "nonzero.bit_select(put, 1).eq(self.ifmap[1:].any())"),
    (ELEMENT, "eyeriss_element", "Mux(multiplied.nonzero, multiplier.product >> self.fraction, 0)", "(multiplier.product >> self.fraction)"),
    (ELEMENT, "eyeriss_element", "multiplied.first | multiplied.nonzero", "multiplied.nonzero"),
    (ELEMENT, "eyeriss_element", "multiplier.enable.eq(fetched.valid & fetched.nonzero & ~stall)", "multiplier.enable.eq(fetched.valid & ~stall)"),
    (ELEMENT, "eyeriss_element", "(word > new) |", "(word >= new) |"),
    (ELEMENT, "eyeriss_element", "| ((word == new) & issue & last_filter)", ""),
    (ELEMENT, "eyeriss_element", "at.eq(put), have", "at.eq(0), have"),
    (ELEMENT, "eyeriss_element", "fetched.valid & fetched.nonzero & ~stall", "fetched.valid & fetched.nonzero"),
    (ELEMENT, "eyeriss_element", "addressed.valid & addressed.nonzero & ~stall", "addressed.valid & addressed.nonzero"),
    (ELEMENT, "eyeriss_element", "done.eq(multiplied.valid & ~stall)", "done.eq(multiplied.valid)"),
    (ELEMENT, "eyeriss_element", "(~busy | ends) & (have", "~busy & (have"),
]


@contextlib.contextmanager
def mutated(make, file, old, new):
    """The unit, from source with one place changed."""
    original = importlib.import_module(f"hw.{file}")
    source = Path(original.__file__).read_text()
    assert source.count(old) == 1, f"hw/{file}.py has {source.count(old)} of {old!r}: bring the table up to date"
    module = types.ModuleType(f"mutant_{file}")
    exec(compile(source.replace(old, new), original.__file__, "exec"), module.__dict__)
    users = [olaccel_normal, olaccel_outlier] if file == "olaccel_lanes" else [original]
    with contextlib.ExitStack() as stack:
        for user in users:
            for name in ("MacLanes", "NormalGroup", "OutlierGroup"):
                if hasattr(user, name) and hasattr(module, name):
                    stack.enter_context(mock.patch.object(user, name, getattr(module, name)))
        yield module.EyerissElement() if file == "eyeriss_element" else make()


def simulate(unit, file, old, new, build):
    name, make = unit
    test = name.removesuffix("_16")
    with mutated(make, file, old, new) as component:
        run(Units({name: component}), "units", f"tests.cocotb_{test}", env={"UNIT": name, "SIMULATION": "icarus"}, build=build)


@pytest.mark.parametrize("unit, file, old, new", [pytest.param(*m, id=f"{m[0][0]}: {m[2]} -> {m[3]}") for m in MUTATIONS])
def test_mutation_is_caught(unit, file, old, new, tmp_path):
    with pytest.raises(SimulationError, match=r"failed: \w"):
        simulate(unit, file, old, new, tmp_path)


if __name__ == "__main__":
    import tempfile

    for unit, file, old, new in MUTATIONS:
        try:
            with tempfile.TemporaryDirectory() as folder:
                simulate(unit, file, old, new, Path(folder))
            print(f"SURVIVED {unit[0]}: {old} -> {new}", flush=True)
        except SimulationError as error:
            print(f"caught by {str(error).splitlines()[0].rsplit(':', 1)[-1].strip()}: {unit[0]}: {old} -> {new}", flush=True)
