"""What a sweep found, from its rows alone: fronts, the place of the shipped configurations, and where doubling ends."""

from synth.space import pareto
from synth.space.grid import SEARCHED, SERIES
from synth.space.tasks import CAUSES

Rows = list[dict]
DOUBLED = 1.9
"""Throughput that a doubling of rows or columns should give at least."""
SHOWN = ("configuration", "group", "lanes", "rows", "columns", "array", "nibble_multipliers", "network", "budget", "terms", "weights", "cycles", "area",
         "array_to_dense", "memory_bits", "energy_nj", "accuracy", "accuracy_low", "accuracy_high", "expected_loss", "expected_error")


def usable(rows: Rows, network: str) -> Rows:
    """Of grid and shipped configurations, those that exist."""
    return [row for row in rows if row["network"] == network and not row["reason"] and row["series"] not in SERIES]


def good(rows: Rows, max_loss: float) -> Rows:
    """Those expected to lose at most ``max_loss`` points beyond exact 8 bit, a standard error included; all, where nothing was measured."""
    seen = [row for row in rows if row["expected_loss"] is not None]
    return [row for row in seen if row["expected_loss"] + row["expected_error"] <= max_loss] if seen else rows


def front(rows: Rows, *objectives: str) -> Rows:
    """Those on the front, all objectives small."""
    rows = [row for row in rows if all(row[name] is not None for name in objectives)]
    return [rows[at] for at in pareto.front([place(row, objectives) for row in rows])]


def place(row: dict, objectives: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(row[name] for name in objectives)


FAST = ("cycles", "area")
FRUGAL = ("expected_loss", "energy_nj")


def scaling(rows: Rows) -> dict[str, list[dict]]:
    """Per series and weight mode: throughput of the convolutions (1 / cycles), by how much each doubling raised it, and what took most of what is missing."""
    found = {}
    for series, weights in dict.fromkeys((row["series"], row["weights"]) for row in rows if row["series"] in SERIES):
        axis, steps = SERIES[series][0], [row for row in rows if (row["series"], row["weights"]) == (series, weights)]
        entries = []
        for before, row in zip([None, *steps], steps):
            entry = {name: row[name] for name in ("configuration", "rows", "columns", "ports", "outputs", "network", "terms", "weights", "reason")}
            if not row["reason"]:
                entry |= {"axis": axis, "value": row[axis], "conv_cycles": row["conv_cycles"], "cycles": row["cycles"],
                          "causes": {cause: row[f"cycles_{cause}"] / row["conv_cycles"] for cause in CAUSES}}
                if before and not before["reason"]:
                    # Ideal is half of the cycles of every cause: what is above that, grew.
                    grown = {cause: row[f"cycles_{cause}"] - before[f"cycles_{cause}"] / 2 for cause in CAUSES if cause != "used"}
                    gain = before["conv_cycles"] / row["conv_cycles"]
                    entry |= {"gain": gain, "gain_with_transfers": before["cycles"] / row["cycles"], "kept": gain >= DOUBLED,
                              "cause": max(grown, key=grown.get)}
            entries.append(entry)
        found[f"{series}, {weights}"] = entries
    return found


def shipped(rows: Rows, network: str, max_loss: float) -> dict[str, dict]:
    """Per configuration: its fastest row that is good, whether it is on the front of cycles and area, and else by what factor it misses it."""
    candidates = [row for row in good(usable(rows, network), max_loss) if all(row.get(name) is not None for name in FAST)]
    points, found = [place(row, FAST) for row in candidates], {}
    for row in sorted((row for row in candidates if row["series"] == "shipped"), key=lambda row: row["cycles"]):
        own = place(row, FAST)
        if row["configuration"] not in found:
            beaten = [other["configuration"] for other, point in zip(candidates, points) if pareto.dominates(point, own)]
            found[row["configuration"]] = {**shown(row), "on_front": not beaten, "excess": pareto.excess(own, points), "beaten_by": sorted(set(beaten))}
    return found


def shown(row: dict) -> dict:
    return {name: row.get(name) for name in SHOWN}


def summary(rows: Rows, max_loss: float = 1.0) -> dict:
    """As JSON. Per network ``fast``: the front of cycles and area among good rows, ``frugal``: that of expected loss and energy; ``searched``: the
    mixtures; the unit of areas is ``area_unit``; ``scaling``: see :func:`scaling`; ``impossible``: number of rows by reason."""
    reasons = [row["reason"] for row in rows if row["reason"]]
    networks = {}
    for network in dict.fromkeys(row["network"] for row in rows):
        there = usable(rows, network)
        networks[network] = {
            "rows": len(there), "images": max((row["images"] or 0 for row in there), default=0), "fast": [shown(row) for row in front(good(there, max_loss), *FAST)],
            "frugal": [shown(row) for row in front(there, *FRUGAL)], "shipped": shipped(rows, network, max_loss),
            "searched": [shown(row) for row in there if row["budget"] == SEARCHED]}
    return {"max_loss": max_loss, "area_unit": next((row["area_unit"] for row in rows if row.get("area_unit")), None),
            "energy_basis": next((row["energy_basis"] for row in rows if row.get("energy_basis")), None),
            "networks": networks, "scaling": scaling(rows),
            "impossible": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}}
