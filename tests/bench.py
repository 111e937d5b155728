"""The cocotb side of the unit tests: a clock of our own, whose two phases both simulators see alike, and ports as plain integers.

A port is one packed value: layouts lose their structure, and their signs, on the way to Verilog. ``pack`` and ``unpack`` restore both
from the layouts of the hardware.
"""

import functools
import os
import random

import cocotb
from amaranth import Shape
from amaranth.lib import data
from cocotb.triggers import Timer

from tests.sizes import ALL, DENSE, PLAIN

SEED = cocotb.RANDOM_SEED
UNIT = os.environ["UNIT"]


def config():
    """The configuration that the test is run for."""
    return {c.name: c for c in ALL + PLAIN + DENSE}[os.environ["CONFIG"]]


def generator(*more):
    return random.Random(repr((SEED, more)))


@functools.cache
def _format(shape):
    """(width, signed, fields): fields are (key, offset, format) of a struct or an array, or None."""
    if isinstance(shape, type) or isinstance(shape, data.Layout):
        layout = data.Layout.cast(shape.as_shape() if isinstance(shape, type) else shape)
        return layout.size, False, [(key, field.offset, _format(field.shape)) for key, field in layout]
    shape = Shape.cast(shape)
    return shape.width, shape.signed, None


def pack(shape, value) -> int:
    """Dictionaries, lists and integers as the bits of a layout; what a dictionary leaves out is zero."""

    def bits(form, value):
        width, signed, fields = form
        if fields is None:
            low = -(1 << width - 1) if signed else 0
            assert low <= value < low + (1 << width), f"{value} does not fit {width} bits"
            return value & (1 << width) - 1
        if isinstance(value, dict):
            assert set(value) <= {key for key, *_ in fields}, value
            return sum(bits(field, value[key]) << offset for key, offset, field in fields if key in value)
        assert len(value) == len(fields)
        return sum(bits(field, value[key]) << offset for key, offset, field in fields)

    return bits(_format(shape), value)


def unpack(shape, value: int):
    """The inverse of ``pack``."""

    def parts(form, value):
        width, signed, fields = form
        value &= (1 << width) - 1
        if fields is None:
            return value - (1 << width) if signed and value >> width - 1 else value
        result = {key: parts(field, value >> offset) for key, offset, field in fields}
        return list(result.values()) if fields and isinstance(fields[0][0], int) else result

    return parts(_format(shape), value)


class Bench:
    """``await cycle(name=value, ...)`` begins a cycle with these inputs, the others stay; then ``bench[name]`` are the outputs of that cycle."""

    def __init__(self, dut):
        self.dut = dut
        self.handles = {name: getattr(dut, name) for name in ("clk", "rst")}
        self.now = -1

    def _handle(self, name):
        if name not in self.handles:
            self.handles[name] = getattr(self.dut, f"{UNIT}__{name}")
        return self.handles[name]

    def __getitem__(self, name) -> int:
        return int(self._handle(name).value)

    async def begin(self, **inputs):
        """Two cycles of reset with these inputs: all that the unit has."""
        for name, value in inputs.items():
            self._handle(name).value = value
        self.handles["clk"].value = 0
        self.handles["rst"].value = 1
        await Timer(1, "ns")
        await self.cycle()
        await self.cycle()
        await self.cycle(rst=0)
        self.now = 0

    async def cycle(self, **inputs):
        clock = self.handles["clk"]
        clock.value = 1
        await Timer(1, "ns")
        clock.value = 0
        for name, value in inputs.items():
            self._handle(name).value = value
        await Timer(1, "ns")
        self.now += 1
