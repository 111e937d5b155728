"""Energy of what was built: the model of :mod:`synth.energy` for the machines of rivals, on both of its bases.

Array, published basis: products that are not idle times a published element of 4 or 8 bits, for all methods alike; nobody's selectors, predictors or
operand registers are in it. Library basis: pJ per cycle of the machine's own netlist, where ``sdp power`` or ``compare.power`` measured it, times its cycles.

DRQ's netlist was measured at several shares of sensitive codes; energy per cycle is the straight line through all of these measurements, at the share of each
layer. Its memories are not in it: :func:`drq_memories`.
"""

from dataclasses import dataclass

import numpy as np

from compare import masked
from compare.built import Built
from golden import drq_array
from golden.cycles import layer_cycles
from golden.traffic import Traffic, program_traffic
from sdp.config import Config
from sdp.program import Command, Kind, Layer, Opcode
from synth.energy import BASES, PARTS, Bounded, Constants, energy, total


class ArrayConstants(Constants):
    """``products``: of 4 x 4 bits by layer, idle ones not counted; ``built``: whose cycles count where the netlist was measured."""

    def __init__(self, basis: str, built: Built, products: dict[str, float], power: dict | None):
        drq = built.config.array == "drq"
        super().__init__(basis, None if drq else power)
        self.built, self.products = built, products
        self.cycles = dict(zip(built.names, map(float, built.cycles), strict=True))
        self.line = Line.through(power["measurements"]) if drq and power and basis == "library" else None

    def array(self, config, layer):
        if layer.kind is not Kind.CONV:
            return super().array(config, layer)
        if self.line:
            return self._bounds("measured") * (self.line.at(sensitive(config, layer, self.products[layer.tag])) * self.cycles[layer.tag])
        if self.measured:
            return self._bounds("measured") * (self.per_cycle(layer.budget) * layer_cycles(config, layer).total)
        if config.array == "int8":
            return self.element(8) * (self.products[layer.tag] / 4)
        return self.element(4) * self.products[layer.tag]

    @property
    def array_source(self) -> str:
        if self.line:
            return f"measured on our netlist, linear in the share of sensitive codes, no measurement further away than {self.line.error:.0%}"
        return super().array_source


@dataclass(frozen=True)
class Line:
    """pJ per cycle of DRQ's array, by the share of sensitive codes among those that its rows take. ``error``: of the measurement that is the furthest away."""

    none: float
    whole: float
    error: float

    @classmethod
    def through(cls, measurements: list[dict]) -> "Line":
        """By least squares; ``measurements``: those of ``power.json``."""
        shares, found = (np.array([m[name] for m in measurements]) for name in ("sensitive", "pj_per_cycle"))
        slope, none = np.polyfit(shares, found, 1)
        return cls(float(none), float(none + slope), float(np.abs((none + slope * shares) / found - 1).max()))

    def at(self, share: float) -> float:
        return self.none + (self.whole - self.none) * share


def sensitive(config: Config, layer: Layer, products: float) -> float:
    """The part of the codes that DRQ's rows take which is sensitive; those of the padding and of idle rows and pixels are not, but count.

    ``products``: of the whole layer, one per multiplication and four where it is sensitive, by :meth:`compare.drq.Drq.ideal`; a layer without masks has
    four in the padding as well.
    """
    def inside(out, stride, kernel, pad, size):
        at = np.arange(out)[:, None] * stride - pad + np.arange(kernel)
        return float(((at >= 0) & (at < size)).mean())

    image = inside(layer.out_h, layer.stride_h, layer.kernel_h, layer.pad_top, layer.in_h) * inside(
        layer.out_w, layer.stride_w, layer.kernel_w, layer.pad_left, layer.in_w)
    channels, pixels = (layer.in_words - 1) * config.word + layer.in_tail, layer.out_h * layer.out_w
    macs = pixels * layer.out_channels * layer.kernel_h * layer.kernel_w * channels
    used = channels / (layer.in_words * config.word) * pixels / (-(-pixels // config.rows) * config.rows)
    return min((products / macs - 1) / (drq_array.SLOW - 1), image) * used


def drq_memories(built: Built, constants: Constants) -> Bounded:
    """What DRQ's own memories cost: sums below the array, read and written with every pixel of a step; masks; the predictor's sums."""
    config, words = built.config, 2 * built.config.rows
    if config.array != "drq":
        return Bounded()
    timings = [layer_cycles(config, layer) for layer in built.layers if layer.kind is Kind.CONV]
    bits = sum(t.tiles * t.steps for t in timings) * config.rows * 2 * config.columns * config.accumulator_bits
    traffic = sum((program_traffic(config, program) for program in built.programs), Traffic())
    predicted = sum(layer.out_h * layer.out_w * layer.out_channels for layer in built.layers if getattr(layer, "predict", False)) * 15
    return (constants.sram(words, "read") + constants.sram(words, "write")) * bits \
        + constants.sram(config.mask_words, "read") * (traffic.mask_reads * config.word) \
        + constants.sram(config.mask_words, "write") * (traffic.mask_writes * config.outputs) \
        + (constants.sram(64, "read") + constants.sram(64, "write")) * predicted


def resident(program: list[Command]) -> list[Command]:
    """``program`` as it would be if the weight and scale memories held the whole network."""
    return [command for command in program if getattr(command, "opcode", None) not in (Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES)]


def inference(built: Built, products: dict[str, float], power: dict | None) -> dict:
    """uJ per image by basis and part: {basis: {"total": {value, low, high}, "resident": uJ, part: uJ, "array_source": text}}.

    ``resident``: the total if no weights had to be loaded again for every image; how deep the memories are decides nothing then.
    """
    found = {}
    for basis in BASES:
        constants = ArrayConstants(basis, built, products, power)
        row = total(energy(built.config, built.programs, constants))
        own = drq_memories(built, constants)
        parts = {part: row.parts[part] for part in PARTS}
        parts["activations"] = parts["activations"] + own
        whole = sum(parts.values(), Bounded())
        kept = total(energy(built.config, [resident(program) for program in built.programs], constants)).total + own
        found[basis] = {"array_source": constants.array_source, "total": {name: value / 1e6 for name, value in vars(whole).items()},
                        "resident": kept.value / 1e6, **{part: value.value / 1e6 for part, value in parts.items()}}
    return found


def products(arithmetic, network, images: np.ndarray) -> dict[str, float]:
    """Nibble products of one image by layer, mean over ``images``; padding and idle multipliers are not among them. With DRQ those of the masks that the
    machine has, one for all readers of a tensor."""
    network = masked.unified(network)
    tensors = arithmetic.run(network, images)
    return {layer.name: float(arithmetic.ideal(layer, tensors[layer.input])) for layer in network.layers if layer.kind is Kind.CONV}

