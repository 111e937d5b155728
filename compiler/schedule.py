"""Quantized network to programs: which layers share one, what the host loads and stores around them, and how to read it.

A network that fits the chip is one program per frame. Otherwise a frame is a sequence of passes, see :mod:`compiler.partition`. Weights
and scales that fit their memories as a whole are loaded once, by the setup program; otherwise they arrive beside the computation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from compiler import packing, partition, resident
from compiler.layout import Tensors, from_blocks, plane, tensor_words, to_blocks
from compiler.memory import AllocationError
from compiler.network import NetworkError, Shape
from compiler.passes import Compute, Pass
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from compiler.residency import ConstantLoad, Part, place
from compiler.tile import whole_layer
from golden.cycles import layer_cycles
from golden.machine import Machine, Result
from golden.weights import allowed
from sdp.config import Config
from sdp.encoding import encode
from sdp.program import Command, End, Kind, Load, Opcode, ProgramError, check_layer, check_mode, memory_words

__all__ = ["Compiled", "Frame", "Output", "compile", "cycles", "plane", "tensor_words"]


def cycles(config: Config, layer: QuantizedLayer) -> int:
    """Exact cycles of a layer, computed in one part."""
    return layer_cycles(config, whole_layer(config, Part(layer, 0, layer.out_shape[2]), {})).total


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor that a frame stores."""

    name: str
    shape: Shape
    signed: bool

    def count(self, config: Config) -> int:
        """Words that it takes on the host."""
        return packing.channel_words(config, self.shape[2]) * self.shape[0] * self.shape[1]


@dataclass(frozen=True, eq=False)
class Frame:
    """What became of a frame: the host's tensors, the codes (..., h, w, c) of those that layers made, a result per pass."""

    tensors: Tensors
    codes: dict[str, np.ndarray]
    results: list[Result]


@dataclass(frozen=True, eq=False)
class Compiled:
    """Programs of one network on one configuration.

    ``network``: the one that was compiled, with the copies that it needs; ``passes``: the programs of a frame, in order;
    ``fixed``: loads that are done once, by the setup program.
    """

    network: QuantizedNetwork
    config: Config
    passes: tuple[Pass, ...]
    fixed: tuple[ConstantLoad, ...]
    constants: packing.Constants = field(repr=False)

    @property
    def macs(self) -> dict[str, int]:
        """Multiplications per image by layer; 0 for pooling."""
        return {layer.name: layer.macs for layer in self.network.layers}

    @property
    def parts(self) -> list[Part]:
        """What the layer commands of a frame compute, one after the other."""
        return [item.part for step in self.passes for item in step.layers]

    def setup(self) -> list[Command]:
        """Loads of what stays for all images, and ``end``; to be run once, before any frame."""
        loads = {}
        for item in self.fixed:
            loads.setdefault(item.opcode, []).append(item.command(self.constants).data)
        return [*(Load(opcode=opcode, address=0, data=np.concatenate(data)) for opcode, data in loads.items()), End()]

    def host(self, codes: np.ndarray) -> Tensors:
        """The host's tensors before the first pass, for codes (..., h, w, c) as :meth:`QuantizedNetwork.encode` yields them."""
        network, leading = self.network, codes.shape[:-3]
        packed = network.pack(codes.reshape(-1, *network.input_shape))
        return {network.input: to_blocks(self.config, packed.reshape(*leading, *network.memory_shape))}

    def frame(self, codes: np.ndarray, trace: bool = False) -> list[Command]:
        """The program of one image: codes (h, w, c) as :meth:`QuantizedNetwork.encode` yields them; leading axes are images at once.

        ``trace`` stores the output of every layer right after it instead of the last one's only.

        Raises
        ------
        NetworkError
            The network is no single program; see :meth:`run`.
        """
        return self._single().program(self.host(codes), self.constants, trace)

    def _single(self) -> Pass:
        if len(self.passes) > 1:
            raise NetworkError(f"network {self.network.name!r} is {len(self.passes)} programs per frame on {self.config.name!r}, not one")
        return self.passes[0]

    def outputs(self, trace: bool = False) -> list[Output]:
        """What a frame stores, in order."""
        stored = dict.fromkeys(item.box.tensor for step in self.passes for item in step.stores(trace))
        layers = {layer.name: layer for layer in self.network.layers}
        return [Output(name, layers[name].out_shape, layers[name].out_signed) for name in stored]

    def unpack(self, words: np.ndarray, trace: bool = False) -> dict[str, np.ndarray]:
        """Words of one program's output, uint8 (..., words, lanes * group), to codes, int16 (..., h, w, c), by layer."""
        self._single()
        return self.gather([words], trace)

    def gather(self, words: list[np.ndarray], trace: bool = False) -> dict[str, np.ndarray]:
        """What each pass of a frame stored, uint8 (..., words, lanes * group), to codes, int16 (..., h, w, c), by layer."""
        tensors = self._room(words[0].shape[:-2], trace)
        for step, stored in zip(self.passes, words, strict=True):
            step.collect(stored, tensors, trace)
        return self._codes(tensors, trace)

    def _room(self, leading: tuple[int, ...], trace: bool) -> Tensors:
        word = self.config.word
        return {o.name: np.zeros((*leading, packing.channel_words(self.config, o.shape[2]), *o.shape[:2], word), dtype=np.uint8)
                for o in self.outputs(trace)}

    def _codes(self, tensors: Tensors, trace: bool) -> dict[str, np.ndarray]:
        return {o.name: from_blocks(tensors[o.name], o.shape[2], o.signed) for o in self.outputs(trace)}

    def run(self, execute: Callable[[list[Command]], Result], codes: np.ndarray, trace: bool = False) -> Frame:
        """A frame with all its passes: ``execute`` runs a program on images (..., h, w, c) and returns what it stored.

        Memories must keep what setup put there. This loop is the host: it keeps the tensors between the passes.
        """
        tensors = self.host(codes) | self._room(codes.shape[:-3], trace)
        results = []
        for step in self.passes:
            results.append(execute(step.program(tensors, self.constants, trace)))
            step.collect(results[-1].outputs, tensors, trace)
        return Frame(tensors, self._codes(tensors, trace), results)

    def run_golden(self, machine: Machine, codes: np.ndarray, trace: bool = False) -> Frame:
        """Setup and a frame on the golden machine, for as many images as it has."""
        machine.run(self.setup())
        return self.run(machine.run, codes, trace)

    def programs(self, tensors: Tensors, trace: bool = False) -> list[bytes]:
        """The streams of one image's passes, given all tensors that the host ever holds (of a :class:`Frame` of one image).

        What runs them, the RTL say, need not wait for one pass to make the next one's program.
        """
        return [encode(self.config, step.program(tensors, self.constants, trace)) for step in self.passes]

    def commands(self) -> list[list[Command]]:
        """The programs of a frame, with zeros for whatever tensors hold: for all that depends on sizes alone."""
        tensors = self.host(np.zeros(self.network.input_shape, dtype=np.int16)) | self._room((), False)
        return [step.program(tensors, self.constants) for step in self.passes]

    def report(self) -> list[str]:
        """A line per pass: what was chosen, cycles, beats in and out."""
        return [f"{step.name}; {step.cycles} cycles, {step.traffic[0]} beats in, {step.traffic[1]} out" for step in self.passes]


