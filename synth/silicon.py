"""``docs/silicon.md``: what the other commands measured, as tables; nothing is computed here and nothing is written by hand into it."""

import argparse
import json
import re
import sys
from pathlib import Path

from sdp import UserError
from sdp.config import NAMED, VARIANTS
from synth import output

DOCUMENT = Path("docs") / "silicon.md"
SHOWN, POWER, LAYOUTS = NAMED | VARIANTS, ("small",), ("tiny", "small")
"""Configurations whose area and timing are shown, whose power is measured, and those that are placed and routed."""
SWEEPS = {"sweep": ("default", "make sweep LIBERTY=..."), "groups": ("groups", "make sweep GRID=sweep-groups.toml LIBERTY=...")}
"""Section, name of the grid, command."""


class SiliconError(UserError):
    """Nothing to write about."""


def table(columns: list[str], rows: list[list]) -> str:
    """Markdown; all columns but the first to the right."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def collect(build: Path) -> tuple[dict, dict[str, list[str]]]:
    """Reports by what they measure and by configuration, and for each kind the commands that would make what is not there."""
    wanted = [("area", SHOWN, "make area CONFIG={} LIBERTY=..."), ("timing", SHOWN, "make timing CONFIG={} LIBERTY=..."),
              ("power", POWER, "make power CONFIG={} LIBERTY=..."), ("fpga", LAYOUTS, "make fpga CONFIG={}")]
    found, missing = {}, {}
    for what, names, command in wanted:
        for name in names:
            path = build / name / f"{what}.json"
            report = json.loads(path.read_text()) if path.is_file() else None
            if report is None or what == "area" and report["unit"] != "um2":
                missing.setdefault(what, []).append(command.format(name))
            else:
                found.setdefault(what, {})[name] = report
    for path in (path for name in POWER for path in sorted((build / name).glob("power-*.json"))):
        found.setdefault("power", {})[path.stem] = json.loads(path.read_text())
    for section, (grid, command) in SWEEPS.items():
        if (path := build / "sweep" / grid / "summary.json").is_file():
            found[section] = json.loads(path.read_text())
            stale(found[section], found.get("area", {}))
        else:
            missing[section] = [command]
    found["energy"] = {path.parent.name: json.loads(path.read_text())["bases"] for path in sorted(build.glob("networks/*/energy.json"))}
    if not found["energy"]:
        missing["energy"] = ["make networks", "python -m sdp energy build/networks/NAME --config small"]
    return found, missing


CHANGED = 0.002
"""Difference in area from which on a configuration is no longer the one that the sweep measured."""


def stale(sweep: dict, areas: dict) -> None:
    """Marks the shipped configurations that have changed since the sweep ran, or lack."""
    for entry in sweep["networks"].values():
        for name, row in entry["shipped"].items():
            row["changed"] = sweep["area_unit"] == "um2" and name in areas and abs(row["area"] / areas[name]["total"] - 1) > CHANGED


COLUMNS_AREA = ["configuration", "nibble multipliers", "logic, mm2", "memories, KiB", "array", "array per multiplier, um2", "selectors, of the array",
                "dense INT4, um2", "array / dense"]


def area(reports: dict) -> str:
    rows = [[name, f"{r['nibble_multipliers']:,}", f"{r['total'] / 1e6:.3f}", f"{r['memory_bits'] / 8192:,.0f}", f"{r['array'] / r['total']:.0%}",
             f"{r['array_per_nibble_multiplier']:,.0f}", f"{r['selector_share_of_array']:.1%}", f"{r['dense_int4_per_multiplier']:,.0f}",
             f"{r['ratio_to_dense_int4']:.2f}"] for name, r in reports.items()]
    if "small" not in reports:
        return table(COLUMNS_AREA, rows)
    small = reports["small"]
    units = [[u["name"], f"{u['instances']:,}", f"{u['flip_flops']:,}", f"{u['combinational']:,.0f}", f"{u['sequential']:,.0f}", f"{u['area']:,.0f}",
              f"{u['share']:.1%}"] for u in small["units"] if u["area"] > 0.001 * small["total"]]
    return "\n".join([
        table(COLUMNS_AREA, rows),
        "Units of `small`, um2:\n", table(["unit", "instances", "flip-flops", "combinational", "sequential", "area", "share"], units)])


def timing(reports: dict) -> str:
    rows = [[name, f"{r['critical_ns']:.2f}", f"{r['megahertz']:.0f}", f"{r['reference']['ns']:.2f}", f"{r['ratio']:.2f}", r["units"][0]["words"]]
            for name, r in reports.items()]
    units = [[unit["unit"], f"{unit['ns']:.2f}", f"{unit['ratio']:.2f}", unit["words"]] for r in [reports.get("small")] if r for unit in r["units"]]
    return "\n".join([
        table(["configuration", "critical path, ns", "MHz", "INT8 MAC, ns", "ratio", "path: unit and ns in the order it is passed"], rows),
        "Units of `small`:\n", table(["unit", "ns", "of the MAC", "path"], units)])


def power(reports: dict) -> str:
    parts = []
    for r in reports.values():
        budgets = list(r["pj_per_cycle"])
        rows = [[unit, *(f"{r['pj_per_cycle'][b][unit]:,.1f}" for b in budgets)] for unit in r["pj_per_cycle"][budgets[0]]]
        rows.append(["**all**", *(f"{sum(r['pj_per_cycle'][b].values()):,.1f}" for b in budgets)])
        rows.append(["all, without glitches", *(f"{sum(r['pj_per_cycle_without_glitches'][b].values()):,.1f}" for b in budgets)])
        rows.append([f"mW at {r['clock_mhz']:g} MHz", *(f"{sum(r['mw'][b].values()):,.1f}" for b in budgets)])
        rows += [[f"pJ per MAC, {mode}", *(f"{r['pj_per_mac'][mode][b]:.3f}" for b in budgets)] for mode in r['pj_per_mac']]
        check = r["cross_check"]
        parts += [f"`{r['config']['name']}`, {r['network']}, layers {', '.join(r['layers'])}: {r['cycles']:,} cycles of all {r['gates']:,} gates and "
                  f"{r['flip_flops']:,} flip-flops, {r['differences']} output bits differ from the RTL. pJ per cycle by budget:\n",
                  table(["unit", *(f"K = {b}" for b in budgets)], rows),
                  f"Second method: OpenSTA on the {check['gates']:,} gates of {check['part']}: {sum(check['opensta_mw'].values()):.3f} mW, "
                  f"ours {sum(check['ours_mw'].values()):.3f} mW ({check['difference_of_total']:+.1%}).\n"]
    return "\n".join(parts)


def energy(reports: dict) -> str:
    rows = []
    for name, r in reports.items():
        for basis in ("published", "library"):
            total = r[basis]["total"]
            whole, parts = total["pj_total"], {part: values["value"] for part, values in total["pj"].items()}
            rows.append([name, basis, f"{whole['value'] / 1e6:.2f}", f"{whole['low'] / 1e6:.2f} ... {whole['high'] / 1e6:.2f}",
                         " / ".join(f"{value / whole['value']:.0%}" for value in parts.values())])
    first = next(iter(reports.values()))
    return table(["network", "basis", "uJ per image", "bounds", " / ".join(first["published"]["total"]["pj"])], rows) + "\n" + \
        f"Array in the library's basis: {first['library']['array_source']}; published: {first['published']['array_source']}.\n"


def fpga(reports: dict) -> str:
    kinds = list(next(iter(reports.values()))["resources"])
    rows = [[name, r["part"], *(f"{r['resources'][k]['used']:,} of {r['resources'][k]['available']:,}" for k in kinds), f"{r['spacers']:,}",
             f"{r['fmax_mhz']:.1f}", f"{sum(r['seconds'].values()) / 60:.0f}"] for name, r in reports.items()]
    return table(["configuration", "part", *kinds, "spacers", "fmax, MHz", "minutes"], rows)


def sweep(found: dict) -> str:
    columns = {"configuration": "configuration", "group": "G", "lanes": "L", "rows": "R", "columns": "C", "terms": "budget", "weights": "weights"}
    parts = []
    for network, r in found["networks"].items():
        rows = [[*(row[name] for name in columns), f"{row['cycles']:,}", f"{row['area']:,.0f}", f"{row['expected_loss']:.2f} +- {row['expected_error']:.2f}",
                 f"{row['accuracy']:.2f}"] for row in r["fast"] if row["accuracy"] is not None]
        parts += [f"{network}, {r['images']} test images: front of cycles and area among {r['rows']} points, those expected to lose at most {found['max_loss']:g} "
                  "points beyond exact 8 bit, estimated on calibration images alone:\n",
                  table([*columns.values(), "cycles", f"area, {found['area_unit']}", "expected loss, points", "top-1, %"], rows)]
        rows = [[name + (", before it was changed" if row["changed"] else ""), f"{row['cycles']:,}", f"{row['area']:,.0f}",
                 "yes" if row["on_front"] else f"no, {row['excess']:.2f} times off: {', '.join(row['beaten_by'])}"] for name, row in r["shipped"].items()]
        parts.append(table(["shipped", "cycles", f"area, {found['area_unit']}", "on the front"], rows))
    rows = [[name, entry["configuration"], f"{entry['conv_cycles']:,}", "" if "gain" not in entry else f"{entry['gain']:.2f}",
             "" if entry.get("kept", True) else entry["cause"]]
            for name, entries in found["scaling"].items() for entry in entries if not entry["reason"]]
    parts += ["Throughput on ResNet-20's convolutions when an axis doubles; at least 1.9 was asked for, and what ended it:\n",
              table(["axis", "configuration", "cycles of convolutions", "gain of the doubling", "ended by"], rows)]
    return "\n".join(parts)


def groups(found: dict) -> str:
    """The grid of searched mixtures: all of its points, whether they are on a front or not."""
    rows = [[network, row["configuration"], f"{row['cycles']:,}", f"{row['area']:,.0f}", f"{row['array_to_dense']:.2f}",
             f"{row['cycles'] * row['area'] / 1e9:,.1f}", f"{row['energy_nj'] / 1e3:.2f}", f"{row['expected_loss']:.2f} +- {row['expected_error']:.2f}",
             f"{row['accuracy']:.2f}"] for network, r in found["networks"].items() for row in r["searched"]
            if row["area"] is not None and row["accuracy"] is not None]
    return table(["network", "configuration", "cycles", f"area, {found['area_unit']}", "array / dense", "cycles x area / 1e9", "uJ",
                  "expected loss, points", "top-1, %"], rows)


def tools(found: dict) -> str:
    lines = []
    for what, names in (("area", ("library", "yosys", "abc", "amaranth")), ("timing", ("sta",)), ("fpga", ("nextpnr", "seed"))):
        for report in list(found.get(what, {}).values())[:1]:
            lines += [f"* {name}: {report[name]}" for name in names]
    return "\n".join(lines) + "\n"


HEADINGS = {"area": "## Area", "timing": "## Timing", "power": "## Power", "energy": "## Energy per inference", "fpga": "## FPGA",
            "sweep": "## Design space", "groups": "### Groups of eight or of four"}

TEMPLATE = """\
# What it costs in silicon

