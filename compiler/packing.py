"""Weights and scales of a layer as memory words.

One weight word holds what all columns need for one reduction step. Steps go by kernel row, kernel column and channel word (innermost),
for one block of output channels after the other. A depthwise convolution has one word per tap, for one channel word after the other.
"""

import numpy as np

from compiler.quantized import QuantizedLayer
from golden import output_stage
from golden.weights import pack_bytes, pack_slots, slots_of
from sdp.config import Config
from sdp.program import Kind, Opcode


def channel_words(config: Config, channels: int) -> int:
    return -(-channels // config.word)


def steps_of(config: Config, layer: QuantizedLayer) -> int:
    """Reduction steps per output, which are the weight words per block."""
    return layer.kernel[0] * layer.kernel[1] * (channel_words(config, layer.in_shape[2]) if layer.kind is Kind.CONV else 1)


def block_of(config: Config, layer: QuantizedLayer) -> int:
    """Output channels that the unit of this layer computes at once."""
    return config.block(layer.w4) if layer.kind is Kind.CONV else config.word


def weight_count(config: Config, layer: QuantizedLayer, channels: int) -> int:
    """Weight words of ``channels`` output channels of ``layer``; 0 for pooling."""
    return 0 if layer.weights is None else steps_of(config, layer) * -(-channels // block_of(config, layer))


def scale_count(config: Config, channels: int) -> int:
    return -(-channels // config.outputs)


def count(config: Config, opcode: Opcode, layer: QuantizedLayer, channels: int) -> int:
    """Words of weights or scales, as ``opcode`` says."""
    return weight_count(config, layer, channels) if opcode is Opcode.LOAD_WEIGHTS else scale_count(config, channels)


def weight_slots(config: Config, layer: QuantizedLayer, channels: slice) -> np.ndarray:
    """Slots, uint16 (words, columns, lanes * group), as ``golden.weights`` has them; zero where there is no channel."""
    weights = layer.weights[..., channels]
    block = config.block(layer.w4)
    weights = np.pad(weights, ((0, 0), (0, 0), (0, -weights.shape[2] % config.word), (0, -weights.shape[3] % block)))
    by_block = weights.reshape(steps_of(config, layer), config.word, -1, block).transpose(2, 0, 3, 1).reshape(-1, block, config.word)
    return slots_of(config, by_block, layer.w4)


def weight_words(config: Config, layer: QuantizedLayer, channels: slice) -> np.ndarray:
    """Memory words of the weights of some output channels, uint8 (words, bytes per word); none for pooling."""
    if layer.weights is None:
        return np.zeros((0, config.weight_beats * config.word), dtype=np.uint8)
    if layer.kind is Kind.DEPTHWISE:
        weights = layer.weights[..., channels].reshape(steps_of(config, layer), -1)
        weights = np.pad(weights, ((0, 0), (0, -weights.shape[1] % config.word)))
        return pack_bytes(config, weights.reshape(len(weights), -1, config.word).swapaxes(0, 1).reshape(-1, config.word))
    return pack_slots(config, weight_slots(config, layer, channels))


def scale_words(config: Config, layer: QuantizedLayer, channels: slice) -> np.ndarray:
    """Memory words of bias and multiplier of some output channels, uint8 (words, bytes per word)."""
    return output_stage.pack_scales(config, layer.bias[channels], layer.multiplier[channels])


class Constants:
    """Memory words of weights and scales, packed when they are first asked for: a layer in tiles loads the same ones again and again."""

    def __init__(self, config: Config):
        self.config, self._words = config, {}

    def words(self, opcode: Opcode, layer: QuantizedLayer, channels: slice) -> np.ndarray:
        key = opcode, layer, channels.start, channels.stop
        if key not in self._words:
            pack_words = weight_words if opcode is Opcode.LOAD_WEIGHTS else scale_words
            self._words[key] = pack_words(self.config, layer, channels)
        return self._words[key]
