"""Random layers for fuzzing: a case is a handful of numbers, everything else follows from its seed."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from golden.output_stage import pack_scales
from golden.weights import allowed, pack_bytes, pack_slots, slots_of
from sdp import UserError
from sdp.config import Config
from sdp.program import Command, End, Kind, Layer, Load, Opcode, Store
from sim import random_masks


class CaseError(UserError, ValueError):
    """A case that cannot be read or does not fit."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What distinguishes one random layer from another; ``seed`` makes its data."""

    seed: int
    kind: int = 0
    w4: int = 0
    budget: int = 1
    channels_in: int = 1
    channels_out: int = 1
    in_h: int = 1
    in_w: int = 1
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_bottom: int = 0
    pad_right: int = 0
    in_signed: int = 0
    out_signed: int = 0
    residual: int = 0
    residual_signed: int = 0
    ties_even: int = 0
    masked: int = 0
    predict: int = 0
    region_h: int = 0
    region_w: int = 0
    threshold: int = 0

    def __str__(self):
        return " ".join(f"{f.name}={getattr(self, f.name)}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default)

    @classmethod
    def parse(cls, text: str) -> "Case":
        """The inverse of ``str``. Raises CaseError with the offending word."""
        values = {}
        for word in text.split():
            name, _, value = word.partition("=")
            if name not in {f.name for f in dataclasses.fields(cls)} or not value.lstrip("-").isdigit():
                raise CaseError(f"case: {word!r} is not FIELD=INTEGER with a field of {', '.join(f.name for f in dataclasses.fields(cls))}")
            values[name] = int(value)
        if "seed" not in values:
            raise CaseError("case: seed=INTEGER is missing")
        return cls(**values)

    @property
    def out_h(self) -> int:
        return (self.in_h + self.pad_top + self.pad_bottom - self.kernel_h) // self.stride_h + 1

    @property
    def out_w(self) -> int:
        return (self.in_w + self.pad_left + self.pad_right - self.kernel_w) // self.stride_w + 1


def draw(config: Config, seed: int) -> Case:
    """A case that fits ``config``; small shapes are likelier than large ones."""
    rng = np.random.default_rng(seed)

    def upto(high):
        return 1 + int(high * rng.random() ** 2)

    array = config.array_kind
    budgets = array.budgets(config.group)
    while True:
        kernel_h, kernel_w = upto(11), upto(11)
        case = Case(
            seed=seed, kind=int(rng.choice([0, 0, 0, 0, 1, 2, 3])), w4=int(array.modes[rng.integers(len(array.modes))]),
            budget=int(budgets[rng.integers(len(budgets))]),
            channels_in=upto(3 * config.word), channels_out=upto(5 * config.columns), in_h=upto(16), in_w=upto(16), kernel_h=kernel_h, kernel_w=kernel_w,
            stride_h=int(rng.integers(1, 5)), stride_w=int(rng.integers(1, 5)),
            pad_top=int(rng.integers(kernel_h)), pad_left=int(rng.integers(kernel_w)), pad_bottom=int(rng.integers(kernel_h)), pad_right=int(rng.integers(kernel_w)),
            in_signed=int(rng.integers(2)), out_signed=int(rng.integers(2)), residual=int(rng.integers(2)), residual_signed=int(rng.integers(2)),
            ties_even=int(rng.integers(2)))
        if case.kind:
            case = dataclasses.replace(case, channels_in=case.channels_out, w4=0, budget=1)
        if config.array == "drq":
            case = random_masks.draw(rng, case)
        if fits(config, case):
            return case


def _sizes(config: Config, case: Case) -> tuple[int, int, int, int, int, int]:
    """(channel words in, plane in, channel words out, plane out, weight words, scale words)."""

    def plane(pixels):
        return -(-pixels // config.ports) * config.ports

    in_words, out_words = -(-case.channels_in // config.word), -(-case.channels_out // config.word)
    steps = case.kernel_h * case.kernel_w * in_words
    weights = {
        Kind.CONV: -(-case.channels_out // config.block(bool(case.w4))) * steps,
        Kind.DEPTHWISE: out_words * case.kernel_h * case.kernel_w,
    }.get(case.kind, 0)
    return (in_words, plane(case.in_h * case.in_w), out_words, plane(max(case.out_h, 0) * max(case.out_w, 0)), weights, -(-case.channels_out // config.outputs))


def fits(config: Config, case: Case) -> bool:
    in_words, in_plane, out_words, out_plane, weights, scales = _sizes(config, case)
    half = config.activation_words // 2
    return (
        min(case.out_h, case.out_w, case.channels_in, case.channels_out, case.in_h, case.in_w, case.kernel_h, case.kernel_w) >= 1
        and case.pad_top < case.kernel_h and case.pad_left < case.kernel_w and case.pad_bottom < case.kernel_h and case.pad_right < case.kernel_w
        and (config.array != "drq" or random_masks.fits(config, case, in_words, out_words))
        and (case.kind or case.budget in config.array_kind.budgets(config.group) and bool(case.w4) in config.array_kind.modes)
        and in_words * in_plane <= half and 2 * out_words * out_plane <= half
        and (case.kind or case.kernel_h * case.kernel_w * in_words <= config.steps_max)
        # Two layers' weights and scales lie in memory at once: those of the next are loaded while one runs.
        and 2 * weights <= config.weight_words and 2 * scales <= config.scale_words)


def build(config: Config, cases: list[Case]) -> list[Command]:
    """One program that runs the layers of ``cases`` one after the other, on data of their own, and stores what they compute.

    Weights and scales of a layer are loaded without waiting for the layer before.
    """
    commands: list[Command] = []
    half = config.activation_words // 2
    for n, case in enumerate(cases):
        rng = np.random.default_rng([case.seed, 1])
        in_words, in_plane, out_words, out_plane, weight_words, scale_words = _sizes(config, case)
        upper = int(rng.integers(2)) * half
        lower = half - upper

        def place(base, room):
            return base + int(rng.integers(room // config.ports + 1)) * config.ports

        in_base = place(upper, half - in_words * in_plane)
        out_base, residual_base = lower, lower + half // 2
        if case.residual and rng.random() < 0.5:
            out_base = residual_base  # in place
        # Magnitudes as networks have them: from almost all small to uniform.
        spread = 10 ** rng.uniform(0.3, 2.1)
        codes = np.clip(np.abs(rng.normal(0, spread, (in_words * in_plane, config.word))), 0, 255).astype(np.uint8)
        codes[rng.random(codes.shape) < rng.uniform(0, 0.6)] = 0
        if case.in_signed or rng.random() < 0.2:
            codes = rng.integers(0, 256, codes.shape, dtype=np.uint8)
        load = [Load(opcode=Opcode.LOAD_ACTIVATIONS, address=in_base, data=codes),
                Load(opcode=Opcode.LOAD_ACTIVATIONS, address=out_base, data=rng.integers(0, 256, (out_words * out_plane, config.word), dtype=np.uint8))]
        if case.residual:
            load.append(Load(opcode=Opcode.LOAD_ACTIVATIONS, address=residual_base, data=rng.integers(0, 256, (out_words * out_plane, config.word), dtype=np.uint8)))
        weight_base = n % 2 * (config.weight_words - weight_words) if weight_words else 0
        scale_base = n % 2 * (config.scale_words - scale_words)
        beside = []
        if not case.kind:
            parts = rng.choice(allowed(config, bool(case.w4)), (config.block(bool(case.w4)) // config.columns, weight_words, config.columns, config.word))
            weights = np.concatenate(parts[::-1], axis=1)
            beside.append(Load(opcode=Opcode.LOAD_WEIGHTS, address=weight_base, data=pack_slots(config, slots_of(config, weights, bool(case.w4)))))
        if case.kind == Kind.DEPTHWISE:
            beside.append(Load(opcode=Opcode.LOAD_WEIGHTS, address=weight_base, data=pack_bytes(config, rng.integers(-128, 128, (weight_words, config.word)))))
        reduction = case.kernel_h * case.kernel_w * (1 if case.kind else case.channels_in)
        typical = max(1.0, np.sqrt(reduction) * 60 * {Kind.CONV: 12 if case.w4 else 60, Kind.DEPTHWISE: 60}.get(case.kind, 1))
        # Scales that are powers of two, as many quantisers make them: every few sums lie halfway between two codes.
        powers = rng.random() < 0.5
        shift = int(rng.integers(1, 48))
        if powers:
            shift = max(1, round(np.log2(typical / 80)) + int(rng.integers(config.scale_bits)))
        multiplier = np.clip(rng.uniform(0, 2, case.channels_out) * 2.0**shift * 80 / typical, 0, (1 << config.scale_bits) - 1).astype(np.int64)
        residual_multiplier = int(min(rng.uniform(0, 1.5) * 2.0**shift, (1 << config.scale_bits) - 1))
        if powers:
            multiplier = 1 << np.log2(np.maximum(multiplier, 1)).astype(np.int64)
            residual_multiplier = 1 << int(np.log2(max(residual_multiplier, 1)))
        bias = rng.normal(0, typical, case.channels_out).astype(np.int64)
        beside.append(Load(opcode=Opcode.LOAD_SCALES, address=scale_base, data=pack_scales(config, bias, multiplier)))
        # The loads of activations wait for the layer before, those of weights and scales come first and do not.
        layer = Layer(
            kind=Kind(case.kind), w4=bool(case.w4), budget=case.budget, in_signed=bool(case.in_signed), in_base=in_base, in_plane=in_plane,
            in_h=case.in_h, in_w=case.in_w, in_words=in_words, in_tail=(case.channels_in - 1) % config.word + 1,
            kernel_h=case.kernel_h, kernel_w=case.kernel_w, stride_h=case.stride_h, stride_w=case.stride_w, pad_top=case.pad_top, pad_left=case.pad_left,
            out_base=out_base, out_plane=out_plane, out_h=case.out_h, out_w=case.out_w, out_channels=case.channels_out,
            weight_base=weight_base, scale_base=scale_base, residual=bool(case.residual), residual_signed=bool(case.residual_signed),
            residual_base=residual_base, residual_multiplier=residual_multiplier, shift=shift, ties_even=bool(case.ties_even),
            clamp_low=int(rng.choice([-128, -127])) if case.out_signed else 0, clamp_high=127 if case.out_signed else int(rng.choice([255, 200])), tag=str(case))
        store = Store(address=out_base, count=out_words * out_plane, tail=int(rng.integers(1, config.word + 1)))
        if config.array == "drq":
            commands += random_masks.around(config, case, layer, load, beside, store)
        else:
            commands += [*beside, *load, layer, store]
    return [*commands, End()]
