"""Tensors as words: planes of channel words in activation memory, and the same blocks on the host, so that any box of one is a load."""

from dataclasses import dataclass

import numpy as np

from compiler import packing
from compiler.network import Shape
from golden.term_select import to_signed
from sdp.config import Config

Tensors = dict[str, np.ndarray]
"""What the host holds: uint8 (..., channel words, h, w, codes per word); leading axes are images."""


def plane(config: Config, shape: Shape) -> int:
    """Words from one channel word of a tensor to the next: its pixels, rounded up to a multiple of ``ports``."""
    return -(-shape[0] * shape[1] // config.ports) * config.ports


def tensor_words(config: Config, shape: Shape) -> int:
    return packing.channel_words(config, shape[2]) * plane(config, shape)


def to_blocks(config: Config, codes: np.ndarray) -> np.ndarray:
    """Codes (..., h, w, c) as the host holds them."""
    padded = np.zeros((*codes.shape[:-1], packing.channel_words(config, codes.shape[-1]), config.word), dtype=np.uint8)
    padded.reshape(*codes.shape[:-1], -1)[..., : codes.shape[-1]] = codes.astype(np.int16).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(padded, -2, -4))


def from_blocks(tensor: np.ndarray, channels: int, signed: bool) -> np.ndarray:
    """The inverse of :func:`to_blocks`: int16 (..., h, w, channels)."""
    codes = np.moveaxis(tensor, -4, -2)
    return to_signed(np.ascontiguousarray(codes.reshape(*codes.shape[:-2], -1)[..., :channels]), signed)


def _slice(at: range) -> slice:
    return slice(at.start, at.stop, at.step)


@dataclass(frozen=True)
class Box:
    """Channel words, rows and columns of a tensor. Rows and columns have steps where a strided 1x1 window skips what lies between."""

    tensor: str
    words: range
    rows: range
    columns: range

    @property
    def pixels(self) -> int:
        return len(self.rows) * len(self.columns)

    def plane(self, config: Config) -> int:
        return plane(config, (len(self.rows), len(self.columns), 1))

    def count(self, config: Config) -> int:
        """Words that the box takes in activation memory."""
        return len(self.words) * self.plane(config)

    def _view(self, tensors: Tensors) -> np.ndarray:
        return tensors[self.tensor][..., _slice(self.words), _slice(self.rows), _slice(self.columns), :]

    def read(self, config: Config, tensors: Tensors) -> np.ndarray:
        """The box as it lies in activation memory, uint8 (..., words, codes)."""
        view = self._view(tensors)
        flat = view.reshape(*view.shape[:-3], self.pixels, config.word)
        data = np.zeros((*flat.shape[:-2], self.plane(config), config.word), dtype=np.uint8)
        data[..., : self.pixels, :] = flat
        return data.reshape(*data.shape[:-3], -1, config.word)

    def write(self, tensors: Tensors, data: np.ndarray) -> None:
        """Put what the machine stored, channel word after channel word, into the host's tensor."""
        view = self._view(tensors)
        view[...] = data.reshape(view.shape)


def whole(config: Config, name: str, shape: Shape) -> Box:
    return Box(name, range(packing.channel_words(config, shape[2])), range(shape[0]), range(shape[1]))
