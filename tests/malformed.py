"""One malformed program per way to be malformed: (name, error that names it, byte stream)."""

import dataclasses

from sdp.config import Config
from sdp.encoding import encode
from sdp.program import ALIGNED, FIELDS, End, Error, Layer, Load, Opcode, Store, limits
from sim.random_layer import Case, build


def malformed(config: Config) -> list[tuple[str, Error, bytes]]:
    word, half = config.word, config.activation_words // 2
    good = build(config, [Case(seed=1, channels_in=5, channels_out=4, in_h=3, in_w=4, residual=1)])
    at, layer = next((n, c) for n, c in enumerate(good) if isinstance(c, Layer))
    stream = encode(config, good)
    programs = []

    def commands(name, error, *changed):
        programs.append((name, error, encode(config, [*changed, End()])))

    def with_layer(name, error, **fields):
        programs.append((name, error, encode(config, [*good[:at], dataclasses.replace(layer, **fields), *good[at + 1 :]])))

    # Commands.
    for code in (0, 7, 255):
        programs.append((f"opcode {code}", Error.OPCODE, bytes([code]) + bytes(word - 1)))
    programs.append(("end at once, then more", Error.OVERLONG, encode(config, [End(), End()])))
    weights = next(c for c in good if isinstance(c, Load) and c.opcode is Opcode.LOAD_WEIGHTS)
    cuts = {"inside a load": encode(config, [weights])[: 3 * word], "after a load": encode(config, [weights]), "inside a layer's header": encode(config, [layer])[:word],
            "after a layer's header": encode(config, [layer]), "before end": stream[:-word]}
    programs += [(f"cut {where}", Error.TRUNCATED, cut) for where, cut in cuts.items()]
    for opcode, depth, error in ((Opcode.LOAD_ACTIVATIONS, config.activation_words, Error.ADDRESS), (Opcode.LOAD_WEIGHTS, config.weight_words, Error.WEIGHT_ADDRESS),
                                 (Opcode.LOAD_SCALES, config.scale_words, Error.SCALE_ADDRESS)):
        data = next(c for c in good if isinstance(c, Load) and c.opcode is opcode).data
        for address in (depth, depth - len(data) + 1, 0xFFFFFFFF):
            commands(f"{opcode.name} at {address}", error, Load(opcode=opcode, address=address, data=data))
        commands(f"{opcode.name} of nothing", error, Load(opcode=opcode, address=0, data=data[:0]))
    for address, count in ((config.activation_words, 1), (0, config.activation_words + 1), (5, config.activation_words - 4), (0, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
        commands(f"store {count} at {address}", Error.ADDRESS, Store(address=address, count=count, tail=1))
    for tail in (0, word + 1):
        commands(f"store with tail {tail}", Error.GEOMETRY, Store(address=0, count=1, tail=tail))
    # Fields of a layer: just below and just above what is allowed, where the field can hold it.
    by_name = {f.name: f for f in FIELDS}
    for name, low, high, error in limits(config):
        f = by_name[name]
        smallest, largest = (-(1 << f.bits - 1), (1 << f.bits - 1) - 1) if f.signed else (0, (1 << f.bits) - 1)
        for value in {low - 1, high + 1, smallest, largest}:
            if smallest <= value <= largest and not low <= value <= high:
                with_layer(f"{name} = {value}", error, **{name: value})
    for name in ALIGNED:
        if config.ports > 1:
            with_layer(f"{name} unaligned", Error.ADDRESS, **{name: getattr(layer, name) + 1})
    with_layer("residual beside the input", Error.RESIDUAL, residual_base=layer.in_base // half * half)
    # What shows while the layer runs.
    with_layer("input past the memory", Error.ADDRESS, residual=False, in_base=config.activation_words - config.ports)
    with_layer("channel plane past the memory", Error.ADDRESS, residual=False, in_words=2, in_plane=config.activation_words)
    with_layer("output past the memory", Error.ADDRESS, residual=False, in_base=0, out_base=config.activation_words - config.ports)
    with_layer("residual past its half", Error.ADDRESS, in_base=half, residual_base=half - config.ports)
    with_layer("weights past the memory", Error.WEIGHT_ADDRESS, weight_base=config.weight_words - 1, kernel_w=2, pad_left=1)
    with_layer("scales past the memory", Error.SCALE_ADDRESS, scale_base=config.scale_words - 1, out_channels=4 * config.outputs)
    steps = config.steps_max
    with_layer("reduction too long", Error.REDUCTION, residual=False, kernel_h=31, kernel_w=31 if steps < 31 * 31 else 31, in_words=1 + steps // (31 * 31))
    return programs
