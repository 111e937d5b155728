"""``docs/comparison.md``: the tables of the comparison; nothing is measured here and nothing is written into it by hand."""

from pathlib import Path

from compare import claims, settings
from compare.cases import FINETUNED
from compare.energy_table import energy
from compare.hardware import UNITS, Hardware, eyeriss
from compare.losses import loses
from compare.names import NAMES, label, relative
from synth.silicon import table

DOCUMENT = Path("docs") / "comparison.md"
ASSUMPTIONS = """\
* Every method chooses its modes per layer by the same search, from the same calibration images, with the same passes before and after it; its own page says
  what it is allowed (`compare/*.py`, first lines). Test images report, they choose nothing; *hindsight* rows are the exception, for all methods alike.
* SDP: weights of one digit are four bits and a sign, so five bits in memory, in traffic and in the array's area; static INT4 has four in two's complement.
* DRQ: masks per region and channel [A]; weights as signed digits, so that their top nibble is rounded [A, generous]; thresholds per layer [A, generous; one
  per network in the paper]. *Ideal* is 1 + 3f products per multiplication and no stall; *as built* is `hw/drq_array.py` in our shell, cycle for cycle.
  Masks that do not fit its mask memory (regions of one pixel) are not charged [generous].
* Static INT4/INT8: 4 or 8 bits of activations and of weights per layer. A tensor that an addition reads in eight bits is rounded to four on its way into a
  layer at no cost [A, generous]. As built: `int4-small`, which runs eight bits in two passes.
* OLAccel: shares of outliers per layer [A, generous]; nibble cycles are those of its normal groups' multipliers; it skips zeros, no other method here does.
  *As built* is its cycle model (`golden/olaccel_cycles.py`), which skips zeros in exact layers, too, where *ideal* counts four products; its area is six
  normal groups and an outlier group, without buffers and control [generous]. Energy: products that are not skipped, and bits moved by a model with SDP's
  memories (`compare/energy_models.py`).
* INT16: the 8-bit codes and weights of INT8, sign-extended, in an array for 16 bits; memories and DRAM move the 8 bits that there are [generous].
* Eyeriss: 168 elements of 16 bits, batch 4, with the zeros and the accuracy of the float network [generous]; cycles and accesses are validated against its
  publications in tests/test_eyeriss.py. Energy: accesses on its own relative scale, a MAC of it as the published 16-bit element: the chip's measured
  power is 2.8 (AlexNet) and 4.7 times that (VGG-16, 65 nm, clock included; tests/test_compare_energy.py). Its register files count, nobody else's do.
* Depthwise layers and pooling run on the shell's channel unit, the same for all that are in the shell; nibble cycles per multiplication leave them out.
* Equal area: arrays with all that feeds them (selectors, staging, weight registers; for DRQ its pipeline of codes), without memories; sums below DRQ's array
  and its masks lie in memories and are not in its area [generous].
* Weights that do not fit into a machine's weight memory are loaded again for every image; all machines have equally many bits. *All weights on the chip*
  is the energy without these loads: what is left when the size of that memory decides nothing.
* Energy, published basis: 45 nm figures of other groups; an array costs its useful products times a published element, whatever method it is. Library basis:
  our netlists, all gates with their delays on real layers, mW while it runs at 100 MHz, DRAM included; where a machine's netlist was not measured nothing is
  said. DRQ's array without what is inside of its memories, whose bits cost what all memories' do: measured with none to all of the codes sensitive, energy
  per cycle the straight line through all of these measurements (`compare/energy.py`) at each layer's share, times its exact cycles.
"""


HEAD = """\
# SDP beside its rivals

Written by `make compare`, not by hand: the same networks, data, search, library and shell for all. Nibble cycles per multiplication: cycles times nibble
multipliers over multiplications; an exact 8 bit multiplication takes 4. *Ideal*: no stall, no idle multiplier; *as built*: cycles that the RTL takes, idle
multipliers included. *Busy*: the one over the other; the rest are stalls, drains, and multipliers that have no output of their own. Cycles per image are of all
layers, of Eyeriss' 168 elements too.
"""


READINGS = {"chosen": "Chosen on calibration images to lose at most a point",
            "hindsight": "The cheapest of each curve that loses at most a point on the test images"}


def accuracy(reports: dict[str, dict], picked: str) -> str:
    """A network's methods at one reading of equal accuracy."""
    rows, sdp = [], None
    for method, report in reports.items():
        at = report["picked"][picked]
        if at is None:
            rows.append([label(method, report), "none", *[""] * 7])
            continue
        point = report["points"][at]
        sdp = point if method == "sdp" else sdp
        built = point.get("built")
        rows.append([label(method, report), f"{point['top1']:.2f}", f"{report['top1_float'] - point['top1']:.2f}", f"{point['ideal_on_test']:.3f}",
                     f"{built:.3f}" if built else "", f"{min(1, point['ideal_on_test'] / built):.0%}" if built else "",
                     f"{point['cycles']:,.0f}" if "cycles" in point else "", relative(sdp["ideal_on_test"], point["ideal_on_test"]) if sdp else "",
                     relative(sdp["built"], point["ideal_on_test"]) if sdp and method != "sdp" else ""])
    return table(["method", "top-1, %", "points lost", "ideal", "as built", "busy", "cycles per image", "ideal / SDP ideal",
                  "ideal / SDP as built"], rows)


