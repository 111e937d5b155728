"""What the papers claim, beside what was found here: time and energy relative to Eyeriss, and of one method relative to another.

Sources. DRQ: Song et al., ISCA 2020, its figures for ILSVRC, Eyeriss = 1, where OLAccel stands as well; 92 % "performance gain" and 72 % less energy than
Eyeriss, 21 % and 33 % than OLAccel. SDP: 29 % performance gain and 51 % less energy than DRQ; as DRQ's gain is a reduction of time, 29 % may be 1.29 or
1 / 0.71 = 1.41. INT8 share of DRQ, by its authors: 6-14 %. OLAccel: Park et al., ISCA 2018: less energy than 16-bit and 8-bit designs that skip zeros, which
INT16 and INT8 here do not.
"""

import textwrap
from dataclasses import dataclass

from compare.hardware import Hardware
from compare.int16 import PRODUCTS
from compare.names import NAMES
from synth.silicon import table


@dataclass(frozen=True)
class Claim:
    """Between ``low`` and ``high``; ``text``: what the paper says, if these follow from it."""

    low: float
    high: float
    text: str = ""

    def __str__(self):
        return self.text or (f"{self.low:g}" if self.low == self.high else f"{self.low:g}-{self.high:g}")

    def factor(self, found: float) -> float:
        """By how much what was found is off the nearest end; 1 between them."""
        return found / min(max(found, self.low), self.high)


TIME = {"drq": Claim(0.074, 0.078), "olaccel": Claim(0.09, 0.10, "0.09-0.10")}
"""Relative to Eyeriss'."""
ENERGY = {"drq": Claim(0.26, 0.32), "olaccel": Claim(0.35, 0.50, "0.35-0.50")}
PAIRS = (
    ("time", "drq", "olaccel", Claim(0.79, 0.79, "0.79 (21 % less)")),
    ("energy", "drq", "olaccel", Claim(0.67, 0.67, "0.67 (33 % less)")),
    ("energy", "olaccel", "int16", Claim(0.378, 0.565, "0.38-0.57 (62.2-43.5 % less)")),
    ("energy", "olaccel", "int8", Claim(0.505, 0.73, "0.51-0.73 (49.5-27.0 % less)")),
    ("time", "drq", "sdp", Claim(1.29, 1.29, "1.29 (29 % faster)")),
    ("time", "drq", "sdp", Claim(1 / 0.71, 1 / 0.71, "1.41 (29 % less time)")),
    ("energy", "sdp", "drq", Claim(0.49, 0.49, "0.49 (51 % less)")),
)
"""(what, of whom, relative to whom, claim)."""
SHARE = "6-14 %"


def at(reports: dict[str, dict], method: str, picked: str) -> dict | None:
    """A method's point at a reading of equal accuracy."""
    report = reports.get(method)
    found = report["picked"].get(picked) if report else None
    return None if found is None else report["points"][found]


def as_built(point: dict) -> float | None:
    """Nibble cycles per multiplication of the hardware or, of OLAccel and Eyeriss, of its model."""
    return point.get("built")


def energy(point: dict) -> float | None:
    """uJ per image, published basis."""
    return point["energy"]["published"]["total"]["value"] if "energy" in point else None


def busy(point: dict) -> float:
    """Time relative to Eyeriss if a multiplication of 16 bits counts as 16 nibble products and multipliers never wait."""
    return point["ideal_on_test"] / PRODUCTS


def ratio(one: float | None, other: float | None) -> float | None:
    """None where one of them was not measured."""
    return one / other if one and other else None


def _cells(found: float | None, claim: Claim | None) -> list[str]:
    """Found, claimed, and the factor between."""
    return [f"{found:.3f}" if found else "", str(claim or ""), f"{claim.factor(found):.2f}" if found and claim else ""]


def beside_eyeriss(reports: dict[str, dict], hardware: dict[str, Hardware]) -> str:
    """A row per method and reading."""
    rows = []
    for picked in reports["eyeriss"]["picked"]:
        eyeriss = at(reports, "eyeriss", picked)
        for method in ("drq", "olaccel", "sdp"):
            if (point := at(reports, method, picked)) is None:
                continue
            built = ratio(as_built(point), as_built(eyeriss))
            area = hardware[method].per_multiplier / hardware["eyeriss"].per_multiplier if method in hardware and "eyeriss" in hardware else None
            rows.append([f"{NAMES[method]}, {picked}", *_cells(busy(point), TIME.get(method)), *_cells(built, TIME.get(method))[::2],
                         f"{built * area:.3f}" if built and area else "", *_cells(ratio(energy(point), energy(eyeriss)), ENERGY.get(method))])
    return table(["relative to Eyeriss", "time, both always busy: ideal / 16", "paper", "here / paper", "time, both as built", "here / paper ",
                  "as built at equal area", "energy", "paper ", "here / paper  "], rows)


