"""Input ports as the component declared them: Amaranth cuts an input where its parent's drivers meet.

An input ``slots`` that is fed from two memories arrives as ports ``port$7$0`` and ``port$9$0``, cut elsewhere in the next instance: equal
components get different bodies. The declared signal is still in the module, as a concatenation of these ports. Here it becomes the port,
and the concatenation moves to where the module is instantiated.
"""

import re

Bit = tuple[str, int] | str
"""Of a wire, or a constant."""

_SPEC = re.compile(r"\{[^{}]*\}|\\\S+(?: \[\d+(?::\d+)?\])?")
_CHUNK = re.compile(r"(\d+)'([01xz]+)|(\S+)(?: \[(\d+)(?::(\d+))?\])?")
_FOREIGN = re.compile(r"\\port\$\d+\$\d+")
_CONNECT = re.compile(r"connect (\\[A-Za-z_]\w*) (.+)")


def parse(spec: str, widths: dict[str, int]) -> list[Bit]:
    """Bits of an RTLIL signal, least significant first."""
    bits = []
    inner = spec.strip("{} ") if spec.startswith("{") else spec
    for match in reversed(list(_CHUNK.finditer(inner))):
        _, constant, name, high, low = match.groups()
        if constant is not None:
            bits += reversed(constant)
        else:
            first, last = (0, widths[name] - 1) if high is None else (int(low or high), int(high))
            bits += [(name, i) for i in range(first, last + 1)]
    return bits


def write(bits: list[Bit]) -> str:
    """The inverse of :func:`parse`, in the form that Amaranth writes."""
    chunks = []
    for bit in bits:
        last = chunks[-1] if chunks else None
        if last and isinstance(bit, str) and isinstance(last[-1], str):
            last.append(bit)
        elif last and not isinstance(bit, str) and not isinstance(last[-1], str) and last[-1] == (bit[0], bit[1] - 1):
            last.append(bit)
        else:
            chunks.append([bit])
    texts = []
    for chunk in reversed(chunks):
        if isinstance(chunk[0], str):
            texts.append(f"{len(chunk)}'{''.join(reversed(chunk))}")
        else:
            name, low = chunk[0]
            texts.append(f"{name} [{low + len(chunk) - 1}:{low}]" if len(chunk) > 1 else f"{name} [{low}]")
    return texts[0] if len(texts) == 1 else f"{{ {' '.join(texts)} }}"


def regroup(wires: list[tuple], body: list[str]) -> tuple[list[tuple], list[str], dict[str, list[Bit]], set[str]]:
    """Declared inputs as ports. A wire is (attributes, width, direction or None, signed or None, name).

    Returns
    -------
    wires, body
        Rewritten.
    gathered
        The new ports, each as bits of the ports that it was made from.
    gone
        Ports that are no longer.
    """
    inputs = {wire[-1]: int(wire[1]) for wire in wires if wire[2] == "input"}
    foreign = {name for name in inputs if _FOREIGN.fullmatch(name)}
    if not foreign:
        return wires, body, {}, set()
    candidates = []
    widths = {wire[-1]: int(wire[1]) for wire in wires}
    internal = {wire[-1] for wire in wires if not wire[2]}
    for line in body:
        if (match := _CONNECT.fullmatch(line)) and match[1] in internal and any(name in match[2] for name in foreign):
            bits = parse(match[2], widths)
            if all(not isinstance(bit, str) and bit[0] in inputs for bit in bits):
                candidates.append((match[1], bits))
    place, gathered = {}, {}
    for name, bits in sorted(candidates, key=lambda candidate: -len(candidate[1])):  # stable: first declared comes first
        new = [(bit, i) for i, bit in enumerate(bits) if bit[0] in foreign and bit not in place]
        if new:
            gathered[name] = bits
            place.update((bit, (name, i)) for bit, i in new)
    gone = {name for name in foreign if all((name, i) in place for i in range(inputs[name]))}

    def rewrite(match):
        spec = match[0]
        return write([place.get(bit, bit) for bit in parse(spec, widths)]) if _FOREIGN.search(spec) else spec

    # A port that is an alias of another one needs no connection, it is fed from outside.
    body = [line for line in body if not ((match := _CONNECT.fullmatch(line)) and match[1] in gathered)]
    body = [_SPEC.sub(rewrite, line) if _FOREIGN.search(line) else line for line in body]
    wires = [(*wire[:2], "input" if wire[-1] in gathered else wire[2], *wire[3:]) for wire in wires if wire[-1] not in gone]
    return wires, body, gathered, gone


def reconnect(connections: dict[str, str], gathered: dict[str, list[Bit]], gone: set[str], widths: dict[str, int]) -> dict[str, str]:
    """The connections of an instance (port to RTLIL signal) after its module was regrouped."""
    result = {port: value for port, value in connections.items() if port not in gone}
    for port, bits in gathered.items():
        values = {source: parse(connections[source], widths) for source in {name for name, _ in bits}}
        result[port] = write([values[name][i] for name, i in bits])
    return result
