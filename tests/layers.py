"""Random layer headers, and what a layer does, listed one by one: the order of tiles, rows, channels and reads as nested loops."""

import math

from sdp.program import Kind


def header(rng, config, kind=Kind.CONV, stride_w=None):
    """Fields of a layer whose tensors fit; ``in_h`` may leave windows wholly in the padding."""
    ports, act, word = config.ports, config.activation_words, config.word

    def plane(pixels):
        return -(-pixels // ports) * ports

    while True:
        small = lambda high: rng.choice((1, 2, 3, high, rng.randint(1, high)))  # noqa: E731
        layer = {
            "kind": kind, "w4": rng.randrange(2), "budget": rng.randint(1, 2 * config.group), "in_signed": rng.randrange(2),
            "kernel_h": small(5), "kernel_w": small(5), "stride_h": rng.randint(1, 4), "stride_w": stride_w or rng.randint(1, 4),
            "in_h": small(9), "in_w": small(9), "in_words": small(3), "in_tail": rng.randint(1, word),
            "pad_top": rng.randrange(6), "pad_left": rng.randrange(6), "out_h": small(7), "out_w": small(11), "out_channels": small(4 * config.columns),
            "shift": 1, "ties_even": rng.randrange(2), "residual": rng.randrange(2), "clamp_high": 255,
        }
        out_words = -(-layer["out_channels"] // word)
        if kind is not Kind.CONV:
            layer["in_words"] = out_words
            layer["w4"] = 0
        steps = layer["kernel_h"] * layer["kernel_w"] * (layer["in_words"] if kind is Kind.CONV else 1)
        blocks = -(-layer["out_channels"] // (config.block(bool(layer["w4"])) if kind is Kind.CONV else word))
        in_plane = plane(layer["in_h"] * layer["in_w"]) + ports * rng.randrange(2)
        out_plane = plane(layer["out_h"] * layer["out_w"]) + ports * rng.randrange(2)
        half = act // 2
        scales = -(-layer["out_channels"] // config.outputs)
        if (layer["in_words"] * in_plane > half or out_words * out_plane > half or scales > config.scale_words
                or kind is Kind.CONV and steps > config.steps_max or kind not in (Kind.MAX, Kind.SUM) and steps * blocks > config.weight_words):
            continue
        top = rng.randrange(2) * half
        layer |= {
            "in_plane": in_plane, "out_plane": out_plane, "scale_base": rng.randint(0, config.scale_words - scales),
            "in_base": top + ports * rng.randrange((half - layer["in_words"] * in_plane) // ports + 1),
            "out_base": half - top + ports * rng.randrange((half - out_words * out_plane) // ports + 1),
            "residual_base": half - top + ports * rng.randrange((half - out_words * out_plane) // ports + 1),
            "weight_base": rng.randint(0, config.weight_words - steps * blocks) if kind not in (Kind.MAX, Kind.SUM) else 0,
        }
        return layer


def strips(config, layer):
    """Tiles of (y, x of every port or None): pixels in strips of ``ports`` neighbours of a row, ``rows / ports`` strips a tile; None is past the end."""
    pooling = layer["kind"] is not Kind.CONV
    span, length = (1, 1) if pooling else (config.ports, config.rows // config.ports)
    found = []
    for y in range(layer["out_h"]):
        for x in range(0, layer["out_w"], span):
            found.append([(y, x + n) if x + n < layer["out_w"] else None for n in range(span)])
    while len(found) % length:
        found.append([None] * span)
    return [found[n : n + length] for n in range(0, len(found), length)]


def blocks(config, layer):
    size = config.word if layer["kind"] is not Kind.CONV else config.block(bool(layer["w4"]))
    return range(0, layer["out_channels"], size), size


def steps(config, layer):
    """Steps in their order: (weight address, first, last, beats), beats of (strip, tail, {port: address or None outside of the image})."""
    pooling = layer["kind"] is not Kind.CONV
    starts, _ = blocks(config, layer)
    words = 1 if pooling else layer["in_words"]
    conflicts = 1 if pooling else math.gcd(layer["stride_w"], config.ports)
    result = []
    for block, _ in enumerate(starts):
        for tile in strips(config, layer):
            # Steps of a tile: kernel row, kernel column, channel word.
            taps = [(ky, kx, w) for ky in range(layer["kernel_h"]) for kx in range(layer["kernel_w"]) for w in range(words)]
            for n, (ky, kx, w) in enumerate(taps):
                beats = []
                for s, strip in enumerate(tile):
                    accesses = {}
                    for port, pixel in enumerate(strip):
                        accesses[port] = None
                        if pixel:
                            y = pixel[0] * layer["stride_h"] - layer["pad_top"] + ky
                            x = pixel[1] * layer["stride_w"] - layer["pad_left"] + kx
                            if 0 <= y < layer["in_h"] and 0 <= x < layer["in_w"]:
                                plane = block if pooling else w
                                accesses[port] = layer["in_base"] + plane * layer["in_plane"] + y * layer["in_w"] + x
                    # As many pixels as share no bank; those of a beat are neighbours.
                    size = len(strip) // conflicts
                    for at in range(0, len(strip), size):
                        beats.append((s, int(not pooling and w == words - 1), {p: accesses[p] for p in range(at, at + size)}))
                address = layer["weight_base"] + block * len(taps) + n
                result.append((address, n == 0, n == len(taps) - 1, beats))
    return result


def chunks(config, layer):
    """Tiles of what leaves, in order: rows of dictionaries with the fields of ``hw.drain.chunk_layout`` that count."""
    starts, size = blocks(config, layer)
    tiles = []
    for start in starts:
        for tile in strips(config, layer):
            rows = []
            for pixel in [pixel for strip in tile for pixel in strip]:
                row = []
                for index, channel in enumerate(range(start, start + size, config.outputs)):
                    chunk = {"index": index, "position": channel % config.word // config.outputs, "write": 0, "done": 0}
                    if pixel and channel < layer["out_channels"]:
                        place = channel // config.word * layer["out_plane"] + pixel[0] * layer["out_w"] + pixel[1]
                        chunk |= {"write": 1, "address": layer["out_base"] + place, "residual_address": layer["residual_base"] + place,
                                  "scale_address": layer["scale_base"] + channel // config.outputs}
                    row.append(chunk)
                rows.append(row)
            tiles.append(rows)
    tiles[-1][-1][-1]["done"] = 1
    return tiles
