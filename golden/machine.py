"""The golden machine: executes a program stream on NumPy memories and returns codes and cycles, both exact."""

import functools
from dataclasses import dataclass, field

import numpy as np

from golden import cycles, masks
from golden.arrays import operands
from golden.channel_unit import depthwise, pool
from golden.hazard import HazardError
from golden.mac_array import convolve, exact
from golden.output_stage import requantize, unpack_scales
from golden.parallel import over_images
from golden.term_select import to_signed
from golden.traffic import Traffic, program_traffic
from golden.weights import slot_bytes, unpack_slots, weights_of
from sdp.config import Config
from sdp.encoding import decode
from sdp.program import (
    Command,
    End,
    Error,
    Kind,
    Layer,
    Load,
    MaskedLayer,
    Opcode,
    ProgramError,
    Store,
    beats_per_word,
    check_layer,
    header_beats,
)


@dataclass(frozen=True)
class LayerCounts:
    """What the hardware's log holds of a layer, and the cycle of the program in which it starts. ``terms`` and ``empty``: int64 (images,).

    With DRQ, where they depend on data, ``start`` and ``cycles`` are such arrays as well.
    """

    layer: Layer
    start: int | np.ndarray
    cycles: int | np.ndarray
    terms: np.ndarray
    empty: np.ndarray


@dataclass
class Result:
    """``outputs``: uint8 (images, words, bytes per word), in the order of the stores. ``cycles`` hold for streams that never wait,
    ``traffic`` for any. With DRQ ``cycles`` are int64 (images,)."""

    outputs: np.ndarray
    cycles: int | np.ndarray = 0
    layers: list[LayerCounts] = field(default_factory=list)
    traffic: Traffic = Traffic()

    @property
    def busy(self) -> int | np.ndarray:
        """Cycles in which a layer ran."""
        return sum(entry.cycles for entry in self.layers)


@functools.lru_cache(maxsize=1024)
def _uses(out: int, stride: int, kernel: int, pad: int, size: int) -> np.ndarray:
    """How many of ``out`` windows hold each of ``size`` coordinates, int64 (size,)."""
    at = (np.arange(out)[:, None] * stride - pad + np.arange(kernel)).ravel()
    return np.bincount(at[(at >= 0) & (at < size)], minlength=size)


def _reached(out: int, stride: int, kernel: int, pad: int, size: int) -> np.ndarray:
    """Coordinates inside of ``size`` that some output's window touches, ascending."""
    return np.flatnonzero(_uses(out, stride, kernel, pad, size))


_OPCODES = {Layer: Opcode.LAYER, Store: Opcode.STORE, End: Opcode.END}


def _later(a: int | np.ndarray, b: int | np.ndarray) -> int | np.ndarray:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)


