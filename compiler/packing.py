"""Weights and scales of a layer as memory words.

One weight word holds what all columns need for one reduction step. Steps go by kernel row, kernel column and channel word (innermost),
for one block of output channels after the other.
"""

import numpy as np

from compiler.quantized import QuantizedLayer
from golden import output_stage
from golden.weights import pack, split_w8
from sdp.config import Config


def channel_words(config: Config, channels: int) -> int:
    return -(-channels // config.word)


def steps_of(config: Config, layer: QuantizedLayer) -> int:
    """Reduction steps per output, which are the weight words per block."""
    return layer.kernel[0] * layer.kernel[1] * channel_words(config, layer.in_shape[2])


def weight_count(config: Config, layer: QuantizedLayer, channels: int) -> int:
    """Weight words of ``channels`` output channels of ``layer``; 0 for pooling."""
    return 0 if layer.weights is None else steps_of(config, layer) * -(-channels // config.block(layer.w4))


def weight_digits(config: Config, layer: QuantizedLayer, channels: slice) -> tuple[np.ndarray, np.ndarray]:
    """Digits (high, low), int16 (words, columns, lanes * group); zero where there is no channel.

    ``w8``: column ``c`` of a block is its channel ``c``. ``w4``: the low digit is its channel ``c``, the high one ``columns + c``.
    """
    weights = layer.weights[..., channels]
    block = config.block(layer.w4)
    weights = np.pad(weights, ((0, 0), (0, 0), (0, -weights.shape[2] % config.word), (0, -weights.shape[3] % block)))
    steps = steps_of(config, layer)
    by_block = weights.reshape(steps, config.word, -1, block).transpose(2, 0, 3, 1).reshape(-1, block, config.word)
    if layer.w4:
        return by_block[:, config.columns :], by_block[:, : config.columns]
    return split_w8(by_block)


def weight_words(config: Config, layer: QuantizedLayer, channels: slice) -> np.ndarray:
    """Memory words of the weights of some output channels, uint8 (words, bytes per word); none for pooling."""
    if layer.weights is None:
        return np.zeros((0, config.weight_beats * config.word), dtype=np.uint8)
    return pack(config, *weight_digits(config, layer, channels))


def scale_words(config: Config, layer: QuantizedLayer, channels: slice) -> np.ndarray:
    """Memory words of bias and multiplier of some output channels, uint8 (words, bytes per word)."""
    return output_stage.pack_scales(config, layer.bias[channels], layer.multiplier[channels])