Written by `make silicon` from the reports that the other commands leave under `build/`; not by hand. Every figure is of the generated Verilog.

{tools}
## Area
`make area CONFIG=... LIBERTY=...`: every distinct module mapped once, its area times its instances. The array is all that grows with the number of nibble
multipliers: elements, selectors, operand and weight registers, their sequencing. Beside it a plain dense INT4 array (`hw/dense_array.py`) of as many rows,
columns and lanes, from the same script: 4 x 4 bit, unsigned codes, the same staging and drain, its multipliers written as small as we could. It was to be at most 1.40
times as large in `small`, which is not met; `large` meets it, and so would `small` with groups of four, which cost more than they save (below, "Groups of eight
or of four"). What is above the dense array: accumulators five bits wider, selectors and staging, the choice of
the weight slot, the term's shift, a sign beside the four bits of code and of weight, and a register for the weights, without which the memory's delay would stand
before the multiplier's. Where more columns share a selector, or groups are smaller, it is less. `small-plain` has weight digits of four bits instead of five:
smaller, but more layers then need two digits (`python -m compare.accuracy --method sdp --config small-plain`), so it is not what `small` is.

{area}
## Timing
`make timing CONFIG=... LIBERTY=...`: OpenSTA on the netlists that area counts; ideal clock, no wires, memories with the delays of the foundry's SRAM
(`synth/cells/macros.py`). The measure is an INT8 multiply-accumulate with a 32-bit accumulator, mapped by the same script.

{timing}
## Power
`make power CONFIG=... LIBERTY=...`: the mapped netlist of the whole array, every gate with its own delays, on what its ports did while the RTL ran layers of
a real network. Each transition costs 1/2 C V^2 of the pins and wires that it drives and the internal energy of its cell; flip-flops pay for the clock, of which
a tree with one buffer per 16 pins is included; nothing is gated. The digits are the demonstration's, and what `sdp energy` rests on; another network is measured with
`python -m sdp power --model ... --test ... --calibration ...`.

{power}
## Energy per inference
`sdp energy DIR`: array, memories and DRAM. The bits moved are exact: `golden/traffic.py` counts them, the machine's counters must agree in every simulation.
What a bit costs stands with source and bounds in `synth/energy_constants.toml`, on two bases that are never mixed: as published at 45 nm, and at the library's
130 nm with the foundry's SRAM.

{energy}
## FPGA
`make fpga CONFIG=...`: Yosys and nextpnr for Lattice ECP5, after place and route; only the clock has its pin. All memories lie in block RAM, or the command fails.
Products, sums and slot choices of the elements and the crossbar of the activation memory are made of the device's own cells (`synth/ecp5/platform.py`), which SAT
proves to compute the same. A design that takes more than half of the device gets spacers, rows of LUTs that are kept free, so that it is placed all over the device
(`synth/ecp5/spacers.py`), and is routed without regard for timing and with costs that grow slowly (`synth/ecp5/nextpnr.py`). Of the 800,000 wires of `small`
nextpnr leaves 2,000 contested without the spacers, and with them at best 50 with timing and 110 without it, then more again, as long as costs grow as fast as it
lets them. The clock is therefore that of a design that fits and works, not the highest that the device could have. One seed; the minutes are those of nextpnr as
named above, on two cores; PyPI's takes several times as long.

{fpga}
## Design space
`make sweep`: `sweep.toml` says over what; results, plots and this summary lie under `build/sweep`. Shipped configurations were chosen from it: with one budget in all
layers, groups of four codes in four lanes are the fastest use of silicon from `small-4` on. `small` has groups of eight for their finer budgets, which pay where each
layer has its own (the last table); `small-4`, `medium` and `large` are g4-l4-8x8, g4-l4-16x8 and g4-l8-16x16 of this grid, the last two with more activation memory.

{sweep}
### Groups of eight or of four
`make sweep GRID=sweep-groups.toml`: four ways to spend 256 nibble multipliers, each network with the mixture of budgets that the compiler finds to lose at most
one point. Time times area is what a chip pays for an image. Groups of four bring the array within 1.40 of the dense one, but need more terms for the same
accuracy and read words half as wide: more energy on all networks, more time times area on ResNet-20 and DS-CNN, about as much on the others. So `small` keeps groups
of eight; plain digits (of four bits) cost ResNet-20 and ResNet-8 about a fifth in time times area and save little elsewhere.

{groups}
"""


def sections(document: str) -> dict[str, str]:
    """By heading, with it; what comes before the first is called ""."""
    first, *parts = re.split(r"^(?=##+ )", document, flags=re.MULTILINE)
    return {"": first} | {part.split("\n", 1)[0]: part for part in parts}


def kept(before: str, now: str, missing: set[str]) -> str:
    """``now``, but sections that lack a report are as in ``before``, and so are the tools that nobody names any more."""
    old, new = sections(before), sections(now)
    lines = [line for line in old[""].splitlines() if line.startswith("* ") and line.split(":")[0] not in {name.split(":")[0] for name in new[""].splitlines()}]
    new[""] = "\n".join([*new[""].rstrip("\n").split("\n"), *lines]) + "\n\n"
    return "".join((new | {heading: old[heading] for what, heading in HEADINGS.items() if what in missing and heading in old}).values())


def write(build: Path, document: Path, keep: bool = False) -> list[str]:
    """Returns the commands that would make what is missing; the document says so at its place, or with ``keep`` has what it had there.

    Only who knows that the hardware is the same may keep figures. Raises ``UserError``, if nothing is there as well."""
    found, missing = collect(build)
    if not any(found.values()):
        raise SiliconError(f"nothing was measured: there is no report under {build}; the first one comes from {next(iter(missing.values()))[0]}")

    def section(make, what):
        there = make(found[what]) if found.get(what) else ""
        lacks = f"Not measured in this state: {', '.join(f'`{command}`' for command in missing[what])}.\n" if what in missing else ""
        return "\n".join(part for part in (there, lacks) if part)

    parts = {make.__name__: section(make, make.__name__) for make in (area, timing, power, energy, fpga, sweep, groups)}
    output.made(document.parent)
    try:
        text = TEMPLATE.format(tools=tools(found), **parts)
        document.write_text(kept(document.read_text(), text, set(missing)) if keep and document.is_file() else text)
    except OSError as error:
        raise output.OutputError(f"cannot write {error.filename}: {error.strerror}") from None
    return [command for commands in missing.values() for command in commands]


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m synth.silicon", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="sections without a report stay as they are; for hardware that has not changed since")
    try:
        missing = write(Path("build"), DOCUMENT, parser.parse_args(arguments).keep)
    except UserError as error:
        print(f"silicon: {error}", file=sys.stderr)
        return 1
    for command in missing:
        print(f"not measured: {command}")
    print(DOCUMENT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
