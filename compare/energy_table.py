"""Energy per image of each method, relative to SDP's."""

from compare.hardware import Hardware
from compare.names import label, relative
from synth.energy import PARTS
from synth.power import CLOCK
from synth.silicon import table


def readings(point: dict, hardware: Hardware | None) -> dict[str, float]:
    """uJ: ``published``; ``resident``: the same with all weights on the chip; ``library``, where a netlist was measured."""
    if "energy" not in point:
        return {}
    published = point["energy"]["published"]
    found = {"published": published["total"]["value"], "resident": published["resident"]}
    return found | ({"library": point["energy"]["library"]["total"]["value"]} if hardware and hardware.power is not None else {})


def energy(reports: dict[str, dict], hardware: dict[str, Hardware], picked: str) -> str:
    """Power: while it runs at :data:`synth.power.CLOCK`, DRAM included. Bounds are those of :class:`synth.energy.Bounded`: all errors go one way, for all
    methods the same one, so that ratios are surer than figures."""
    rows, ours = [], {}
    for method, report in reports.items():
        at = report["picked"][picked]
        mine = readings(report["points"][at], hardware.get(method)) if at is not None else {}
        if not mine:
            continue
        ours = mine if method == "sdp" else ours
        parts = report["points"][at]["energy"]["published"]
        against = {name: relative(ours.get(name), mine.get(name)) for name in ("published", "resident", "library")}
        low, high = (report["points"][at]["energy"]["published"]["total"][bound] for bound in ("low", "high"))
        rows.append([label(method, report), f"{mine['published']:.2f}", f"{low:.2f}-{high:.2f}", " / ".join(f"{parts[part]:.2f}" for part in PARTS), against["published"],
                     against["resident"], f"{mine['library']:.1f}" if "library" in mine else "", against["library"],
                     f"{mine['library'] / (report['points'][at]['cycles'] / CLOCK) * 1e3:,.0f}" if "library" in mine else ""])
    return table(["method", "uJ per image, published", "bounds", "array / activations / weights / scales / DRAM", "/ SDP", "/ SDP, all weights on the chip",
                  "uJ, library", "/ SDP ", "mW, library"], rows)
