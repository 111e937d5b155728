"""Eyeriss: the chip as published, and how far the model is from it. ``python -m golden.eyeriss_published`` prints both side by side.

[J]: see ``golden.eyeriss``.
"""

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass

from golden.eyeriss import search, summary
from golden.eyeriss_mapping import Layer, Mapping
from golden.eyeriss_traffic import CLOCK, counts


@dataclass(frozen=True)
class Measured:
    """A layer in tables V and VI of [J]: mW; ms, all and with DRAM hidden; elements; zeros in ifmaps in percent; MB of 10**6 bytes, which is what the
    accesses per MAC and per pixel in VI-A and VI-B come from."""

    power: float
    cycles: float
    processing: float
    active: int
    zeros: float
    buffer: float
    dram: float


def _published(batch: int, rows: list[tuple]) -> tuple[int, list[tuple[Layer, Measured]]]:
    """``rows``: (name, channels, filters, input, output, kernel, stride, pad, groups), then the fields of :class:`Measured`."""
    layers = []
    for at, (shape, measured) in enumerate(rows):
        name, channels, filters, size, out, kernel, stride, pad, groups = shape
        after = rows[min(at + 1, len(rows) - 1)][1][4]
        layers.append((Layer(
            name=name, channels=channels, filters=filters, in_shape=(size, size), out_shape=(out, out), kernel=(kernel, kernel), stride=(stride, stride),
            pad=(pad, pad), groups=groups, zeros=measured[4] / 100, out_zeros=after / 100, first=at == 0), Measured(*measured)))
    return batch, layers


PUBLISHED = {
    "AlexNet": _published(4, [
        (("CONV1", 3, 96, 227, 55, 11, 4, 0, 1), (332, 20.9, 16.5, 154, 0.01, 18.5, 5.0)),
        (("CONV2", 48, 128, 27, 27, 5, 1, 2, 2), (288, 41.9, 39.2, 135, 38.7, 77.6, 4.0)),
        (("CONV3", 256, 384, 13, 13, 3, 1, 1, 1), (266, 23.6, 21.8, 156, 72.5, 50.2, 3.0)),
        (("CONV4", 192, 192, 13, 13, 3, 1, 1, 2), (235, 18.4, 16.0, 156, 79.3, 37.4, 2.1)),
        (("CONV5", 192, 128, 13, 13, 3, 1, 1, 2), (236, 10.5, 10.0, 156, 77.6, 24.9, 1.3))]),
    "VGG-16": _published(3, [
        (("CONV1-1", 3, 64, 224, 224, 3, 1, 1, 1), (247, 76.2, 38.0, 156, 1.6, 112.6, 15.4)),
        (("CONV1-2", 64, 64, 224, 224, 3, 1, 1, 1), (218, 910.3, 810.6, 156, 47.7, 2402.8, 54.0)),
        (("CONV2-1", 64, 128, 112, 112, 3, 1, 1, 1), (242, 470.3, 405.3, 156, 24.8, 1201.4, 33.4)),
        (("CONV2-2", 128, 128, 112, 112, 3, 1, 1, 1), (231, 894.3, 810.8, 156, 38.7, 2402.8, 48.5)),
        (("CONV3-1", 128, 256, 56, 56, 3, 1, 1, 1), (254, 241.1, 204.0, 156, 39.7, 607.4, 20.2)),
        (("CONV3-2", 256, 256, 56, 56, 3, 1, 1, 1), (235, 460.9, 408.1, 156, 58.1, 1214.8, 32.2)),
        (("CONV3-3", 256, 256, 56, 56, 3, 1, 1, 1), (233, 457.7, 408.1, 156, 58.7, 1214.8, 30.8)),
        (("CONV4-1", 256, 512, 28, 28, 3, 1, 1, 1), (278, 135.8, 105.1, 168, 64.3, 321.8, 17.8)),
        (("CONV4-2", 512, 512, 28, 28, 3, 1, 1, 1), (261, 254.8, 210.0, 168, 74.7, 643.7, 28.6)),
        (("CONV4-3", 512, 512, 28, 28, 3, 1, 1, 1), (240, 246.3, 210.0, 168, 85.4, 643.7, 22.8)),
        (("CONV5-1", 512, 512, 14, 14, 3, 1, 1, 1), (258, 54.3, 48.3, 168, 79.4, 90.0, 6.3)),
        (("CONV5-2", 512, 512, 14, 14, 3, 1, 1, 1), (236, 53.7, 48.5, 168, 87.4, 90.0, 5.7)),
        (("CONV5-3", 512, 512, 14, 14, 3, 1, 1, 1), (230, 53.7, 48.5, 168, 88.5, 90.0, 5.6))]),
}
"""(batch, layers). Read through an OCR of the tables (github.com/cucapra/fodlam, raw/) and from memory; single digits, where these differ, by the sums
in the tables' last lines, which :data:`TOTALS` holds and the tests check."""
TOTALS = {"AlexNet": Measured(278, 115.3, 103.5, 148, 57.53, 208.5, 15.4), "VGG-16": Measured(236, 4309.5, 3755.2, 158, 58.6, 11035.8, 321.1)}
TABLE_III = {name: Mapping(**dict(zip("mnepqrt", values))) for name, values in {
    "CONV1": (96, 1, 7, 16, 1, 1, 2), "CONV2": (64, 1, 27, 16, 2, 1, 1), "CONV3": (64, 4, 13, 16, 4, 1, 4), "CONV4": (64, 4, 13, 16, 3, 2, 2),
    "CONV5": (64, 4, 13, 16, 3, 2, 2)}.items()}