def settle(config: Config, passes: tuple[Pass, ...]) -> tuple[list[ConstantLoad], tuple[Pass, ...]]:
    """Weights, or scales, that fit as a whole: (their loads for setup, passes without them)."""
    fixed = []
    for opcode, base in ((Opcode.LOAD_WEIGHTS, "weight_base"), (Opcode.LOAD_SCALES, "scale_base")):
        parts = list(dict.fromkeys(item.part for step in passes for item in step.layers))
        stay, regions = place([packing.count(config, opcode, p.layer, p.stop - p.start) for p in parts], memory_words(config, opcode))
        if not stay:
            continue
        at = dict(zip(parts, regions))
        fixed += [load for part, region in at.items() for load in region.loads(opcode, part)]

        def moved(item):
            return replace(item, command=replace(item.command, **{base: at[item.part].base})) if isinstance(item, Compute) else item

        passes = tuple(replace(step, items=tuple(moved(item) for item in step.items
                                                 if not (isinstance(item, ConstantLoad) and item.opcode is opcode))) for step in passes)
    return fixed, passes


def check_array(network: QuantizedNetwork, config: Config) -> None:
    """What the array of ``config`` must have: weight mode and budget of each convolution, and its weights."""
    for layer in network.layers:
        if layer.kind is not Kind.CONV:
            continue
        try:
            check_mode(config, layer.kind, layer.w4, layer.budget, layer.name)
        except ProgramError as error:
            raise NetworkError(error.args[1]) from None
        values = allowed(config, layer.w4)
        if strange := sorted(set(np.unique(layer.weights).tolist()) - set(values.tolist())):
            raise NetworkError(f"layer {layer.name!r}: {'w4' if layer.w4 else 'w8'} weights of the {config.array} array reach from {values[0]} to {values[-1]}, "
                               f"{strange[0]} is none of them")


def compile(network: QuantizedNetwork, config: Config) -> Compiled:
    """Programs for ``network`` on ``config``.

    Raises
    ------
    NetworkError
        One sentence on what does not fit: what, its size, the limit.
    """
    check_array(network, config)
    try:
        layers, one = resident.make(config, network.layers, {network.layers[-1].name})
        passes = (one,)
    except AllocationError:
        layers, passes = partition.make(config, network.layers)
    fixed, passes = settle(config, passes)
    for step in passes:
        for item in step.layers:
            try:
                check_layer(config, item.command)
            except ProgramError as error:
                raise NetworkError(str(error)) from None
    return Compiled(replace(network, layers=layers), config, passes, tuple(fixed), packing.Constants(config))
