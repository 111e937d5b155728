"""DRQ's masks in the machine: read with the input of a layer, written with its output; see ``sdp.program.MaskedLayer``."""

import numpy as np

from golden import drq_array, sensitivity_predictor
from golden.hazard import HazardError
from sdp.config import Config
from sdp.program import Kind, MaskedLayer


def _regions(layer: MaskedLayer, h: int, w: int) -> tuple[int, int]:
    """(down, across) of an image."""
    return (h - 1 >> layer.region_h) + 1, (w - 1 >> layer.region_w) + 1


def _addresses(base: int, pitch: int, regions: tuple[int, int]) -> np.ndarray:
    """Of the masks of one channel word, (down, across)."""
    return base + np.arange(regions[0])[:, None] * pitch + np.arange(regions[1])


def check(config: Config, layer: MaskedLayer) -> None:
    """What the hardware does not notice: masks past their memory, which would wrap, or more regions than its predictor can hold."""
    def reach(what, base, plane, pitch, channels, h, w):
        last = base + (-(-channels // config.word) - 1) * plane + int(_addresses(0, pitch, _regions(layer, h, w))[-1, -1])
        if last >= config.mask_words:
            raise HazardError(f"layer {layer.tag!r}: masks of its {what} reach address {last} of {config.mask_words}")
        return range(base, last + 1)

    read = written = range(0)
    if layer.masked and layer.kind is Kind.CONV:
        read = reach("input", layer.mask_base, layer.mask_plane, layer.mask_pitch, layer.in_words * config.word, layer.in_h, layer.in_w)
    if layer.predict:
        written = reach("output", layer.predict_base, layer.predict_plane, layer.predict_pitch, layer.out_channels, layer.out_h, layer.out_w)
        if (across := _regions(layer, layer.out_h, layer.out_w)[1]) > sensitivity_predictor.REGIONS_MAX:
            raise HazardError(f"layer {layer.tag!r}: {across} regions side by side, the predictor holds {sensitivity_predictor.REGIONS_MAX}")
    if read and written and read.start < written.stop and written.start < read.stop:
        raise HazardError(f"layer {layer.tag!r}: masks of its output ({written.start} ... {written.stop - 1}) overlap those of its input "
                          f"({read.start} ... {read.stop - 1})")


def convolve(config: Config, layer: MaskedLayer, image: np.ndarray, memory: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums (n, out_h, out_w, channels), and (cycles, terms, empty slots) of each image, int64 (3, n).

    Parameters
    ----------
    image : codes (n, h, w, channels of all words)
    memory : masks, bool (n, mask_words, word)
    """
    masks = None
    if layer.masked:
        at = _addresses(layer.mask_base, layer.mask_pitch, _regions(layer, layer.in_h, layer.in_w))
        regions = np.concatenate([memory[:, at + word * layer.mask_plane] for word in range(layer.in_words)], axis=-1)
        masks = sensitivity_predictor.spread(regions, layer.region_h, layer.region_w, layer.in_h, layer.in_w)
    timing = drq_array.layer_cycles(config, layer, masks)
    acc = drq_array.accumulate(image, np.ones(image.shape, dtype=bool) if masks is None else masks, weights, (layer.stride_h, layer.stride_w),
                               (layer.pad_top, layer.pad_left), (layer.out_h, layer.out_w))
    return acc, np.stack([np.broadcast_to(part, len(image)) for part in (timing.total, timing.terms, timing.empty)])


def predict(layer: MaskedLayer, codes: np.ndarray, word: int, memory: np.ndarray) -> None:
    """Write the masks of a channel word of the output, codes (n, h, w, up to ``word`` channels), to the memory, bool (n, mask_words, word)."""
    sensitive = sensitivity_predictor.predict(codes, layer.threshold, layer.region_h, layer.region_w)
    at = _addresses(layer.predict_base + word * layer.predict_plane, layer.predict_pitch, sensitive.shape[1:3])
    memory[:, at, : codes.shape[-1]] = sensitive
