"""What the papers claim beside what was found: factors, tables and the explanation, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare import claims
from compare.claims import ENERGY, PAIRS, TIME, Claim
from compare.hardware import Hardware
from tests.test_compare_report import point, rows

close = pytest.approx
FOUND = st.floats(1e-3, 1e3)


def method(*points, chosen=0, hindsight=0):
    return {"points": list(points), "picked": {"chosen": chosen, "hindsight": hindsight}}


def eyeriss():
    found = point(16.0, 90.0, 40.0, 100.0) | {"utilization": 0.5}
    found["energy"]["published"]["registers"] = 60.0
    return method(found)


def network():
    """DRQ 1 + 3f at f = 1/3 (chosen) and 0.07, OLAccel 0.8, SDP 0.5, Eyeriss 16; as built 3, 1.4, 1, 0.6 and 40; 28, 21, 40, 14 and 100 uJ."""
    return {"sdp": method(point(0.5, 89.5, 0.6, 14.0)), "drq": method(point(2.0, 89.6, 3.0, 28.0), point(1.21, 89.1, 1.4, 21.0), hindsight=1),
            "int8": method(point(4.0, 90.0, 4.1, 50.0)),
            "olaccel": method(point(0.8, 89.5) | {"built": 1.0, "energy": point(1, 1, 1, 40.0)["energy"]}), "eyeriss": eyeriss()}


HARDWARE = {name: Hardware("x", 100, 100 * um2, 1e6, 0, None, None) for name, um2 in (("drq", 6400.0), ("eyeriss", 4000.0))}


@given(FOUND, FOUND, FOUND)
def test_factor(found, one, other):
    low, high = sorted((one, other))
    factor = Claim(low, high).factor(found)
    if low <= found <= high:
        assert factor == 1
    else:
        assert factor == pytest.approx(min((found / low, found / high), key=lambda ratio: abs(ratio - 1))) and (factor < 1) == (found < low)


def test_the_claims_are_those_of_the_papers():
    assert (TIME["drq"].low, TIME["drq"].high, TIME["olaccel"].low, TIME["olaccel"].high) == (0.074, 0.078, 0.09, 0.10)
    assert (ENERGY["drq"].low, ENERGY["drq"].high, ENERGY["olaccel"].low, ENERGY["olaccel"].high) == (0.26, 0.32, 0.35, 0.50)
    assert 1 - 0.92 == pytest.approx(TIME["drq"].high, rel=0.03) and ENERGY["drq"].low < 1 - 0.72 < ENERGY["drq"].high
    ends = {other: (claim.low, claim.high) for _, one, other, claim in PAIRS if one == "olaccel"}
    assert ends == {"int16": (close(1 - 0.622), close(1 - 0.435)), "int8": (close(1 - 0.495), close(1 - 0.27))}  # ResNet-18, AlexNet
    less = {(what, one, other): [claim.low for *pair, claim in PAIRS if pair == [what, one, other]] for what, one, other, _ in PAIRS
            if one != "olaccel"}
    assert less == {("time", "drq", "olaccel"): [1 - 0.21], ("energy", "drq", "olaccel"): [close(1 - 0.33)],
                    ("time", "drq", "sdp"): [1.29, close(1 / (1 - 0.29))], ("energy", "sdp", "drq"): [1 - 0.51]}
    assert all(str(claim).startswith(f"{claim.low:.2f} (" if claim.low == claim.high else "0.") for *_, claim in PAIRS)


def test_the_claim_counts_sixteen_nibble_products():
    """6-8 % sensitive is 0.074-0.078, within their rounding."""
    for f, claimed in ((0.06, TIME["drq"].low), (0.08, TIME["drq"].high)):
        assert claims.busy({"ideal_on_test": 1 + 3 * f}) == pytest.approx(claimed, abs=1e-3)
        assert claims.share(16 * claimed) == pytest.approx(f, abs=3e-3)


def test_beside_eyeriss():
    table = {row[0]: row[1:] for row in rows(claims.beside_eyeriss(network(), HARDWARE))}
    # 2 / 16 beside .078; 3 / 40, the same times 6400 / 4000; 28 / 100 is within .26-.32.
    assert table["DRQ, chosen"] == ["0.125", "0.074-0.078", "1.60", "0.075", "1.00", "0.120", "0.280", "0.26-0.32", "1.00"]
    assert table["DRQ, hindsight"] == ["0.076", "0.074-0.078", "1.00", "0.035", "0.47", "0.056", "0.210", "0.26-0.32", "0.81"]
    assert table["OLAccel, chosen"] == ["0.050", "0.09-0.10", "0.56", "0.025", "0.28", "", "0.400", "0.35-0.50", "1.00"]
    assert table["SDP, hindsight"] == ["0.031", "", "", "0.015", "", "", "0.140", "", ""]
    assert len(table) == 7
    none = network()
    none["drq"]["picked"]["chosen"] = None
    del none["olaccel"]
    assert [row[0] for row in rows(claims.beside_eyeriss(none, {}))][1:] == ["SDP, chosen", "DRQ, hindsight", "SDP, hindsight"]


def test_beside_each_other():
    table = [row for row in rows(claims.beside_each_other(network())) if row[0].endswith("chosen")]
    assert table == [
        ["DRQ's time / OLAccel's, chosen", "0.79 (21 % less)", "2.500", "3.16", "3.000", "3.80"],
        ["DRQ's energy / OLAccel's, chosen", "0.67 (33 % less)", "0.700", "1.04", "", ""],
        ["OLAccel's energy / INT8's, chosen", "0.51-0.73 (49.5-27.0 % less)", "0.800", "1.10", "", ""],
        ["DRQ's time / SDP's, chosen", "1.29 (29 % faster)", "4.000", "3.10", "5.000", "3.88"],
        ["DRQ's time / SDP's, chosen", "1.41 (29 % less time)", "4.000", "2.84", "5.000", "3.55"],
        ["SDP's energy / DRQ's, chosen", "0.49 (51 % less)", "0.500", "1.02", "", ""]]


def test_explanation():
    text = " ".join(claims.explained(network()).split())
    for piece in ("at f = 6.1% to 8.3% of the multiplications", "chosen: f = 33.3%, so 0.125, 1.60 times the claim; hindsight: f = 7.0%, so 0.076, 1.00 times the claim",
                  "OLAccel's 0.09-0.10 would be 1.44 to 1.60 nibble products per multiplication", "it takes 0.800 (chosen), 0.800 (hindsight)",
                  "As built Eyeriss takes 40.0 nibble cycles per multiplication, not 16", "50% of its elements work",
                  "Of Eyeriss' 100.0 uJ 60% are register files", "20% are DRAM", "would be 0.70 (chosen), 0.53 (hindsight) of Eyeriss'"):
        assert piece in text, piece
    lines = claims.explained(network()).splitlines()
    assert max(map(len, lines)) <= 150 and not any(line.startswith(("+", "-", "*", "#")) for line in lines)


def test_nothing_without_eyeriss():
    reports = network()
    assert claims.beside_the_papers(reports, HARDWARE).count("\n|---") == 2
    del reports["eyeriss"]
    assert claims.beside_the_papers(reports, HARDWARE) == ""
