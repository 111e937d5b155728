"""Every figure of the tables that is better for a rival than for SDP."""

from compare.cases import LOSS
from compare.energy_table import readings
from compare.hardware import Hardware
from compare.names import NAMES

ENERGY = {"published": "energy (published basis)", "resident": "energy with all weights on the chip (published basis)", "library": "energy (library basis)"}


def loses(reports: dict[str, dict[str, dict]], hardware: dict[str, Hardware]) -> str:
    """``reports``: {network: {method: report}}, ``sdp`` among the methods."""
    found = []
    for network, methods in reports.items():
        for picked, at in methods["sdp"]["picked"].items():
            if at is None:
                found.append(f"* {network}, {picked}: SDP has no point that loses at most {LOSS:g} point.")
                continue
            sdp = methods["sdp"]["points"][at]
            for method, report in methods.items():
                other = report["picked"][picked]
                if method != "sdp" and other is not None:
                    found += [f"* {network}, {picked}: {NAMES[method]}{text}" for text in _better(method, report["points"][other], sdp, hardware)]
    return "\n".join(found or ["Nowhere in these tables."]) + "\n"


def _better(method: str, point: dict, sdp: dict, hardware: dict[str, Hardware]) -> list[str]:
    found = []
    if point["ideal_on_test"] < sdp["built"]:
        found.append(f", ideal, takes {point['ideal_on_test']:.3f} nibble cycles per multiplication, SDP as built {sdp['built']:.3f}.")
    if method in hardware and "sdp" in hardware:
        theirs, ours = point["ideal_on_test"] * hardware[method].per_multiplier, sdp["built"] * hardware["sdp"].per_multiplier
        if theirs < ours:
            found.append(f", ideal, is {ours / theirs:.2f} times faster at equal area.")
    theirs, ours = readings(point, hardware.get(method)), readings(sdp, hardware.get("sdp"))
    return found + [f" takes {theirs[name] / ours[name]:.2f} of SDP's {text}." for name, text in ENERGY.items()
                    if name in theirs and name in ours and theirs[name] < ours[name]]
