"""Random layers of DRQ: masks cannot be loaded, so a layer before makes those of the input, and one behind reads those of the output."""

import dataclasses

import numpy as np

from golden.output_stage import pack_scales
from golden.weights import allowed, pack_slots, slots_of
from sdp.config import Config
from sdp.program import REGION_H_MAX, REGION_W_MAX, Command, Kind, Layer, Load, MaskedLayer, Opcode, Store

CHANNELS = 7
"""Of the layer that reads masks of the output."""
SLACK = 3
"""Words that are left free between rows and planes of masks, at most."""


def draw(rng: np.random.Generator, case):
    """The case with masks; thresholds are low more often than high, as are codes."""
    return dataclasses.replace(
        case, masked=int(rng.random() < 0.8), predict=int(rng.integers(2)), region_h=int(rng.integers(REGION_H_MAX + 1)),
        region_w=int(rng.integers(REGION_W_MAX + 1)), threshold=int(256 * rng.random() ** 3))


def _regions(case, h: int, w: int) -> tuple[int, int]:
    return (h - 1 >> case.region_h) + 1, (w - 1 >> case.region_w) + 1


def _most(case, words: int, h: int, w: int) -> int:
    """Words of mask memory that a tensor takes at most."""
    down, across = _regions(case, h, w)
    return words * (down * (across + SLACK) + SLACK)


def fits(config: Config, case, in_words: int, out_words: int) -> bool:
    room = config.mask_words // 2
    return (case.region_h <= REGION_H_MAX and case.region_w <= REGION_W_MAX and case.threshold <= 256
            and _most(case, in_words, case.in_h, case.in_w) <= room and _most(case, out_words, case.out_h, case.out_w) <= room
            and -(-case.channels_in // config.outputs) <= config.scale_words and out_words <= min(config.weight_words, config.steps_max))


def _place(rng: np.random.Generator, config: Config, case, upper: bool, words: int, h: int, w: int) -> tuple[int, int, int]:
    """(base, plane, pitch) in one half of the mask memory."""
    (down, across), room = _regions(case, h, w), config.mask_words // 2
    pitch = across + int(rng.integers(SLACK + 1))
    plane = down * pitch + int(rng.integers(SLACK + 1))
    return int(rng.integers(room - words * plane + 1)) + upper * room, plane, pitch


def _waiting(loads: list[Load]) -> list[Load]:
    return [dataclasses.replace(load, sync=True) for load in loads]


def around(config: Config, case, layer: Layer, load: list[Load], beside: list[Load], store: Store) -> list[Command]:
    """The commands of a case: its input, a copy of it that predicts masks, the layer, a convolution of one pixel that reads the layer's masks."""
    rng = np.random.default_rng([case.seed, 2])
    half, regions = config.activation_words // 2, {"region_h": case.region_h, "region_w": case.region_w, "threshold": case.threshold}
    upper = bool(rng.integers(2))
    in_base, in_plane, in_pitch = _place(rng, config, case, upper, layer.in_words, case.in_h, case.in_w)
    out_words = -(-case.channels_out // config.word)
    out_base, out_plane, out_pitch = _place(rng, config, case, not upper, out_words, case.out_h, case.out_w)
    masked = MaskedLayer(**vars(layer), **regions, masked=bool(case.masked), mask_base=in_base, mask_plane=in_plane, mask_pitch=in_pitch,
                         predict=bool(case.predict), predict_base=out_base, predict_plane=out_plane, predict_pitch=out_pitch)
    commands = [*load[:1]]
    if case.masked:
        scales = pack_scales(config, np.zeros(case.channels_in), np.full(case.channels_in, 2))
        commands += [Load(opcode=Opcode.LOAD_SCALES, address=0, data=scales, sync=True), MaskedLayer(
            kind=Kind.SUM, in_signed=layer.in_signed, in_base=layer.in_base, in_plane=layer.in_plane, in_h=layer.in_h, in_w=layer.in_w,
            in_words=layer.in_words, in_tail=layer.in_tail, out_base=half - layer.in_base // half * half, out_plane=layer.in_plane, out_h=layer.in_h,
            out_w=layer.in_w, out_channels=case.channels_in, shift=1, clamp_low=-128 if layer.in_signed else 0, clamp_high=127 if layer.in_signed else 255,
            tag=f"{layer.tag}: masks", **regions, predict=True, predict_base=in_base, predict_plane=in_plane, predict_pitch=in_pitch)]
    commands += [*_waiting(beside), *load[1:], masked]
    if case.predict:
        weights = rng.choice(allowed(config, False), (out_words, config.block(False), config.word))
        scales = pack_scales(config, rng.integers(-1000, 1000, CHANNELS), rng.integers(1, 256, CHANNELS))
        reader = MaskedLayer(
            kind=Kind.CONV, in_signed=layer.clamp_low < 0, in_base=layer.out_base, in_plane=layer.out_plane, in_h=layer.out_h, in_w=layer.out_w,
            in_words=out_words, in_tail=(case.channels_out - 1) % config.word + 1, out_base=layer.in_base // half * half, out_plane=layer.out_plane,
            out_h=layer.out_h, out_w=layer.out_w, out_channels=CHANNELS, shift=14, clamp_low=-128, clamp_high=127, tag=f"{layer.tag}: reader", **regions,
            masked=True, mask_base=out_base, mask_plane=out_plane, mask_pitch=out_pitch)
        words = -(-CHANNELS // config.word) * reader.out_plane
        commands += [*_waiting([Load(opcode=Opcode.LOAD_WEIGHTS, address=0, data=pack_slots(config, slots_of(config, weights, False))),
                                Load(opcode=Opcode.LOAD_SCALES, address=0, data=scales)]),
                     reader, Store(address=reader.out_base, count=words, tail=config.word)]
    return [*commands, store]
