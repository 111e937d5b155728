"""What was searched, for how long, and the settings that came of it: layers of the picked points, counted by mode."""

from collections import Counter

from compare.names import NAMES
from synth.silicon import table

LEGEND = """\
Layers by mode, *mode: layers*. SDP: terms per group, weights of one digit (w4) or two (w8). Static arrays: bits of codes x bits of weights. DRQ: threshold,
*all*: everything in 8 bits. OLAccel: per cent of outliers among codes / weights, *8 bit*: ordinary ones.
"""


def word(method: str, mode) -> str:
    """A mode, shortly."""
    if method == "sdp":
        return f"{mode[0]} w{4 if mode[1] else 8}"
    if method == "drq":
        return f"t{mode}" if mode else "all"
    if method == "olaccel":
        codes, weights = (f"{share / 10:g}" if share else "8 bit" for share in mode)
        return f"{codes}/{weights}"
    return f"{mode[0]}x{mode[1]}"


def layers(method: str, point: dict | None) -> str:
    """How many layers of a point have which mode, the most frequent first."""
    counts = Counter(word(method, mode) for mode in point.get("modes", {}).values()) if point else Counter()
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def search(reports: dict[str, dict]) -> str:
    """A row per method that was searched."""
    rows, readings = [], list(next(iter(reports.values()))["picked"])
    for method, report in reports.items():
        if "effort" not in report:
            continue
        e, picked = report["effort"], [report["picked"][reading] for reading in readings]
        rows.append([NAMES[method], e["space"]["modes"], f"{e['space']['log10']:.1f}", e["networks"], e["changes"], f"{e['seconds']:.0f}",
                     e.get("ranges", ""), e.get("variant", ""), *(layers(method, None if at is None else report["points"][at]) for at in picked)])
    return table(["method", "modes per layer", "log10 of the space", "networks measured", "single layers tried", "seconds", "ranges", "variant",
                  *(f"layers by mode, {reading}" for reading in readings)], rows) + "\n" + LEGEND