class Machine:
    """One accelerator, or ``images`` of them that run one program on different inputs.

    The memories persist from program to program. Each run returns what the output stream, the counters and the layer log would show.
    """

    def __init__(self, config: Config, images: int = 1):
        self.config = config
        # Memory for a channel of all words lies together, since all loops run over pixels.
        self._planes = np.zeros((config.word, images, config.activation_words), dtype=np.uint8)
        self.activations = self._planes.transpose(1, 2, 0)
        self.weights = np.zeros((config.weight_words, config.columns, config.word), dtype=np.uint16)
        self.scales = np.zeros((2, config.scale_words * config.outputs), dtype=np.int64)
        self.masks = np.zeros((images, config.mask_words, config.word), dtype=bool)

    def run(self, program: bytes | list[Command]) -> Result:
        """Execute a byte stream, or its commands.

        Raises
        ------
        ProgramError
            With the code that the hardware's error register would show.
        HazardError
            The program writes what a running layer reads.
        """
        commands = decode(self.config, program) if isinstance(program, bytes) else program
        outputs, layers = [], []
        # The cycle of the next header's first beat, and the first cycle in which the engine is idle, both counted from the start.
        now, idle, running = cycles.BEGIN + 1, 0, None
        for command in commands:
            opcode = command.opcode if isinstance(command, Load) else next(o for kind, o in _OPCODES.items() if isinstance(command, kind))
            now += header_beats(self.config, opcode) + cycles.CHECK
            beside = isinstance(command, Load) and opcode is not Opcode.LOAD_ACTIVATIONS and not command.sync
            if not beside:
                now = _later(now, idle)
            match command:
                case Load():
                    if beside and np.any(now < idle):
                        self._check_hazard(command, running)
                    self._load(command)
                    now += 1 + command.data.shape[-2] * beats_per_word(self.config, opcode)
                case Layer():
                    layers.append(self._layer(command, now))
                    idle, running = now + layers[-1].cycles + 1, command
                    now += 1
                case Store():
                    words = self.activations[:, command.address : command.address + command.count].copy()
                    words[..., command.tail :] = 0
                    outputs.append(words)
                    now += 1 + command.count + cycles.STORE_TAIL
        empty = np.zeros((len(self.activations), 0, self.config.word), dtype=np.uint8)
        return Result(np.concatenate([empty, *outputs], axis=1), now, layers, program_traffic(self.config, commands))

    def _check_hazard(self, load: Load, layer: Layer) -> None:
        c = self.config
        if load.opcode is Opcode.LOAD_WEIGHTS:
            base, count = layer.weight_base, self._weight_words(layer)
        else:
            base, count = layer.scale_base, -(-layer.out_channels // c.outputs)
        if load.address < base + count and base < load.address + load.data.shape[-2]:
            raise HazardError(f"{load.opcode.name} at {load.address} overwrites what layer {layer.tag!r} still reads; set its sync bit")

    def _load(self, load: Load) -> None:
        at = slice(load.address, load.address + load.data.shape[-2])
        match load.opcode:
            case Opcode.LOAD_ACTIVATIONS:
                self.activations[:, at] = load.data
            case Opcode.LOAD_WEIGHTS:
                self.weights[at] = unpack_slots(self.config, load.data)
            case Opcode.LOAD_SCALES:
                at = slice(at.start * self.config.outputs, at.stop * self.config.outputs)
                self.scales[:, at] = unpack_scales(self.config, load.data)

    def _blocks(self, layer: Layer) -> int:
        return -(-layer.out_channels // (self.config.block(layer.w4) if layer.kind is Kind.CONV else self.config.word))

    def _steps(self, layer: Layer) -> int:
        return layer.kernel_h * layer.kernel_w * (layer.in_words if layer.kind is Kind.CONV else 1)

    def _weight_words(self, layer: Layer) -> int:
        return self._blocks(layer) * self._steps(layer) if layer.kind in (Kind.CONV, Kind.DEPTHWISE) else 0

    def _check(self, layer: Layer, in_words: int) -> None:
        """What the hardware notices while the layer runs."""
        c, half = self.config, self.config.activation_words // 2
        check_layer(c, layer)

        def fail(code, message):
            raise ProgramError(code, f"layer {layer.tag!r}: {message}")

        if layer.kind is Kind.CONV and self._steps(layer) > c.steps_max:
            fail(Error.REDUCTION, f"{self._steps(layer)} words per output, allowed are {c.steps_max}")
        if layer.weight_base + self._weight_words(layer) > c.weight_words:
            fail(Error.WEIGHT_ADDRESS, f"weights end at {layer.weight_base + self._weight_words(layer)} of {c.weight_words} words")
        if layer.scale_base + -(-layer.out_channels // c.outputs) > c.scale_words:
            fail(Error.SCALE_ADDRESS, f"scales end at {layer.scale_base + -(-layer.out_channels // c.outputs)} of {c.scale_words} words")
        y = _reached(layer.out_h, layer.stride_h, layer.kernel_h, layer.pad_top, layer.in_h)
        x = _reached(layer.out_w, layer.stride_w, layer.kernel_w, layer.pad_left, layer.in_w)
        regions = {"output": (layer.out_base, layer.out_base + (-(-layer.out_channels // c.word) - 1) * layer.out_plane + layer.out_h * layer.out_w - 1)}
        if len(y) and len(x):
            regions["input"] = (layer.in_base + y[0] * layer.in_w + x[0], layer.in_base + (in_words - 1) * layer.in_plane + y[-1] * layer.in_w + x[-1])
        if layer.residual:
            regions["residual"] = tuple(a - layer.out_base + layer.residual_base for a in regions["output"])
        regions = {name: (int(low), int(high)) for name, (low, high) in regions.items()}
        for name, (low, high) in regions.items():
            if high >= c.activation_words:
                fail(Error.ADDRESS, f"{name} reaches address {high} of {c.activation_words}")
            base = layer.in_base if name == "input" else layer.residual_base
            if layer.residual and name != "output" and {low // half, high // half} != {base // half}:
                fail(Error.ADDRESS, f"{name} reaches from {low} to {high}, over the border of the halves at {half}")
        if "input" in regions and regions["input"][0] <= regions["output"][1] and regions["output"][0] <= regions["input"][1]:
            raise HazardError(f"layer {layer.tag!r}: output {regions['output']} overlaps input {regions['input']}")

    def _image(self, layer: Layer, words: int, at: slice = slice(None)) -> np.ndarray:
        """The input tensor (images, h, w, words * codes) of the images ``at``, int16 or, without a sign, uint8; anything where no window reaches."""
        pixels, image = layer.in_h * layer.in_w, self._planes[:, at]
        data = np.zeros((words, *image.shape[:2], pixels), dtype=np.uint8)
        for word, plane in enumerate(data):
            source = image[..., layer.in_base + word * layer.in_plane :][..., :pixels]
            plane[..., : source.shape[-1]] = source
        codes = data.reshape(-1, image.shape[1], layer.in_h, layer.in_w).transpose(1, 2, 3, 0)
        return to_signed(codes, True) if layer.in_signed else codes

    def _layer(self, layer: Layer, start: int) -> LayerCounts:
        c, blocks = self.config, self._blocks(layer)
        self._check(layer, layer.in_words if layer.kind is Kind.CONV else blocks)
        drq = c.array == "drq"
        if drq:
            layer = layer if isinstance(layer, MaskedLayer) else MaskedLayer(**vars(layer))
            masks.check(c, layer)
        whole = self._weights if drq else lambda layer: exact(self._weights(layer))
        weights = {Kind.CONV: whole, Kind.DEPTHWISE: self._bytes}.get(layer.kind, lambda layer: None)(layer)
        counts = np.concatenate(over_images(lambda at: self._compute(layer, blocks, weights, at), len(self.activations)), axis=1)
        if len(counts) > 1:
            return LayerCounts(layer, start, *counts)
        return LayerCounts(layer, start, cycles.layer_cycles(c, layer).total, counts[0], cycles.term_slots(c, layer) - counts[0])

    def _compute(self, layer: Layer, blocks: int, weights: np.ndarray | None, at: slice) -> np.ndarray:
        """The layer for the images ``at``, from memory to memory; returns the terms of each image, (1, n), or with DRQ cycles, terms and empty slots, (3, n)."""
        c, out = self.config, (layer.out_h, layer.out_w)
        in_words = layer.in_words if layer.kind is Kind.CONV else blocks
        image, kernel = self._image(layer, in_words, at), (layer.kernel_h, layer.kernel_w)
        stride, pad = (layer.stride_h, layer.stride_w), (layer.pad_top, layer.pad_left)
        counts = np.zeros((1, len(image)), dtype=np.int64)
        if layer.kind is Kind.CONV:
            image[..., (in_words - 1) * c.word + layer.in_tail :] = 0
        if layer.kind is Kind.CONV and isinstance(layer, MaskedLayer):
            acc, counts = masks.convolve(c, layer, image, self.masks[at], weights)
        elif layer.kind is Kind.CONV:
            codes, terms = operands(c, image, layer.budget)
            acc = convolve(codes, weights, stride, pad, out, dtype=None)
            # A pixel's terms are used by each window that holds it.
            uses = [_uses(*axis) for axis in zip(out, stride, kernel, pad, image.shape[1:3])]
            counts[0] = blocks * (terms * uses[0][:, None] * uses[1]).sum(axis=(1, 2))
        elif layer.kind is Kind.DEPTHWISE:
            acc = depthwise(image, weights, stride, pad, out)
        else:
            acc = pool(image, layer.kind is Kind.MAX, kernel, stride, pad, out)
        # Whole chunks of `outputs` channels are written, the rest of the last word keeps what it held.
        channels = -(-layer.out_channels // c.outputs) * c.outputs
        words = [slice(begin, min(begin + c.word, channels)) for begin in range(0, channels, c.word)]
        residuals = [0] * len(words)
        if layer.residual:
            # All of them first: the output of one word may lie where the residual of the next one is.
            residuals = [to_signed(self._codes(layer.residual_base + n * layer.out_plane, part, out, at), layer.residual_signed)
                         for n, part in enumerate(words)]
        bias, multiplier = self.scales[:, layer.scale_base * c.outputs :]
        for n, (part, residual) in enumerate(zip(words, residuals)):
            codes = requantize(acc[..., part], bias[part], multiplier[part], layer.shift, layer.clamp_low, layer.clamp_high, residual,
                               layer.residual_multiplier, layer.ties_even)
            self._codes(layer.out_base + n * layer.out_plane, part, out, at)[...] = codes
            if isinstance(layer, MaskedLayer) and layer.predict:
                masks.predict(layer, codes, n, self.masks[at])
        return counts

    def _codes(self, base: int, part: slice, size: tuple[int, int], at: slice) -> np.ndarray:
        """View of memory from ``base`` on, a word per pixel: as many channels of it as ``part`` has, uint8 (images, h, w, channels)."""
        planes = self._planes[: part.stop - part.start, at, base : base + size[0] * size[1]]
        return planes.reshape(len(planes), -1, *size).transpose(1, 2, 3, 0)

    def _weights(self, layer: Layer) -> np.ndarray:
        """Weights from memory, (kernel_h, kernel_w, channels in, channels of all blocks)."""
        c, blocks, steps = self.config, self._blocks(layer), self._steps(layer)
        at = slice(layer.weight_base, layer.weight_base + blocks * steps)
        slots = self.weights[at].reshape(blocks, layer.kernel_h, layer.kernel_w, layer.in_words, c.columns, c.word)
        return weights_of(c, slots, layer.w4).transpose(1, 2, 3, 5, 0, 4).reshape(layer.kernel_h, layer.kernel_w, layer.in_words * c.word, -1)

    def _bytes(self, layer: Layer) -> np.ndarray:
        """Depthwise weights from memory, (kernel_h, kernel_w, channels of all words)."""
        slots = self.weights[layer.weight_base : layer.weight_base + self._weight_words(layer), 0]
        whole = slot_bytes(self.config, slots).reshape(-1, layer.kernel_h, layer.kernel_w, self.config.word)
        return whole.transpose(1, 2, 0, 3).reshape(layer.kernel_h, layer.kernel_w, -1)
