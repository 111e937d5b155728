"""The report of ``sdp run`` as one page: nothing is loaded from elsewhere, light and dark as the reader's system is."""

import html
from pathlib import Path

from sim.report_charts import bars, stacked, tradeoff

STYLE = Path(__file__).with_name("report.css")
BUDGET_COLORS = 4


def _e(text) -> str:
    return html.escape(str(text))


def _count(value) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _tile(label: str, value: str, note: str = "", kind: str = "") -> str:
    return f'<div class="tile {kind}"><div class="label">{_e(label)}</div><div class="value">{_e(value)}</div><div class="note">{_e(note)}</div></div>'


def _accuracy(report: dict, kind: str) -> str:
    low, high = report[f"top1_{kind}_interval"]
    return f"{low:.2f} … {high:.2f} %"


def _headline(report: dict) -> str:
    loss = report["top1_float"] - report["top1_sdp"]
    equal = not report["mismatches"] and not report["problems"]
    tiles = [
        _tile("SDP top-1", f"{report['top1_sdp']:.2f} %", _accuracy(report, "sdp"), "main"),
        _tile("INT8 top-1", f"{report['top1_int8']:.2f} %", _accuracy(report, "int8")),
        _tile("Float top-1", f"{report['top1_float']:.2f} %", f"{_accuracy(report, 'float')} · SDP is {abs(loss):.2f} points {'below' if loss >= 0 else 'above'}"),
        _tile("Cycles per image", _count(report["cycles_per_image"]), f"exact 8 bit: {_count(report['cycles_per_image_exact8'])}"),
        _tile("Fewer cycles", f"{report['speedup']:.2f} ×", "than exact 8 bit on the same array", "main"),
        _tile("Nibble cycles per MAC", f"{report['nibble_cycles_per_mac'] or 0:.2f}", "idle slots and bubbles counted; 8 bit takes at least 4"),
        _tile("RTL against golden model", "equal" if equal else "differs", f"{report['rtl_images']} images, every layer: {report['mismatches']} codes differ",
              "good" if equal else "bad"),
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _meter(share, text="") -> str:
    if share is None:
        return '<td class="meter none">–</td>'
    return f'<td class="meter"><span class="track"><span style="width:{100 * min(share, 1):.1f}%"></span></span><b>{100 * share:.1f} %</b>{text}</td>'


def _table(report: dict) -> str:
    head = ("Layer", "Kind", "Output", "Weights", "Budget", "MACs", "Cycles", "Use of multipliers", "Empty slots", "SNR", "Own SNR")
    rows = []
    for row in report["layers"]:
        budget = "–" if row["budget"] is None else f'{row["budget"]}<i> / {2 * report["group"]}</i>'
        weights = "–" if row["weight_bits"] is None else f'<span class="mode w{row["weight_bits"]}">w{row["weight_bits"]}</span>'
        cycles = _count(row["cycles_rtl"])
        if row["cycles_rtl"] != row["cycles_model"]:
            cycles = f'<span class="wrong">{cycles}</span> <i>≠ {_count(row["cycles_model"])}</i>'
        wrong = f' <span class="wrong">{row["mismatches"]} codes differ</span>' if row["mismatches"] else ""
        snr = ["–" if row[name] is None else f"{row[name]:.1f} dB" for name in ("snr_db", "snr_own_db")]
        rows.append(f'<tr><th scope="row">{_e(row["name"])}{wrong}</th><td>{_e(row["kind"])}</td><td>{"×".join(map(str, row["shape"]))}</td><td>{weights}</td>'
                    f'<td class="n">{budget}</td><td class="n">{_count(row["macs"]) if row["macs"] else "–"}</td><td class="n">{cycles}</td>'
                    f'{_meter(row["utilization"])}{_meter(row["empty_slots"])}<td class="n">{snr[0]}</td><td class="n">{snr[1]}</td></tr>')
    return (f'<div class="wide"><table><thead><tr>{"".join(f"<th>{name}</th>" for name in head)}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
            '<p class="note">Use: cycles that the layer’s MACs need at its budget and weight mode, over cycles of all multipliers. Empty slots: room for '
            'terms where a group had no more. SNR: the layer’s output against the float network; own SNR: what this layer adds, on exact inputs.</p>')


def _contributors(report: dict) -> str:
    """Error power relative to the signal, of each layer alone: the largest first."""
    powers = {row["name"]: 10 ** (-row["snr_own_db"] / 10) for row in report["layers"] if row["snr_own_db"] is not None}
    modes = {row["name"]: f"w{row['weight_bits']}, budget {row['budget']}" for row in report["layers"] if row["budget"] is not None}
    first = sorted(powers, key=powers.get, reverse=True)[:8]
    return bars([(name, 100 * powers[name], f"{100 * powers[name]:.2g} %", modes.get(name, "exact")) for name in first])


def _section(title: str, body: str, note: str = "") -> str:
    return f'<section class="card"><h2>{_e(title)}</h2>{f"<p class=note>{_e(note)}</p>" if note else ""}{body}</section>'


def render(report: dict) -> str:
    """The page, from what ``report.json`` holds."""
    cycles = [(row["name"], row["cycles_rtl"], _count(row["cycles_rtl"]), row["kind"] if row["budget"] is None else f"w{row['weight_bits']}, budget {row['budget']}")
              for row in report["layers"]]
    curve = tradeoff(report["curve"], report["max_loss"], sum(row["cycles_model"] for row in report["layers"])) if report["curve"] else ""
    problems = "".join(f"<li>{_e(text)}</li>" for text in report["problems"][:20])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_e(report["network"])} on {_e(report["config"])}</title><style>{STYLE.read_text()}</style></head><body><main>
<header><h1>{_e(report["network"])}</h1><p>Structured Dynamic Precision on <b>{_e(report["config"])}</b>: {_count(report["nibble_multipliers"])} nibble multipliers,
groups of {report["group"]}; {_count(report["images"])} test images, {_count(report["macs"])} MACs each. Intervals are 95 %.</p></header>
{_headline(report)}
{_section("What differs", f"<ul class=wrong>{problems}</ul>") if problems else ""}
{_section("Where the time goes", stacked(cycles), "Cycles of each layer, one image.")}
<div class="pair">{_section("Trade-off", curve, "Accuracy expected to be lost, estimated on calibration images, against cycles of all layers; "
                            "each point is a network that was fitted and measured.") if curve else ""}
{_section("Largest contributors to error", _contributors(report), "Error power over signal power that a layer adds on its own.")}</div>
{_section("Layers", _table(report))}
</main></body></html>
"""
