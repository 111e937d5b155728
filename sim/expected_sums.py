"""From addresses to sums: reads, memories, operands, terms, digits, products and accumulators of a tile; windows of the channel unit."""

from golden.arrays import in_order
from golden.cycles import beats
from golden.weights import FORMATS, slot_bytes
from sdp.program import Kind
from sim.expected import ARRAY, Tile


def reads(tile: Tile, cycles: list[int]) -> None:
    """Addresses and words of a tile; ``cycles``: those in which words arrive, one per beat of each step."""
    c, layer = tile.config, tile.layer
    per_step, words = (beats(c, layer.stride_w), range(layer.in_words)) if tile.conv else (1, [tile.block])
    per_strip = per_step // (c.rows // c.ports) if tile.conv else 1
    bits = (c.activation_words - 1).bit_length()
    pixels = [tile.pixel(row) for row in range(c.rows)] if tile.conv else [(tile.place.y, tile.place.x)]
    taps = [tile.taps(*pixel) if pixel else [] for pixel in pixels]
    for at, cycle in enumerate(cycles):
        (step, beat), what = divmod(at, per_step), f"of step {at // per_step}"
        tap, word = step // len(words), words[step % len(words)]
        for port in range(c.ports):
            row = beat // per_strip * c.ports + port if tile.conv else port
            active = port * per_strip // c.ports == beat % per_strip if tile.conv else port == 0
            place = taps[row][tap] if active and taps[row] else None
            valid = place is not None and tile.inside(*place)
            tile.add(cycle - 1, "controller", "core.controller.read", valid, f"is word {word} of row {row} {what} read", field=(port, 1))
            if not active:
                continue
            data = 0
            if valid:
                address = tile.address(*place, word)
                tile.add(cycle - 1, "controller", "core.controller.read", address, f"address of word {word} of row {row} {what}",
                         field=(c.ports + port * bits, bits))
                data = int.from_bytes(tile.machine.activations[0, address].tobytes(), "little")
            tile.add(cycle, "activation memory", "core.activations.data", data, f"word {word} of row {row} {what}", field=(8 * c.word * port, 8 * c.word))


def convolution(tile: Tile, takes: list[int], captured: int) -> tuple[int, int]:
    """Terms of all rows, products and sums of the one element; ``takes``: the cycles in which terms are taken. Returns the sums."""
    c, layer, budget = tile.config, tile.layer, tile.layer.budget
    names = ("low", "high")[: len(tile.parts(0, 0))]
    sums, element = [0] * len(names), f"{ARRAY}.pe_{tile.place.row}_{tile.column}"
    for step in range(tile.steps):
        _weights(tile, step, takes[step * budget])
    for row in range(c.rows):
        pixel = tile.pixel(row)
        words = tile.code_words(*pixel, range(layer.in_words)) if pixel else []
        for step, word in enumerate(words):
            begin = takes[step * budget]
            products = [[0] * len(names) for _ in range(budget)]
            for lane in range(c.lanes):
                codes = word[lane * c.group : (lane + 1) * c.group]
                _lane(tile, row, lane, step, codes, begin, takes, products, element)
            if row != tile.place.row:
                continue
            for n, both in enumerate(products):
                sums = [total + product for total, product in zip(sums, both)]
                for digit, name in enumerate(names):
                    tile.add(takes[step * budget + n] + 2, "processing element", f"{element}.sums", sums[digit], f"sum of {name} digits after "
                             f"term {n} of step {step}", signed=True, field=(digit * c.accumulator_bits, c.accumulator_bits))
    for digit, name in enumerate(names):
        field = digit * c.accumulator_bits, c.accumulator_bits
        tile.add(captured + 1, "processing element", f"{element}.drain", sums[digit], f"captured sum of {name} digits", signed=True, field=field)
        shown = captured + 1 + tile.place.row * tile.chunks + tile.channel // c.outputs
        tile.add(shown, "MAC array", f"{ARRAY}.pe_0_{tile.column}.drain", sums[digit], f"sum of {name} digits, row {tile.place.row}, leaving", signed=True,
                 field=field)
    return sums[0], sums[1] if sums[1:] else 0


def _weights(tile: Tile, step: int, begin: int) -> None:
    """The weight word of a step, as its address and as what the column sees of it, in the register behind the memory."""
    c, address = tile.config, tile.layer.weight_base + tile.block * tile.steps + step
    tile.add(begin - 1, "convolution unit", "core.convolution.weight_address", address, f"address of the weights of step {step}")
    # Only SDP has a register of the whole word, by a name of its own.
    for slot, bits in enumerate(tile.machine.weights[address, tile.column] if c.array_kind.terms else ()):
        tile.add(begin + 1, "weight memory", "core.convolution.weights", bits, f"slot {slot} of column {tile.column} of step {step}",
                 field=((tile.column * c.word + slot) * c.slot_bits, c.slot_bits))


