"""Runs the cocotb tests of one unit. Ports are called ``unit__port`` on the outside.

Under Icarus each unit is built alone, on every configuration of ``tests.sizes``. A build under Verilator costs half a minute whatever its size,
so all units of configuration ``unit`` are built once, side by side in one module.
"""

import fcntl
import functools

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.activation_memory import ActivationMemory
from hw.arrays import convolution_unit
from hw.channel_unit import ChannelUnit
from hw.controller import Controller
from hw.convolution_unit import OperandBuffer
from hw.decoder import CommandDecoder
from hw.dense_array import DenseArray
from hw.drain import Drain
from hw.mac_array import MacArray
from hw.nibble_multiplier import NibbleMultiplier
from hw.output_stage import OutputStage
from hw.processing_element import ProcessingElement
from hw.registers import Registers
from hw.stream_memory import StreamMemory
from hw.term_select import TermSelector
from hw.verilog import export
from sim.build_cache import BUILD
from sim.cocotb_runner import run
from tests.sizes import ALL, PLAIN, UNIT

GROUPS = (2, 4, 5, 8)
UNITS = {
    "nibble_multiplier": NibbleMultiplier,
    **{f"term_select_{group}": lambda config, group=group: TermSelector(group=group) for group in GROUPS},
    "processing_element": ProcessingElement, "mac_array": MacArray, "dense_array": DenseArray, "operand_buffer": OperandBuffer, "convolution_unit": convolution_unit,
    "channel_unit": ChannelUnit, "output_stage": OutputStage, "drain": Drain, "controller": Controller, "decoder": CommandDecoder,
    "registers": Registers, "activation_memory": ActivationMemory,
    "stream_memory": lambda config: StreamMemory(width=config.weight_bits, depth=config.weight_words, beat=config.stream_bits, few=config.depthwise_beats),
}
"""Name to a function that makes the unit for a configuration."""

SIMULATORS = ("icarus", "verilator")
everywhere = pytest.mark.parametrize("simulator, config", [pytest.param("icarus", c, id=f"icarus-{c.name}") for c in ALL] + [
    pytest.param("verilator", UNIT, id=f"verilator-{UNIT.name}")])

plain_digits = pytest.mark.parametrize("config", PLAIN, ids=lambda c: c.name)
"""The same sizes, of the array whose digits have four bits."""


class Units(wiring.Component):
    """Units side by side."""

    def __init__(self, units):
        self.units = units
        super().__init__({name: Out(unit.signature) for name, unit in units.items()})

    def elaborate(self, platform):
        m = Module()
        for name, unit in self.units.items():
            m.submodules[name] = unit
            connect(m, flipped(getattr(self, name)), unit)
        return m


@functools.cache
def all_units() -> str:
    return export(Units({name: make(UNIT) for name, make in UNITS.items()}), "units")


def simulate(unit: str, simulator: str, config=UNIT, make=None, build=BUILD, verilog=None, **env):
    """``make`` replaces the unit by another one (a broken one); ``verilog`` is that of the unit alone, as synthesis has left it."""
    test = "term_select" if unit.startswith("term_select") else unit
    env = {"UNIT": unit, "CONFIG": config.name, "SIMULATION": simulator, **{name.upper(): value for name, value in env.items()}}
    if simulator == "icarus":
        run(verilog or Units({unit: (make or UNITS[unit])(config)}), "units", f"tests.cocotb_{test}", simulator=simulator, env=env, build=build)
        return
    assert config is UNIT and make is None and verilog is None
    # The first to come builds; parallel workers wait for it.
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "units.lock", "w") as lock:
        if _first():
            fcntl.flock(lock, fcntl.LOCK_EX)
        run(all_units(), "units", f"tests.cocotb_{test}", simulator=simulator, env=env)


def _first(state=[True]):  # noqa: B006
    return state.pop() if state else False
