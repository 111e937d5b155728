"""The page: complete, self-contained, safe, and round axes."""

import re
from html.parser import HTMLParser

import pytest

from sim.report_charts import bars, nice, tradeoff
from sim.report_html import render


def layer(name, **changes):
    return {"name": name, "kind": "conv", "shape": [8, 8, 16], "weight_bits": 4, "budget": 3, "macs": 1000, "cycles_model": 50, "cycles_rtl": 50,
            "utilization": 0.8, "terms": 10, "empty_slots": 0.1, "mismatches": 0, "snr_db": 20.0, "snr_own_db": 25.0} | changes


def report(**changes):
    return {"network": "net", "config": "small", "max_loss": 1.0, "images": 100, "rtl_images": 3, "mismatches": 0, "cycles_per_image": 1234,
            "cycles_per_image_exact8": 5678, "speedup": 4.6, "macs": 2000, "nibble_multipliers": 256, "group": 8, "nibble_cycles_per_mac": 1.25,
            **{f"top1_{kind}": 90.0 for kind in ("float", "int8", "sdp")}, **{f"top1_{kind}_interval": [82.6, 94.5] for kind in ("float", "int8", "sdp")},
            "problems": [], "layers": [layer("one"), layer("pool", kind="max", weight_bits=None, budget=None, macs=0, utilization=None, empty_slots=None,
                                                           snr_db=None, snr_own_db=None)],
            "curve": [{"cycles": 100, "loss": 0.6, "divergence": 0.01}, {"cycles": 200, "loss": 0.1, "divergence": 0.001}]} | changes


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else():
    page = render(report())
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    for text in ("90.00 %", "82.60 … 94.50 %", "1.25", "4.60 ×", "equal", "one", "w4", "80.0 %", "20.0 dB", "<svg", "prefers-color-scheme: dark"):
        assert text in page


def test_what_differs_is_seen():
    page = render(report(mismatches=7, problems=["image 0: 7 codes differ"], layers=[layer("one", mismatches=7, cycles_rtl=51)]))
    assert "differs" in page and "image 0: 7 codes differ" in page and "≠ 50" in page


def test_names_are_text():
    assert "<b>x" not in render(report(network="<b>x", layers=[layer("<b>x")]))


def test_without_a_curve_there_is_no_chart():
    assert "<svg" not in render(report(curve=[]))


@pytest.mark.parametrize("low, high, wanted", [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
                                               (903, 1997, [800, 1000, 1200, 1400, 1600, 1800, 2000])])
def test_axes_have_round_numbers(low, high, wanted):
    found = nice(low, high)
    assert found[0] <= low and found[-1] >= high and len(found) <= 8
    assert found == wanted or len(found) < len(wanted)


@pytest.mark.parametrize("points", [[{"cycles": 5, "loss": 0.0, "divergence": 0}],
                                    [{"cycles": 5, "loss": -0.1, "divergence": 0}, {"cycles": 9, "loss": 50, "divergence": 0}]])
def test_few_or_far_points_can_be_drawn(points):
    numbers = re.findall(r'c[xy]="([^"]+)"', tradeoff(points, 1.0, 5))
    assert numbers and all(-1 < float(number) < 700 for number in numbers)


def test_bars_of_nothing():
    assert bars([]) == '<div class="bars"></div>' and "width:0.40%" in bars([("a", 0, "0", "")])