"""AlexNet's mappings as published. Table V contradicts that of CONV3: 50.2 MB are 43 passes over channels, six a pass (3 and 2), not 64."""
QUANTITIES = {"processing": "processing, ms", "cycles": "with DRAM, ms", "buffer": "buffer, MB", "dram": "DRAM, MB", "active": "elements"}


@dataclass(frozen=True)
class Check:
    """A layer, or all, of a network beside the chip: (ours, published) by :data:`QUANTITIES`; elements only of layers."""

    name: str
    mapping: Mapping | None
    values: dict[str, tuple[float, float]]

    def error(self, quantity: str) -> float:
        ours, published = self.values[quantity]
        return ours / published - 1


def validate(network: str, built: bool = True, mappings: Dictionary[str, Mapping] | None = None) -> list[Check]:
    """``network``, one of :data:`PUBLISHED`, by the model and by the chip, a row per layer, then the totals; ``mappings``: instead of the search."""
    batch, layers = PUBLISHED[network]
    ms, megabyte, rows = 1e3 / CLOCK, 2e-6, []
    for layer, chip in layers:
        mapping = mappings[layer.name] if mappings else search(layer, batch, built)
        found = counts(layer, batch, mapping)
        ours = {"processing": found.processing * ms, "cycles": found.cycles * ms, "buffer": found.buffer * megabyte, "dram": found.dram * megabyte,
                "active": found.active}
        rows.append(Check(layer.name, mapping, {name: (float(value), getattr(chip, name)) for name, value in ours.items()}))
    sums = {name: (sum(row.values[name][0] for row in rows), getattr(TOTALS[network], name)) for name in QUANTITIES if name != "active"}
    return [*rows, Check("total", None, sums)]


def picojoules(network: str, built: bool = True) -> float:
    """What a MAC of the relative scale is on the chip: its measured energy (mW times ms), which has no DRAM in it, by the model's."""
    batch, layers = PUBLISHED[network]
    chip = TOTALS[network].power * TOTALS[network].cycles * 1e6
    return chip / (batch * summary([layer for layer, _ in layers], batch, built)["energy_chip"])


def table(network: str, built: bool = True, mappings: Dictionary[str, Mapping] | None = None) -> str:
    """:func:`validate` as text: ours / published, error."""
    lines = [f"{'':8} {'m, n, e, p, q, r, t':26}" + "".join(f"{title:>27}" for title in QUANTITIES.values())]
    for row in validate(network, built, mappings):
        cells = "".join(f"{ours:>9,.1f} /{chip:>9,.1f} {ours / chip - 1:+6.1%}" for ours, chip in row.values.values())
        lines.append(f"{row.name:8} {', '.join(map(str, vars(row.mapping).values())) if row.mapping else '':26}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    for title, network, *options in (("published mappings", "AlexNet", True, TABLE_III), ("searched, as built", "AlexNet", True),
                                     ("searched, as built", "VGG-16", True), ("searched, at its best", "AlexNet", False),
                                     ("searched, at its best", "VGG-16", False)):
        print(f"{network}, {title}; ours / published, error\n{table(network, *options)}\n")
    print(f"a MAC of the relative scale on the chip: {', '.join(f'{name} {picojoules(name):.2f} pJ' for name in PUBLISHED)}")
