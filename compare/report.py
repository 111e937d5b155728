"""``docs/comparison.md``: the tables of the comparison; nothing is measured here and nothing is written into it by hand."""

from pathlib import Path

from compare.cases import FINETUNED, LOSS
from compare.hardware import UNITS, Hardware
from synth.silicon import table

DOCUMENT = Path("docs") / "comparison.md"
NAMES = {"sdp": "SDP", "static": "static INT4/INT8", "int8": "INT8", "drq": "DRQ", "olaccel": "OLAccel"}
CLAIMS = (
    ("SDP against DRQ, time", "29 % (1.29, or 1/0.71 = 1.41 if a reduction of time is meant as in DRQ's paper)"),
    ("SDP against DRQ, energy", "0.49"),
)
ASSUMPTIONS = """\
* Every method chooses its modes per layer by the same search, from the same calibration images, with the same passes before and after it; its own page says
  what it is allowed (`compare/*.py`, first lines). Test images report, they choose nothing; *hindsight* rows are the exception, for all methods alike.
* DRQ: masks per region and channel [A]; weights as signed digits, so that their top nibble is rounded [A, generous]; thresholds per layer [A, generous; one
  per network in the paper]. *Ideal* is 1 + 3f products per multiplication and no stall; *as built* is `hw/drq_array.py` in our shell, cycle for cycle.
  Masks that do not fit its mask memory (regions of one pixel) are not charged [generous].
* Static INT4/INT8: 4 or 8 bits of activations and of weights per layer. A tensor that an addition reads in eight bits is rounded to four on its way into a
  layer at no cost [A, generous]. As built: `int4-small`, which runs eight bits in two passes.
* OLAccel: shares of outliers per layer [A, generous]; nibble cycles are those of its normal groups' multipliers; it skips zeros, no other method here does.
  *As built* is its cycle model (`golden/olaccel_cycles.py`); its area is six normal groups and an outlier group, without buffers and control [generous].
* Eyeriss: 168 elements of 16 bits, dense, batch 4; validated against its publications in tests/test_eyeriss.py.
* Depthwise layers and pooling run on the shell's channel unit, the same for all that are in the shell; nibble cycles per multiplication leave them out.
* Equal area: arrays with all that feeds them (selectors, staging, weight registers; for DRQ its pipeline of codes), without memories; sums below DRQ's array
  and its masks lie in memories and are not in its area [generous].
* Weights that do not fit into a machine's weight memory are loaded again for every image; all machines have equally many bits. *All weights on the chip*
  is the energy without these loads: what is left when the size of that memory decides nothing.
* Energy, published basis: 45 nm figures of other groups; an array costs its useful products times a published element, whatever method it is. Library basis:
  our netlists, all gates with their delays on real layers; where a machine's netlist was not measured nothing is said, nor for DRQ,
  whose array holds memories that the simulation of gates does not know.
"""


HEAD = """\
# SDP beside its rivals

Written by `make compare`, not by hand: the same networks, data, search, library and shell for all. Nibble cycles per multiplication: cycles times nibble
multipliers over multiplications; an exact 8 bit multiplication takes 4. *Ideal*: no stall, no idle multiplier; *as built*: cycles that the RTL takes, idle
multipliers included.
"""


READINGS = {"chosen": "Chosen on calibration images to lose at most a point",
            "hindsight": "The cheapest of each curve that loses at most a point on the test images"}


def label(method: str, report: dict) -> str:
    """A method's name, and whether training left it out."""
    return NAMES[method] + (", not trained" if report.get("untrained") else "")


def relative(ours: float, theirs: float) -> str:
    return f"{theirs / ours:.2f}" if ours and theirs else ""


def accuracy(reports: dict[str, dict], picked: str) -> str:
    """A network's methods at one reading of equal accuracy."""
    rows, sdp = [], None
    for method, report in reports.items():
        at = report["picked"][picked]
        if at is None:
            rows.append([label(method, report), "none", *[""] * 5])
            continue
        point = report["points"][at]
        sdp = point if method == "sdp" else sdp
        built = point.get("built") or point.get("modelled")
        rows.append([label(method, report), f"{point['top1']:.2f}", f"{report['top1_float'] - point['top1']:.2f}", f"{point['ideal_on_test']:.3f}",
                     f"{built:.3f}" if built else "", relative(sdp["ideal_on_test"], point["ideal_on_test"]) if sdp else "",
                     relative(sdp["built"], point["ideal_on_test"]) if sdp and method != "sdp" else ""])
    return table(["method", "top-1, %", "points lost", "ideal", "as built", "ideal / SDP ideal", "ideal / SDP as built"], rows)


