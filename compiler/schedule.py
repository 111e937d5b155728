"""Quantized network to programs: addresses, what is loaded when, the layers' headers, and how to read what is stored.

Weights and scales that fit their memories as a whole are loaded once, by the setup program. Otherwise each layer's are loaded in the
image's program, beside the computation; see :mod:`compiler.residency`.
"""

from dataclasses import dataclass

import numpy as np

from compiler import memory, packing
from compiler.network import NetworkError, Shape
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from compiler.residency import Part, Region, parts_of_all, place
from golden.cycles import layer_cycles
from golden.term_select import to_signed
from sdp.config import Config
from sdp.program import Command, End, Kind, Layer, Load, Opcode, ProgramError, Store, check_layer


def plane(config: Config, shape: Shape) -> int:
    """Words from one channel word of a tensor to the next: its pixels, rounded up to a multiple of ``ports``."""
    return -(-shape[0] * shape[1] // config.ports) * config.ports


def tensor_words(config: Config, shape: Shape) -> int:
    return packing.channel_words(config, shape[2]) * plane(config, shape)


def header(config: Config, layer: QuantizedLayer, *, in_base: int = 0, out_base: int = 0, residual_base: int = 0, weight_base: int = 0,
           scale_base: int = 0, channels: slice = slice(None)) -> Layer:
    """The layer command for some output channels; the bases are those of the whole tensors."""
    start, stop, _ = channels.indices(layer.out_shape[2])
    offset = start // config.word * plane(config, layer.out_shape)
    has_residual = layer.residual is not None
    # Pooling keeps to its channels: some of the output need the same ones of the input.
    inputs = stop - start
    if layer.kind is Kind.CONV:
        inputs = layer.in_shape[2]
    else:
        in_base += start // config.word * plane(config, layer.in_shape)
    return Layer(
        kind=layer.kind, tag=layer.name, w4=layer.w4, in_signed=layer.in_signed, budget=layer.budget,
        in_base=in_base, in_plane=plane(config, layer.in_shape), in_h=layer.in_shape[0], in_w=layer.in_shape[1],
        in_words=packing.channel_words(config, inputs), in_tail=(inputs - 1) % config.word + 1,
        out_base=out_base + offset, out_plane=plane(config, layer.out_shape), out_h=layer.out_shape[0], out_w=layer.out_shape[1],
        out_channels=stop - start, kernel_h=layer.kernel[0], kernel_w=layer.kernel[1], stride_h=layer.stride[0], stride_w=layer.stride[1],
        pad_top=layer.pad[0], pad_left=layer.pad[1], weight_base=weight_base, scale_base=scale_base,
        residual=has_residual, residual_signed=layer.residual_signed, residual_base=residual_base + offset if has_residual else 0,
        residual_multiplier=layer.residual_multiplier, shift=layer.shift, clamp_low=layer.clamp[0], clamp_high=layer.clamp[1])


def cycles(config: Config, layer: QuantizedLayer) -> int:
    """Exact cycles of a layer, computed in one part."""
    return layer_cycles(config, header(config, layer)).total


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor in the output stream: ``count`` words per channel word, one channel word after the other."""

    name: str
    shape: Shape
    signed: bool


@dataclass(frozen=True, eq=False)
class Compiled:
    """Programs of one network on one configuration.

    ``places``: where every tensor lies; ``parts``, ``weights``, ``scales`` run parallel, in the order of execution; ``weights_stay``
    and ``scales_stay`` tell that they are loaded once, by the setup program.
    """

    network: QuantizedNetwork
    config: Config
    places: dict[str, memory.Place]
    parts: list[Part]
    weights: list[Region]
    scales: list[Region]
    weights_stay: bool
    scales_stay: bool

    @property
    def macs(self) -> dict[str, int]:
        """Multiplications per image by layer; 0 for pooling."""
        return {layer.name: layer.macs for layer in self.network.layers}

    def layer(self, part: Part, weights: Region, scales: Region) -> Layer:
        layer, places = part.layer, self.places
        residual = places[layer.residual].base if layer.residual is not None else 0
        return header(self.config, layer, in_base=places[layer.input].base, out_base=places[layer.name].base, residual_base=residual,
                      weight_base=weights.base, scale_base=scales.base, channels=part.channels)

    def setup(self) -> list[Command]:
        """Loads of what stays for all images, and ``end``; to be run once, before any frame."""
        stay = ((self.weights_stay, self.weights, Opcode.LOAD_WEIGHTS), (self.scales_stay, self.scales, Opcode.LOAD_SCALES))
        loads = [Load(opcode=opcode, address=0, data=np.concatenate([r.data for r in regions if len(r.data)]))
                 for stays, regions, opcode in stay if stays and any(len(r.data) for r in regions)]
        return [*loads, End()]

    def frame(self, codes: np.ndarray, trace: bool = False) -> list[Command]:
        """The program of one image: codes (h, w, c) as :meth:`QuantizedNetwork.encode` yields them; leading axes are images at once.

        ``trace`` stores the output of every layer right after it instead of the last one's only.
        """
        commands: list[Command] = [self._input(codes)]
        for part, weights, scales in zip(self.parts, self.weights, self.scales):
            if not self.weights_stay:
                commands += weights.loads(Opcode.LOAD_WEIGHTS)
            if not self.scales_stay:
                commands += scales.loads(Opcode.LOAD_SCALES)
            commands.append(self.layer(part, weights, scales))
            if part.last and (trace or part.layer is self.network.layers[-1]):
                commands += self._stores(part.layer)
        return [*commands, End()]

    def _input(self, codes: np.ndarray) -> Load:
        network, config, leading = self.network, self.config, codes.shape[:-3]
        packed = network.pack(codes.reshape(-1, *network.input_shape))
        height, width, channels = network.memory_shape
        words = packing.channel_words(config, channels)
        padded = np.pad(packed, ((0, 0),) * 3 + ((0, -channels % config.word),)).reshape(-1, height * width, words, config.word)
        padded = np.pad(padded.transpose(0, 2, 1, 3), ((0, 0), (0, 0), (0, plane(config, network.memory_shape) - height * width), (0, 0)))
        data = padded.astype(np.int16).astype(np.uint8).reshape(*leading, -1, config.word)
        return Load(opcode=Opcode.LOAD_ACTIVATIONS, address=self.places[network.input].base, data=data)

    def _stores(self, layer: QuantizedLayer) -> list[Store]:
        height, width, channels = layer.out_shape
        base, step, word = self.places[layer.name].base, plane(self.config, layer.out_shape), self.config.word
        return [Store(address=base + i * step, count=height * width, tail=min(word, channels - i * word))
                for i in range(packing.channel_words(self.config, channels))]

    def outputs(self, trace: bool = False) -> list[Output]:
        """What a frame stores, in order."""
        layers = self.network.layers if trace else self.network.layers[-1:]
        return [Output(layer.name, layer.out_shape, layer.out_signed) for layer in layers]

    def unpack(self, words: np.ndarray, trace: bool = False) -> dict[str, np.ndarray]:
        """Words of the output stream, uint8 (..., words, lanes * group), to codes, int16 (..., h, w, c), by layer."""
        tensors, at, word, leading = {}, 0, self.config.word, words.shape[:-2]
        for output in self.outputs(trace):
            height, width, channels = output.shape
            blocks = packing.channel_words(self.config, channels)
            count = blocks * height * width
            part = words[..., at : at + count, :].reshape(*leading, blocks, height * width, word)
            part = np.moveaxis(part, -3, -2).reshape(*leading, height, width, blocks * word)
            tensors[output.name] = to_signed(np.ascontiguousarray(part[..., :channels]), output.signed)
            at += count
        if at != words.shape[-2]:
            raise ValueError(f"{words.shape[-2]} words of output, expected are {at}")
        return tensors


def compile(network: QuantizedNetwork, config: Config) -> Compiled:
    """Programs for ``network`` on ``config``.

    Raises
    ------
    NetworkError
        One sentence on what does not fit: what, its size, the limit.
    """
    shapes = {network.input: network.memory_shape} | {layer.name: layer.out_shape for layer in network.layers}
    steps = [memory.Step(output=layer.name, input=layer.input, residual=layer.residual) for layer in network.layers]
    places = memory.allocate(steps, {name: tensor_words(config, shape) for name, shape in shapes.items()}, config.activation_words)
    parts = parts_of_all(config, network.layers)
    weights_stay, weights = place([packing.weight_words(config, p.layer, p.channels) for p in parts], config.weight_words)
    scales_stay, scales = place([packing.scale_words(config, p.layer, p.channels) for p in parts], config.scale_words)
    compiled = Compiled(network, config, places, parts, weights, scales, weights_stay, scales_stay)
    for part, weight, scale in zip(parts, weights, scales):
        try:
            check_layer(config, compiled.layer(part, weight, scale))
        except ProgramError as error:
            raise NetworkError(str(error)) from None
    return compiled
