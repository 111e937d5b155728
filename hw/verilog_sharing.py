"""One module per distinct body: Amaranth writes one per instance, 16 x 16 equal processing elements as 256 modules.

Works on RTLIL text, before Yosys, so that Yosys, simulators and synthesis see every body once. Two instances of one component differ
in ways that mean nothing: the module's name, how its inputs are cut into ports (``hw.verilog_regroup``), the numbers in the names of ports
and their order. All are replaced by ones that follow from the body alone; what is then equal is shared.
"""

import hashlib
import os
import re

from hw.verilog_regroup import reconnect, regroup

_NUMBERED = re.compile(r"\\[A-Za-z_]\w*(?:\$\d+)+(?!\S)")
_WIRE = re.compile(r"  wire width (\d+)(?: (input|output|inout) \d+ )?( signed)? (\S+)")
_ALIAS = re.compile(r"connect \\([A-Za-z_]\w*) (\\\S+\$\d+)(?: \[.*\])?")
_DROPPED = ("attribute \\generator", "attribute \\top", "attribute \\amaranth", "attribute \\enum", "attribute \\src")


def split_modules(rtlil: str) -> dict[str, list[str]]:
    """Module name to the lines of its body, blank lines and attributes without effect left out; the top module comes first."""
    modules, body = {}, None
    for line in rtlil.splitlines():
        if line.startswith("module "):
            body = modules[line.split()[1]] = []
        elif line == "end":
            body = None
        elif body is not None and line.strip() and not line.strip().startswith(_DROPPED):
            body.append(line)
    return modules


def share_modules(rtlil: str, top: str) -> str:
    """The same design with equal modules shared and plainly named: ``top``, and ``top_unit`` for what an instance ``unit_3_4`` shows."""
    modules = split_modules(rtlil)
    changes, kept = {}, {}  # of every module: what became of its ports; the hash of its body, which stands for its name until all are known
    texts, instances = {}, {}  # of every hash: the body; the modules that have it
    for name in _children_first(modules):
        is_top = name == "\\" + top
        body, changes[name] = _canonical(modules[name], kept, changes, is_top)
        text = "\n".join(body)
        digest = top if is_top else hashlib.sha256(text.encode()).hexdigest()
        texts.setdefault(digest, text)
        instances.setdefault(digest, []).append(name)
        kept[name] = digest
    names, taken = {top: top}, {top}
    for digest in texts:
        if digest != top:
            names[digest] = _plain_name(instances[digest], top, taken)
    renamed = {names[digest]: re.sub(r"^  cell \\(\w+) ", lambda m: f"  cell \\{names.get(m[1], m[1])} ", text, flags=re.MULTILINE)
               for digest, text in texts.items()}
    return "\n".join(f"module \\{name}\n{text}\nend\n" for name, text in renamed.items())


def _children_first(modules):
    order, seen = [], set()

    def visit(name):
        if name not in seen:
            seen.add(name)
            for line in modules[name]:
                if line.startswith("  cell \\") and line.split()[1] in modules:
                    visit(line.split()[1])
            order.append(name)

    for name in modules:
        visit(name)
    return order


def _plain_name(instances, top, taken):
    """What the names of all instances have in common: ``top_multiplier`` for ``multiplier_0_low`` and ``multiplier_1_high``."""
    lasts = [re.sub(r"\W", "_", name.lstrip("\\").rsplit(".", 1)[-1]) for name in instances]
    common = os.path.commonprefix([last.split("_") for last in lasts])
    common = re.sub(r"(_[0-9]+)+$", "", "_".join(common) or lasts[0])
    plain, n = f"{top}_{common}", 1
    while plain in taken:
        n += 1
        plain = f"{top}_{common}_{n}"
    taken.add(plain)
    return plain


def _port_names(body, wires):
    """Plain names for ports called ``signal$n`` or ``port$cell$bit``; the latter are called by the signals that are slices of them."""
    numbered = [wire[-1] for wire in wires if wire[2] and _NUMBERED.fullmatch(wire[-1])]
    aliases, order = {}, {}
    for line in body if numbered else ():
        if match := _ALIAS.match(line):
            aliases.setdefault(match[2], []).append(match[1])
        for port in _NUMBERED.findall(line):
            order.setdefault(port)
    renamed, used = {}, {wire[-1] for wire in wires}
    for port in sorted(numbered, key=lambda p: list(order).index(p) if p in order else len(order)):
        base = port[1:].split("$")[0]
        if base == "port":
            base = "_".join(aliases.get(port, ["part"])[:3])
        name, n = f"\\{base}_i", 1
        while name in used:
            n += 1
            name = f"\\{base}_i{n}"
        used.add(name)
        renamed[port] = name
    return renamed


def _canonical(lines, kept, changes, is_top):
    """The body with shared children, port names and port order that depend on nothing but the body; and what became of its ports."""
    wires, attributes, body = [], [], []
    for line in lines:
        if line.startswith("  attribute "):
            attributes.append(line)
        elif match := _WIRE.fullmatch(line):
            wires.append((attributes, *match.groups()))
            attributes = []
        else:
            body += [*attributes, line]
            attributes = []
    body = _instances(body, kept, changes, {wire[-1]: int(wire[1]) for wire in wires})
    gathered, gone = {}, set()
    if not is_top:  # the top's ports are the signature's already
        wires, body, gathered, gone = regroup(wires, body)
    renamed = _port_names(body, wires)
    body = [_NUMBERED.sub(lambda match: renamed.get(match[0], match[0]), line) for line in body]
    wires = [(*wire[:-1], renamed.get(wire[-1], wire[-1])) for wire in wires]
    if not is_top:
        wires.sort(key=lambda wire: wire[-1])
    wires.sort(key=lambda wire: wire[-1] not in ("\\clk", "\\rst"))
    declarations, index = [], 0
    for attributes, width, direction, signed, name in wires:
        if direction:
            index += 1  # from 1: Yosys takes 0 for "no port"
        declarations += [*attributes, f"  wire width {width}{f' {direction} {index}' if direction else ''}{signed or ''} {name}"]
    return declarations + body, (gathered, gone, renamed)


def _instances(body, kept, changes, widths):
    """Instances of modules that were changed: name, ports, and connections in the order of the ports' names."""
    result, connections, child = [], {}, None
    for line in body:
        if line.startswith("  cell \\") and line.split()[1] in kept:
            _, child, instance = line.split()
            line = f"  cell \\{kept[child]} {instance}"
        elif child is not None and line.startswith("    connect "):
            _, port, value = line.strip().split(" ", 2)
            connections[port] = value
            continue
        elif child is not None and line == "  end":
            gathered, gone, renamed = changes[child]
            connections = reconnect(connections, gathered, gone, widths)
            result += sorted(f"    connect {renamed.get(port, port)} {value}" for port, value in connections.items())
            connections, child = {}, None
        result.append(line)
    return result