def equal_area(reports: dict[str, dict], hardware: dict[str, Hardware], picked: str) -> str:
    """Time at equal area, relative to SDP."""
    rows, ours = [], None
    for method, report in reports.items():
        at = report["picked"][picked]
        if at is None or method not in hardware:
            continue
        point, um2 = report["points"][at], hardware[method].per_multiplier
        mine = {"ideal": point["ideal_on_test"] * um2, "built": point["built"] * um2}
        ours = mine if method == "sdp" else ours
        rows.append([label(method, report), f"{um2:,.0f}", *(relative(ours["built"], mine[kind]) if ours else "" for kind in ("ideal", "built"))])
        if method == "static" and ours and (dense := hardware["sdp"].dense):
            rows.append(["the same, if a plain INT4 array could run its 8-bit layers in as many cycles", f"{dense:,.0f}",
                         *(relative(ours["built"], point[kind] * dense) for kind in ("ideal_on_test", "built"))])
    return table(["method", "um2 per nibble multiplier", "time at equal area, rival ideal / SDP as built", "rival as built / SDP as built"], rows)


def curves(reports: dict[str, dict]) -> str:
    lines = []
    for method, report in reports.items():
        points = ", ".join(f"{point['ideal_on_test']:.3f}: {point['top1']:.2f}" for point in report["points"])
        lines.append(f"* {NAMES[method]}: {points}")
    return "\n".join(lines) + "\n"


def areas(hardware: dict[str, Hardware], units: dict[str, float]) -> str:
    rows = [[f"{NAMES[method]}, `{h.config}`", h.multipliers, f"{h.array:,.0f}", f"{h.per_multiplier:,.0f}", f"{h.logic:,.0f}", f"{h.memory_bits / 8192:,.0f}",
             f"{h.ns:.2f}" if h.ns else ""] for method, h in hardware.items()]
    rows += [[name, UNITS[name][2], f"{um2:,.0f}", f"{um2 / UNITS[name][2]:,.0f}", "", "", ""] for name, um2 in units.items()]
    return table(["machine or unit", "multipliers", "array, um2", "per multiplier", "logic of the machine", "memories, KiB", "critical path, ns"], rows) + "\n" + (
        "Multipliers of machines are worth 4 x 4 bits; OLAccel's are 4 x 4 (normal) and 16 x 4 (outlier), Eyeriss' 16 x 16, its filter memory not included.\n")


def trained(reports: dict[str, dict]) -> str:
    """What training made of each method's cheapest points."""
    rows = [[NAMES[method], f"{point['ideal_on_test']:.3f}", f"{point['top1_before']:.2f}", f"{point['top1']:.2f}", f"{report['top1_float'] - point['top1']:.2f}",
             f"{point['curve'][0]['divergence']:.4f}", f"{point['curve'][-1]['divergence']:.4f}", point["seconds"], settings.layers(method, point)]
            for method, report in reports.items() if not report.get("untrained") for point in report["points"]]
    return table(["method", "ideal nibble cycles per multiplication", "top-1 before, %", "trained, %", "points lost", "divergence on held images before, nats",
                  "trained, nats", "seconds", "layers by mode"], rows)


def render(results: dict, hardware: dict[str, Hardware], units: dict[str, float], chips: dict[str, dict], missing: list[str], plots: list[Path]) -> str:
    """The document. ``chips``: Eyeriss by network."""
    parts, hardware = [HEAD], hardware | eyeriss(units)
    if missing:
        parts.append("Not measured in this state: " + ", ".join(f"`{command}`" for command in missing) + ".\n")
    for network, reports in results.items():
        first = next(iter(reports.values()))
        parts.append(f"## {network}\nFloat {first['top1_float']:.2f} % of {first['images']:,} test images.\n")
        for picked in first["picked"]:
            parts += [f"{READINGS[picked]}, nibble cycles per multiplication:\n", accuracy(reports, picked), equal_area(reports, hardware, picked),
                      energy(reports, hardware, picked)]
        if papers := claims.beside_the_papers(reports, hardware):
            parts.append(papers)
        if network.endswith(FINETUNED):
            used = next(report["settings"] for report in reports.values() if "settings" in report)
            parts += [f"`python -m compare.training --network {network.removesuffix(FINETUNED)}`: the cheapest points of each curve, {used['epochs']} epochs at a "
                      f"rate of {used['rate']:g} each; all that was trained:\n", trained(reports)]
            continue
        parts += ["Curves, ideal nibble cycles per multiplication: top-1:\n", curves(reports), "Search, and the settings chosen:\n", settings.search(reports)]
        if network in chips:
            e = chips[network]
            parts.append(f"Eyeriss, 168 elements of 16 bits: {e['cycles']:,.0f} cycles per image, {e['built']:.1f} nibble cycles per multiplication of layers that sum "
                         f"over channels, {e['utilization']:.0%} of its elements used.\n")
    parts += ["## Area\n", areas(hardware, units)]
    parts += ["## Where SDP loses\n", loses({n: r for n, r in results.items() if "sdp" in r}, hardware)]
    if plots:
        parts.append("Plots: " + ", ".join(f"`{path}`" for path in plots) + ".\n")
    parts += ["## Assumptions\n", ASSUMPTIONS]
    return "\n".join(parts)
