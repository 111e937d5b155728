"""From sums to codes: the output stage of a tile, register by register, and where the code is written."""

from golden.cycles import OUTPUT_STAGES
from golden.output_stage import requantize
from golden.term_select import to_signed
from hw.output_lane import SPLIT, WINDOW
from sim.expected import Tile

REGISTERS = {"combined": 1, "low_2": 2, "high_2": 2, "multiplier_2": 2, "residual_2": 2, "lower_low": 3, "lower_high": 3, "product_low": 4,
             "product_high": 4, "window": 5, "code": 6}
"""Of a lane, and the stage that they lead to."""


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
    combined, code = low + 16 * high, int(requantize(low + 16 * high, bias, multiplier, layer.shift, layer.clamp_low, layer.clamp_high, residual,
                                                     layer.residual_multiplier, layer.ties_even))
    below, half = (1 << SPLIT) - 1, c.scale_bits // 2
    lower, upper = (combined & below) + (bias & below), (combined >> SPLIT) + (bias >> SPLIT)
    product_low, product_high = lower * multiplier + residual * layer.residual_multiplier, upper * multiplier
    total = product_low + (product_high << SPLIT)
    values = (combined, lower, upper, multiplier, residual, lower * (multiplier % (1 << half)) + residual * (layer.residual_multiplier % (1 << half)),
              upper * (multiplier % (1 << half)), product_low, product_high, total >> layer.shift - 1 & (1 << WINDOW) - 1, code & 255)
    for (name, after), value in zip(REGISTERS.items(), values, strict=True):
        tile.add(cycle + after, "output stage", f"core.output_stage.output_lane_{lane}.{name}", value, f"{name} of channel {place.channel}",
                 signed=name not in ("low_2", "multiplier_2", "window", "code"))
    final = cycle + OUTPUT_STAGES - 1
    tile.add(final, "drain", "core.output_stage.write_address", layer.out_base + where, "address of the code")
    tile.add(final, "drain", "core.output_stage.write_mask", 1 << place.channel % c.word // c.outputs, "which codes of the word are written")

