"""A mapped body as plain data, and as Verilog whose names a timing report can be read by."""

import json
import re
from pathlib import Path

CONSTANTS = {"0": "1'b0", "1": "1'b1", "x": "1'b0", "z": "1'b0"}


def read(path: Path, module: str) -> dict:
    """What later steps need of Yosys' JSON: ``ports`` as (direction, bits), ``cells`` as (type, {pin: bits}, {pin: direction} or None), ``names``
    of bits. A bit is a number, or text where it is constant."""
    body = json.loads(path.read_text())["modules"][module]
    names = {}
    for name, net in sorted(body["netnames"].items(), key=lambda item: (len(item[0]), item[0])):
        if not net["hide_name"] and re.fullmatch(r"\w+", name):
            for i, bit in enumerate(net["bits"]):
                names.setdefault(bit, name if len(net["bits"]) == 1 else f"{name}_{i}")
    return {
        "ports": {name: [port["direction"], port["bits"]] for name, port in body["ports"].items()},
        "cells": [[cell["type"], cell["connections"], _directions(cell)] for cell in body["cells"].values()],
        "instances": [name for name in body["cells"]],
        "names": {bit: name for bit, name in names.items() if isinstance(bit, int)},
    }


def _directions(cell):
    """Of children and memories; Yosys does not know who else drives a memory's output, since it does not know the cells."""
    known = None if cell["type"].startswith("$_") else cell.get("port_directions")
    return known and {pin: "input" if way == "input" else "output" for pin, way in known.items()}


def verilog(module: str, body: dict, is_flop) -> str:
    """The body with one gate per statement. A flip-flop is called by what it holds, ``NAME_reg``, every other gate by a number; children and
    memories keep their names."""
    ports = body["ports"]
    bits, lines, wires, taken = dict(CONSTANTS), [], [], set(ports)
    for direction in ("input", "output"):
        for name, (way, port) in ports.items():
            if way == direction:
                for i, bit in enumerate(port):
                    bits.setdefault(bit, name if len(port) == 1 else f"{name}[{i}]")

    def unique(name):
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    instances = [unique(name) if directions else None for name, (_, _, directions) in zip(body["instances"], body["cells"], strict=True)]

    def net(bit):
        if bit not in bits:
            bits[bit] = unique(body["names"].get(bit) or body["names"].get(str(bit)) or f"n{bit}")
            wires.append(bits[bit])
        return bits[bit]

    for number, (instance, (kind, pins, _)) in enumerate(zip(instances, body["cells"], strict=True)):
        if not instance:
            held = is_flop(kind) and next((pins[pin][0] for pin in ("Q", "Q_N") if pins.get(pin)), None)
            instance = unique(re.sub(r"\[(\d+)\]", r"_\1", net(held)) + "_reg" if held else f"g{number}")
        connections = ", ".join(f".{pin}({net(b[0]) if len(b) == 1 else '{' + ', '.join(net(bit) for bit in reversed(b)) + '}'})" for pin, b in pins.items() if b)
        lines.append(f"  {kind if kind.isidentifier() else chr(92) + kind} {instance} ({connections});")
    header = [f"  {way} {f'[{len(port) - 1}:0] ' if len(port) > 1 else ''}{name};" for name, (way, port) in ports.items()]
    assigns = [f"  assign {name if len(port) == 1 else f'{name}[{i}]'} = {net(bit)};" for name, (way, port) in ports.items() if way == "output"
               for i, bit in enumerate(port) if bits.get(bit) != (name if len(port) == 1 else f"{name}[{i}]")]
    return "\n".join([f"module {module} ({', '.join(ports)});", *header, *(f"  wire {wire};" for wire in wires), *lines, *assigns, "endmodule", ""])
