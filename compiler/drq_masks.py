"""DRQ's masks in a compiled network: which layers predict them, which read them, and where they lie."""

from collections.abc import Collection
from dataclasses import replace

from compiler.network import NetworkError
from compiler.packing import channel_words
from compiler.passes import Compute
from compiler.schedule import Compiled
from sdp.config import Config
from sdp.program import Kind, MaskedLayer


def _readers(layers: list[Compute], name: str, exact: Collection[str]) -> list[int]:
    """Places in the program of the convolutions that take the masks of a tensor."""
    return [at for at, item in enumerate(layers) if item.part.layer.input == name and item.part.layer.kind is Kind.CONV and item.part.layer.name not in exact]


def _place(config: Config, lives: dict[str, tuple[int, int]], words: dict[str, int]) -> dict[str, int]:
    """Base addresses, first fit: no two that live at once overlap. ``lives``: first and last layer command, in order of the first."""
    bases: dict[str, int] = {}
    for name, (begin, _) in lives.items():
        taken = sorted((bases[other], bases[other] + words[other]) for other in bases if lives[other][1] >= begin)
        base = 0
        for start, stop in taken:
            if start - base >= words[name]:
                break
            base = max(base, stop)
        if base + words[name] > config.mask_words:
            raise NetworkError(f"masks of {name!r} need {words[name]} words beside {sum(stop - start for start, stop in taken)} that are in use; "
                               f"the mask memory of {config.name!r} has {config.mask_words}")
        bases[name] = base
    return bases


def add(compiled: Compiled, thresholds: dict[str, int], region: tuple[int, int], exact: Collection[str] = ()) -> Compiled:
    """The network with masks: each tensor of ``thresholds`` is predicted by the layer that makes it, and read with its masks.

    Parameters
    ----------
    thresholds : of tensors by the name of their layer, in codes; what is not named is sensitive as a whole
    region : log2 of a region's (rows, columns)
    exact : layers that take all of their input as sensitive

    Raises
    ------
    NetworkError
        Another array, tensors that leave the chip, or masks that do not fit their memory.
    """
    config = compiled.config
    if config.array != "drq":
        raise NetworkError(f"masks are for drq arrays, {config.name!r} has {config.array!r}")
    if len(compiled.passes) > 1:
        raise NetworkError(f"network {compiled.network.name!r} is {len(compiled.passes)} programs per frame on {config.name!r}; "
                           "masks stay on the chip, so it must be one")
    only = compiled.passes[0]
    shapes, lives, words, layout = {layer.name: layer.out_shape for layer in compiled.network.layers}, {}, {}, {}
    for name in dict.fromkeys(item.part.layer.name for item in only.layers):
        if name in thresholds and (readers := _readers(only.layers, name, exact)):
            down, across = ((size - 1 >> log2) + 1 for size, log2 in zip(shapes[name], region))
            lives[name] = next(at for at, item in enumerate(only.layers) if item.part.layer.name == name), max(readers)
            words[name], layout[name] = channel_words(config, shapes[name][2]) * down * across, (down * across, across)
    bases = _place(config, lives, words)

    def masked(item: Compute) -> Compute:
        layer, fields = item.part.layer, {"region_h": region[0], "region_w": region[1]}
        if layer.name in bases:
            plane, pitch = layout[layer.name]
            fields |= {"predict": True, "predict_base": bases[layer.name] + item.part.start // config.word * plane, "predict_plane": plane,
                       "predict_pitch": pitch, "threshold": thresholds[layer.name]}
        if layer.input in bases and layer.kind is Kind.CONV and layer.name not in exact:
            plane, pitch = layout[layer.input]
            fields |= {"masked": True, "mask_base": bases[layer.input], "mask_plane": plane, "mask_pitch": pitch}
        return replace(item, command=MaskedLayer(**vars(item.command), **fields))

    items = tuple(masked(item) if isinstance(item, Compute) else item for item in only.items)
    return replace(compiled, passes=(replace(only, items=items),))
