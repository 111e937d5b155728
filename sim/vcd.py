"""Reads chosen signals from a VCD that :class:`sim.harness.Harness` recorded: their value in every clock cycle, as units see it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np


class Waves:
    """Values of signals, by their path below the top module, in cycles ``first`` ... ``last``.

    The harness dumps at ``2 * cycle`` with inputs and combinational signals settled, and once more after the clock edge; a cycle's
    value is the one before its edge.
    """

    def __init__(self, path: str | Path, wanted: Iterable[str]):
        wanted = set(wanted)
        with Path(path).open() as file:
            codes, widths = _header(file, wanted)
            self.missing = wanted - set(codes)
            self._values = _changes(file, set(codes.values()))
        self._codes, self._widths = codes, widths
        times = [times[0] for times, _ in self._values.values() if times]
        self.first = min(times, default=0) // 2

    def __contains__(self, name: str) -> bool:
        return name in self._codes

    def value(self, name: str, cycle: int, signed: bool = False) -> int:
        """Value of a signal in a cycle, two's complement if ``signed``."""
        times, values = self._values[self._codes[name]]
        at = int(np.searchsorted(times, 2 * cycle, side="right")) - 1
        value = values[max(at, 0)] if values else 0
        width = self._widths[name]
        return value - (1 << width) if signed and value >> width - 1 else value

    def cycles(self, name: str, first: int, last: int, mask: int = -1) -> list[int]:
        """The cycles in which a signal, or what ``mask`` leaves of it, is not 0."""
        return [cycle for cycle in range(first, last + 1) if self.value(name, cycle) & mask]


def _header(file, wanted: set[str]) -> tuple[dict[str, str], dict[str, int]]:
    """(code, width) of the wanted signals; the scopes above the top module's contents do not count."""
    scopes, codes, widths = [], {}, {}
    for line in file:
        words = line.split()
        if words[:1] == ["$scope"]:
            scopes.append(words[2])
        elif words[:1] == ["$upscope"]:
            scopes.pop()
        elif words[:1] == ["$var"]:
            name = ".".join([*scopes[2:], words[4]])
            if name in wanted:
                codes[name], widths[name] = words[3], int(words[2])
        elif words[:1] == ["$enddefinitions"]:
            break
    return codes, widths


def _changes(file, codes: set[str]) -> dict[str, tuple[list[int], list[int]]]:
    found, time = {code: ([], []) for code in codes}, 0
    for line in file:
        kind = line[:1]
        if kind == "#":
            time = int(line[1:])
            continue
        if kind in ("b", "B"):
            value, _, code = line[1:].strip().partition(" ")
        else:
            value, code = kind, line[1:].strip()
        if code in found:
            times, values = found[code]
            times.append(time)
            values.append(int(value.replace("x", "0").replace("z", "0") or "0", 2))
    return found