def beside_each_other(reports: dict[str, dict]) -> str:
    """A row per claim and reading."""
    rows = []
    for picked in reports["eyeriss"]["picked"]:
        for what, one, other, claim in PAIRS:
            points = at(reports, one, picked), at(reports, other, picked)
            if None in points:
                continue
            figures = (lambda point: point["ideal_on_test"], as_built) if what == "time" else (energy,)
            cells = [cell for figure in figures for cell in _cells(ratio(figure(points[0]), figure(points[1])), claim)[::2]]
            rows.append([f"{NAMES[one]}'s {what} / {NAMES[other]}'s, {picked}", str(claim), *cells, *[""] * (4 - len(cells))])
    return table(["claim", "paper", "here: ideal / ideal, or energy", "here / paper", "as built / as built", "here / paper "], rows)


def share(nibble_products: float) -> float:
    """Of multiplications that DRQ makes in 8 bits, from its products per multiplication, ``1 + 3f``."""
    return (nibble_products - 1) / 3


def explained(reports: dict[str, dict]) -> str:
    """Why the figures here are not those of the papers."""
    picked, found = reports["eyeriss"]["picked"], []
    points = {method: {reading: point for reading in picked if (point := at(reports, method, reading))} for method in ("drq", "olaccel", "eyeriss")}
    claim = TIME["drq"]
    shares = [f"{reading}: f = {share(point['ideal_on_test']):.1%}, so {busy(point):.3f}, {claim.factor(busy(point)):.2f} times the claim"
              for reading, point in points["drq"].items()]
    if shares:
        found.append(f"DRQ's {claim} of Eyeriss' time is (1+3f)/16 at f = {share(PRODUCTS * claim.low):.1%} to {share(PRODUCTS * claim.high):.1%} of the "
                     f"multiplications in 8 bits: one of 16 bits counts as 16 nibble products, and both arrays as equally busy (its authors state {SHARE}). "
                     f"What f is follows from the accuracy asked of this network; by the same count, {'; '.join(shares)}.")
    claim = TIME["olaccel"]
    taken = [f"{point['ideal_on_test']:.3f} ({reading})" for reading, point in points["olaccel"].items()]
    if taken:
        found.append(f"OLAccel's {claim} would be {PRODUCTS * claim.low:.2f} to {PRODUCTS * claim.high:.2f} nibble products per multiplication by the same count; "
                     f"here it takes {', '.join(taken)}: zeros take no time, and shares of outliers are chosen per layer [generous]. "
                     "The designs of its own paper skip zeros, INT16 and INT8 here do not.")
    eyeriss = next(iter(points["eyeriss"].values()))
    parts, whole = eyeriss["energy"]["published"], energy(eyeriss)
    found.append(f"The other readings differ. As built Eyeriss takes {eyeriss['built']:.1f} nibble cycles per multiplication, not {PRODUCTS}: on this network "
                 f"{eyeriss['utilization']:.0%} of its elements work, and it waits for DRAM. At equal area a nibble multiplier with all that feeds it "
                 f"stands against a sixteenth of Eyeriss' element.")
    bare = [f"{energy(point) / (whole - parts['registers']):.2f} ({reading})" for reading, point in points["drq"].items() if energy(point)]
    found.append(f"Of Eyeriss' {whole:.1f} uJ {parts['registers'] / whole:.0%} are register files and wires between elements, for whose like no other method pays on "
                 f"this basis, and {parts['dram'] / whole:.0%} are DRAM, through which all its feature maps go."
                 + (f" Without the former DRQ's energy would be {', '.join(bare)} of Eyeriss'." if bare else ""))
    return textwrap.fill(" ".join(found), 150, break_long_words=False, break_on_hyphens=False) + "\n"


def beside_the_papers(reports: dict[str, dict], hardware: dict[str, Hardware]) -> str:
    """Both tables of a network and the explanation; nothing without Eyeriss."""
    if "eyeriss" not in reports:
        return ""
    return "\n".join(["Beside the papers; *here / paper* is 1 between the ends of what is claimed:\n", beside_eyeriss(reports, hardware), beside_each_other(reports),
                      explained(reports)])