def _lane(tile, row, lane, step, codes, begin, takes, products, element) -> None:
    """Operands of a lane; those of the row of interest times their weights, added to ``products``."""
    c, budget = tile.config, tile.layer.budget
    if c.array_kind.terms:
        selector = f"core.convolution.selector_{row}_{lane}"
        for i, code in enumerate(codes):
            for low, bits, value, name in ((0, 4, abs(code) & 15, "low"), (4, 4, abs(code) >> 4, "high"), (8, 1, int(code < 0), "sign")):
                if name != "sign" or code:
                    tile.add(begin - 1, "operand buffer", f"{selector}.codes", value, f"{name} part of code {i} of step {step}", field=(9 * i + low, bits))
    for n, (value, high, index) in enumerate(in_order(c, codes, budget)):
        cycle, what = takes[step * budget + n] + 1, f"term {n} of step {step}"
        parts = tile.parts(step, lane * c.group + index) if value and row == tile.place.row else ()
        if c.array_kind.terms:
            _term(tile, row, lane, cycle, what, value, high, index, tile.slot(step, lane * c.group + index) if parts else 0, parts, element)
        for digit, part in enumerate(parts):
            products[n][digit] += value * part << 4 * high


def _term(tile, row, lane, cycle, what, value, high, index, slot, parts, element) -> None:
    """SDP: the selector, and what the element multiplies."""
    selector = f"core.convolution.selector_{row}_{lane}"
    tile.add(cycle, "term selector", f"{selector}.term", abs(value), what, field=(0, 4))
    if not value:
        return
    tile.add(cycle, "term selector", f"{selector}.term", value < 0, f"sign of {what}", field=(4, 1))
    tile.add(cycle, "term selector", f"{selector}.term", high, f"place of {what}", field=(5, 1))
    tile.add(cycle, "term selector", f"{selector}.term", 1 << index, f"datum of {what}, one bit for each", field=(6, tile.config.group))
    width = FORMATS[tile.config.array].byte_shift
    for bits, name, part in zip((slot & (1 << width) - 1, slot >> width), ("low", "high"), parts):
        unit, negative = f"{element}.multiplier_{lane}_{name}", (value < 0) ^ (bits >> width - 1)
        tile.add(cycle, "weights", f"{unit}.digit", bits, f"{name} digit for {what}")
        tile.add(cycle, "nibble multiplier", f"{unit}.product", (value * part << 4 * high) - negative, f"{what} times {name} digit, less one if negative", signed=True)


def pooling(tile: Tile, taps: list[int], captured: int) -> int:
    """The channel unit's weights and value, tap by tap, in the cycles ``taps``; returns the result."""
    layer, lane = tile.layer, tile.place.channel % tile.config.word
    words = tile.code_words(tile.place.y, tile.place.x, range(tile.block, tile.block + 1))
    value, seen = 0, False
    for n, (cycle, place, word) in enumerate(zip(taps, tile.taps(tile.place.y, tile.place.x), words)):
        code, weight = word[lane], 1
        if layer.kind is Kind.DEPTHWISE:
            slot = tile.machine.weights[layer.weight_base + tile.block * tile.steps + n, 0, lane]
            weight = int(slot_bytes(tile.config, slot))
            shift = FORMATS[tile.config.array].byte_shift
            for low, nibble, name in ((0, weight & 15, "low"), (shift, weight >> 4 & 15, "high")):
                tile.add(cycle, "weight memory", "core.channel.slots", nibble, f"{name} nibble of the weight of tap {n}",
                         field=(lane * 2 * shift + low, 4))
        if layer.kind is Kind.MAX:
            if tile.inside(*place):
                value, seen = max(value, code) if seen else code, True
        else:
            value += code * weight
        unit = f"core.channel.channel_lane_{lane}"
        tile.add(cycle + 1, "channel unit", f"{unit}.tap", code * weight, f"tap {n} of channel {tile.place.channel}", signed=True)
        if seen or layer.kind is not Kind.MAX:
            tile.add(cycle + 2, "channel unit", f"{unit}.value", value, f"channel {tile.place.channel} after tap {n}", signed=True)
    tile.add(captured, "channel unit", f"{unit}.value", value, f"window of channel {tile.place.channel}", signed=True)
    return value
