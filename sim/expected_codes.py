"""From sums to codes: the output stage of a tile, register by register, and where the code is written."""

import numpy as np

from golden.cycles import OUTPUT_STAGES
from golden.output_stage import requantize, round_shift
from golden.term_select import to_signed
from sim.expected import Tile


def output(tile: Tile, captured: int, low: int, high: int) -> None:
    """The output stage, register by register, for the one code."""
    c, layer, place = tile.config, tile.layer, tile.place
    cycle = captured + 1 + place.row * tile.chunks + tile.channel // c.outputs
    lane = place.channel % c.outputs
    if tile.conv and layer.w4:
        low, high = (low, 0) if tile.channel < c.columns else (high, 0)
    bias, multiplier = (int(part[layer.scale_base * c.outputs + place.channel]) for part in tile.machine.scales)
    where = place.channel // c.word * layer.out_plane + place.y * layer.out_w + place.x
    residual = 0
    if layer.residual:
        byte = tile.machine.activations[0, layer.residual_base + where, place.channel % c.word : place.channel % c.word + 1]
        residual = int(to_signed(byte, layer.residual_signed)[0])
    biased = low + 16 * high + bias
    total = biased * multiplier + residual * layer.residual_multiplier
    shift, half = layer.shift, 1 << layer.shift - 1
    less = ~total >> shift & 1 if layer.ties_even else total < 0
    code = int(requantize(low + 16 * high, bias, multiplier, shift, layer.clamp_low, layer.clamp_high, residual, layer.residual_multiplier,
                          layer.ties_even))
    assert round_shift(np.int64(total), shift, layer.ties_even) == total + half - less >> shift
    values = (("low", low), ("high", high), ("combined", low + 16 * high), ("biased", biased), ("multiplier", multiplier), ("residual", residual),
              ("product", biased * multiplier), ("residual_product", residual * layer.residual_multiplier), ("total", total),
              ("rounded", total + half - less), ("code", code & 255))
    stages = {"low": 1, "high": 1, "combined": 2, "biased": 3, "multiplier": 3, "residual": 3, "product": 4, "residual_product": 4, "total": 5,
              "rounded": 6, "code": 7}
    for name, value in values:
        if name == "rounded" and layer.ties_even and -(1 << shift) <= total < 0:
            # The hardware reads the bit that decides a tie beyond the sign of a total that is too small for one.
            continue
        tile.add(cycle + stages[name], "output stage", f"core.output_stage.{name}_{lane}", value, f"{name} of channel {place.channel}",
                 signed=name not in ("multiplier", "code"))
    final = cycle + OUTPUT_STAGES - 1
    tile.add(final, "drain", "core.output_stage.write_address", layer.out_base + where, "address of the code")
    tile.add(final, "drain", "core.output_stage.write_mask", 1 << place.channel % c.word // c.outputs, "which codes of the word are written")