def equal_area(reports: dict[str, dict], hardware: dict[str, Hardware], picked: str) -> str:
    """Time at equal area, and energy, relative to SDP."""
    rows, ours = [], None
    for method, report in reports.items():
        at = report["picked"][picked]
        if at is None or method not in hardware:
            continue
        point, um2 = report["points"][at], hardware[method].per_multiplier
        mine = {"ideal": point["ideal_on_test"] * um2, "built": point.get("built", point.get("modelled")) * um2}
        cells = [""] * 6
        if "energy" in point:
            mine |= {basis: e["total"]["value"] for basis, e in point["energy"].items()} | {"resident": point["energy"]["published"]["resident"]}
            ours = mine if method == "sdp" else ours
            shares = " / ".join(f"{point['energy']['published'][part]:.2f}" for part in ("array", "activations", "weights", "scales", "dram"))
            library = hardware[method].power is not None
            cells = [f"{mine['published']:.2f}", shares, relative(ours["published"], mine["published"]) if ours else "",
                     relative(ours["resident"], mine["resident"]) if ours else "",
                     f"{mine['library']:.1f}" if library else "", relative(ours["library"], mine["library"]) if ours and library else ""]
        rows.append([label(method, report), f"{um2:,.0f}", *(relative(ours["built"], mine[kind]) if ours else "" for kind in ("ideal", "built")), *cells])
        if method == "static" and ours and (dense := hardware["sdp"].dense):
            rows.append(["the same, if a plain INT4 array could run its 8-bit layers", f"{dense:,.0f}", relative(ours["built"], point["ideal_on_test"] * dense),
                         *[""] * 7])
    return table(["method", "um2 per nibble multiplier", "time at equal area, rival ideal / SDP as built", "rival as built / SDP as built", "uJ per image, published",
                  "array / activations / weights / scales / DRAM", "/ SDP", "/ SDP, all weights on the chip", "uJ, library",
                  "/ SDP "], rows)


def effort(reports: dict[str, dict]) -> str:
    rows = []
    for method, report in reports.items():
        e = report["effort"]
        rows.append([NAMES[method], e["space"]["modes"], f"{e['space']['log10']:.1f}", e["networks"], e["changes"], f"{e['seconds']:.0f}",
                     e.get("ranges", ""), e.get("variant", "")])
    return table(["method", "modes per layer", "log10 of the space", "networks measured", "single layers tried", "seconds", "ranges", "variant"], rows)


def curves(reports: dict[str, dict]) -> str:
    lines = []
    for method, report in reports.items():
        points = ", ".join(f"{point['ideal_on_test']:.3f}: {point['top1']:.2f}" for point in report["points"])
        lines.append(f"* {NAMES[method]}: {points}")
    return "\n".join(lines) + "\n"


def loses(reports: dict[str, dict[str, dict]], hardware: dict[str, Hardware]) -> str:
    """Every figure of the tables that is better for a rival."""
    found = []
    for network, methods in reports.items():
        for picked in methods["sdp"]["picked"]:
            at = methods["sdp"]["picked"][picked]
            if at is None:
                found.append(f"* {network}, {picked}: SDP has no point that loses at most {LOSS:g} point.")
                continue
            sdp = methods["sdp"]["points"][at]
            for method, report in methods.items():
                other = report["picked"][picked]
                if method == "sdp" or other is None:
                    continue
                point = report["points"][other]
                if point["ideal_on_test"] < sdp["built"]:
                    found.append(f"* {network}, {picked}: {NAMES[method]}, ideal, takes {point['ideal_on_test']:.3f} nibble cycles per multiplication, "
                                 f"SDP as built {sdp['built']:.3f}.")
                if method in hardware and "sdp" in hardware:
                    area = point["ideal_on_test"] * hardware[method].per_multiplier, sdp["built"] * hardware["sdp"].per_multiplier
                    if area[0] < area[1]:
                        found.append(f"* {network}, {picked}: {NAMES[method]}, ideal, is {area[1] / area[0]:.2f} times faster at equal area.")
                if "energy" in point and point["energy"]["published"]["total"]["value"] < sdp["energy"]["published"]["total"]["value"]:
                    found.append(f"* {network}, {picked}: {NAMES[method]} takes less energy (published basis).")
    return "\n".join(found or ["Nowhere in these tables."]) + "\n"


