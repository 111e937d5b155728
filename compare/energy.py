"""Energy of what was built: the model of :mod:`synth.energy` for the machines of rivals, on both of its bases.

Array, published basis: products that are not idle times a published element of 4 or 8 bits, for all methods alike; nobody's selectors, predictors or
operand registers are in it. Library basis: pJ per cycle of the machine's own netlist, where ``sdp power`` or ``compare.power`` measured it, times its cycles.
"""

import numpy as np

from compare.built import Built
from golden.cycles import layer_cycles
from golden.traffic import Traffic, program_traffic
from sdp.program import Command, Kind, Opcode
from synth.energy import BASES, PARTS, Bounded, Constants, energy, total


class ArrayConstants(Constants):
    """``products``: of 4 x 4 bits by layer, idle ones not counted; ``built``: whose cycles count where the netlist was measured."""

    def __init__(self, basis: str, built: Built, products: dict[str, float], power: dict | None):
        super().__init__(basis, power)
        self.built, self.products = built, products
        self.cycles = dict(zip(built.names, built.cycles, strict=True))

    def array(self, config, layer):
        if layer.kind is not Kind.CONV:
            return super().array(config, layer)
        if self.measured:
            cycles = self.cycles[layer.tag] if config.array == "drq" else layer_cycles(config, layer).total
            return self._bounds("measured") * (self.per_cycle(layer.budget) * cycles)
        if config.array == "int8":
            return self.element(8) * (self.products[layer.tag] / 4)
        return self.element(4) * self.products[layer.tag]


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
    """Nibble products of one image by layer, mean over ``images``; padding and idle multipliers are not among them."""
    tensors = arithmetic.run(network, images)
    return {layer.name: float(arithmetic.ideal(layer, tensors[layer.input])) for layer in network.layers if layer.kind is Kind.CONV}

