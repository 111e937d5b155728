"""What moves, exactly: accesses of the memories and beats of the streams. No data decides them, so closed formulas do.

The machine's counters (``sdp.registers.TRAFFIC``) count the same events at the enables of the memories and at the streams' handshakes.
"""

from dataclasses import dataclass

import numpy as np

from golden import cycles
from sdp.config import Config
from sdp.program import Command, End, Kind, Layer, Load, Opcode, Store, beats_per_word, header_beats
from sdp.registers import TRAFFIC


@dataclass(frozen=True)
class Traffic:
    """Of activation memory: words read, each from one bank, by whom they are read; parts of ``outputs`` codes written, by whom.

    A word outside of the image, or of a pixel past the end of a row, is not read. Of weights and scales: beats read and
    written, where a word is read in one cycle, all its beats at once, or those that hold what is wanted. ``beats_in`` includes those of the commands themselves.
    """

    operand_reads: int = 0
    """by the MAC array, a word per row and step"""
    channel_reads: int = 0
    """by the channel unit, a word per tap"""
    residual_reads: int = 0
    """by the output stage, the whole word for each part that it writes"""
    store_reads: int = 0
    result_writes: int = 0
    load_writes: int = 0
    array_weight_reads: int = 0
    """whole words, for all columns"""
    depthwise_weight_reads: int = 0
    """the first beats of words, which hold one weight per channel"""
    weight_writes: int = 0
    scale_reads: int = 0
    """for every cycle of the drain, those included in which nothing is written"""
    scale_writes: int = 0
    beats_in: int = 0
    beats_out: int = 0
    mask_reads: int = 0
    """of DRQ's mask memory, a word with each word of operands; the machine has no counters for masks"""
    mask_writes: int = 0
    """parts of ``outputs`` bits; the predictor's sums are read and written with each part of a result besides"""

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

    @property
    def activation_reads(self) -> int:
        return self.operand_reads + self.channel_reads + self.residual_reads + self.store_reads

    @property
    def weight_reads(self) -> int:
        return self.array_weight_reads + self.depthwise_weight_reads

    @property
    def activation_writes(self) -> int:
        return self.result_writes + self.load_writes

    def counters(self) -> dict[str, int]:
        """What the registers of these names show: 32 bits."""
        return {name: getattr(self, name) & 0xFFFFFFFF for name in TRAFFIC}


def _taps(out: int, stride: int, kernel: int, pad: int, size: int) -> int:
    """Of ``out`` windows along one axis, the taps that lie inside of ``size``."""
    at = np.arange(out)[:, None] * stride - pad + np.arange(kernel)
    return int(((at >= 0) & (at < size)).sum())


def layer_traffic(config: Config, layer: Layer) -> Traffic:
    """What a layer moves while it runs; its command is not in it."""
    timing, pixels = cycles.layer_cycles(config, layer), layer.out_h * layer.out_w
    conv, chunks = layer.kind is Kind.CONV, -(-layer.out_channels // config.outputs)
    inside = (_taps(layer.out_h, layer.stride_h, layer.kernel_h, layer.pad_top, layer.in_h)
              * _taps(layer.out_w, layer.stride_w, layer.kernel_w, layer.pad_left, layer.in_w))
    blocks = -(-layer.out_channels // (config.block(layer.w4) if conv else config.word))
    masked, predict = (getattr(layer, name, False) for name in ("masked", "predict"))
    regions = ((layer.out_h - 1 >> layer.region_h) + 1) * ((layer.out_w - 1 >> layer.region_w) + 1) if predict else 0
    return Traffic(
        operand_reads=blocks * layer.in_words * inside if conv else 0,
        channel_reads=0 if conv else blocks * inside,
        residual_reads=pixels * chunks if layer.residual else 0,
        result_writes=pixels * chunks,
        array_weight_reads=timing.tiles * timing.steps * config.weight_beats if conv else 0,
        depthwise_weight_reads=timing.tiles * timing.steps * config.depthwise_beats if layer.kind is Kind.DEPTHWISE else 0,
        scale_reads=timing.tiles * timing.drain * config.scale_beats,
        mask_reads=blocks * layer.in_words * inside if conv and masked else 0,
        mask_writes=regions * chunks)


def command_traffic(config: Config, command: Command) -> Traffic:
    """What a command moves, its own beats included."""
    match command:
        case Layer():
            return Traffic(beats_in=header_beats(config, Opcode.LAYER)) + layer_traffic(config, command)
        case Store():
            return Traffic(beats_in=header_beats(config, Opcode.STORE), store_reads=command.count, beats_out=command.count)
        case End():
            return Traffic(beats_in=header_beats(config, Opcode.END))
        case Load():
            words = command.data.shape[-2]
            beats = words * beats_per_word(config, command.opcode)
            written = {Opcode.LOAD_ACTIVATIONS: {"load_writes": words * config.word // config.outputs},
                       Opcode.LOAD_WEIGHTS: {"weight_writes": beats}, Opcode.LOAD_SCALES: {"scale_writes": beats}}[command.opcode]
            return Traffic(beats_in=header_beats(config, command.opcode) + beats, **written)


def program_traffic(config: Config, commands: list[Command]) -> Traffic:
    """All that a program moves."""
    return sum((command_traffic(config, command) for command in commands), Traffic())


def shares(config: Config, commands: list[Command]) -> list[Traffic]:
    """A program's traffic by layer: loads belong to the layer that follows them, all else to the one before. None without a layer."""
    found, ahead = [], Traffic()
    for command in commands:
        moved = command_traffic(config, command)
        if isinstance(command, Layer):
            found.append(ahead + moved)
            ahead = Traffic()
        elif isinstance(command, Load) or not found:
            ahead += moved
        else:
            found[-1] += moved
    return [*found[:-1], found[-1] + ahead] if found else []


def moved_bits(config: Config, traffic: Traffic) -> dict[str, tuple[int, int]]:
    """(bits read, bits written) of each memory, and (in, out) of the streams, which is what a DRAM beside the chip sees."""
    c = config
    return {
        "activations": (traffic.activation_reads * c.stream_bits, traffic.activation_writes * 8 * c.outputs),
        "weights": (traffic.array_weight_reads // c.weight_beats * c.weight_bits + traffic.depthwise_weight_reads * c.stream_bits,
                    traffic.weight_writes // c.weight_beats * c.weight_bits),
        "scales": (traffic.scale_reads // c.scale_beats * c.scale_word_bits, traffic.scale_writes // c.scale_beats * c.scale_word_bits),
        "dram": (traffic.beats_in * c.stream_bits, traffic.beats_out * c.stream_bits),
        **({"masks": (traffic.mask_reads * c.word, traffic.mask_writes * c.outputs)} if c.array == "drq" else {}),
    }