def areas(hardware: dict[str, Hardware], units: dict[str, float]) -> str:
    rows = [[f"{NAMES[method]}, `{h.config}`", h.multipliers, f"{h.array:,.0f}", f"{h.per_multiplier:,.0f}", f"{h.logic:,.0f}", f"{h.memory_bits / 8192:,.0f}",
             f"{h.ns:.2f}" if h.ns else ""] for method, h in hardware.items()]
    rows += [[name, UNITS[name][2], f"{um2:,.0f}", f"{um2 / UNITS[name][2]:,.0f}", "", "", ""] for name, um2 in units.items()]
    return table(["machine or unit", "multipliers", "array, um2", "per multiplier", "logic of the machine", "memories, KiB", "critical path, ns"], rows) + "\n" + (
        "Multipliers of machines are worth 4 x 4 bits; OLAccel's are 4 x 4 (normal) and 16 x 4 (outlier), Eyeriss' 16 x 16, its filter memory not included.\n")


def trained(reports: dict[str, dict]) -> str:
    """What training made of each method's cheapest points."""
    rows = [[NAMES[method], f"{point['ideal_on_test']:.3f}", f"{point['top1_before']:.2f}", f"{point['top1']:.2f}", f"{report['top1_float'] - point['top1']:.2f}",
             f"{point['curve'][0]['divergence']:.4f}", f"{point['curve'][-1]['divergence']:.4f}", point["seconds"]]
            for method, report in reports.items() if not report.get("untrained") for point in report["points"]]
    return table(["method", "ideal nibble cycles per multiplication", "top-1 before, %", "trained, %", "points lost", "divergence on held images before, nats",
                  "trained, nats", "seconds"], rows)


def render(results: dict, hardware: dict[str, Hardware], units: dict[str, float], eyeriss: dict[str, dict], missing: list[str], plots: list[Path]) -> str:
    """The document."""
    parts = [HEAD]
    if missing:
        parts.append("Not measured in this state: " + ", ".join(f"`{command}`" for command in missing) + ".\n")
    for network, reports in results.items():
        first = next(iter(reports.values()))
        parts.append(f"## {network}\nFloat {first['top1_float']:.2f} % of {first['images']:,} test images.\n")
        for picked in first["picked"]:
            parts += [f"{READINGS[picked]}, nibble cycles per multiplication:\n", accuracy(reports, picked), equal_area(reports, hardware, picked)]
        if network.endswith(FINETUNED):
            used = first["settings"]
            parts += [f"`python -m compare.training --network {network.removesuffix(FINETUNED)}`: the cheapest points of each curve, {used['epochs']} epochs at a "
                      f"rate of {used['rate']:g} each; all that was trained:\n", trained(reports)]
            continue
        parts += ["Curves, ideal nibble cycles per multiplication: top-1:\n", curves(reports), "Search:\n", effort(reports)]
        if network in eyeriss:
            e = eyeriss[network]
            parts.append(f"Eyeriss, 168 elements of 16 bits: {e['cycles']:,.0f} cycles per image, {e['built']:.1f} nibble cycles per multiplication, "
                         f"{e['utilization']:.0%} of its elements used.\n")
    parts += ["## Area\n", areas(hardware, units)]
    parts += ["## Where SDP loses\n", loses({n: r for n, r in results.items() if "sdp" in r}, hardware)]
    parts += ["## What the papers claim\n", table(["claim", "paper"], [list(claim) for claim in CLAIMS]),
              "DRQ against Eyeriss: 92 % less time. Its figures count 4-bit elements against 168 16-bit ones: the same area holds many more of these.\n"]
    if plots:
        parts.append("Plots: " + ", ".join(f"`{path}`" for path in plots) + ".\n")
    parts += ["## Assumptions\n", ASSUMPTIONS]
    return "\n".join(parts)
