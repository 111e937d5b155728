"""DRQ's networks as programs: which masks are predicted behind which layer, and where they lie in mask memory.

A tensor has one mask on the machine, with the lowest of its readers' thresholds (the search, generously, has one for each reader).
"""

from dataclasses import replace

from compare.drq import DrqLayer
from compare.method import CompareError
from compiler.quantized import QuantizedNetwork
from sdp.config import Config
from sdp.program import Command, Layer, MaskedLayer


def thresholds(network: QuantizedNetwork) -> dict[str, int]:
    """Of the tensors that some layer reads with a mask, in codes."""
    found: dict[str, int] = {}
    for layer in network.layers:
        if isinstance(layer, DrqLayer) and layer.threshold:
            found[layer.input] = min(layer.threshold, found.get(layer.input, layer.threshold))
    return found


def unified(network: QuantizedNetwork) -> QuantizedNetwork:
    """The network as the machine runs it: readers of a tensor share its threshold."""
    shared = thresholds(network)
    return replace(network, layers=tuple(
        replace(layer, threshold=shared[layer.input]) if isinstance(layer, DrqLayer) and layer.threshold else layer for layer in network.layers))


def _log2(pixels: int) -> int:
    return pixels.bit_length() - 1


class _Memory:
    """Words of mask memory, first fit."""

    def __init__(self, config: Config):
        self.config, self.used = config, {}

    def place(self, name: str, words: int) -> int:
        base = 0
        for begin, end in sorted(self.used.values()):
            if base + words <= begin:
                break
            base = max(base, end)
        if base + words > self.config.mask_words:
            raise CompareError(f"tensor {name!r}: its masks take {words} words, {self.config.mask_words - base} of {self.config.mask_words} of "
                               f"{self.config.name!r} are left")
        self.used[name] = base, base + words
        return base

    def free(self, name: str) -> None:
        self.used.pop(name, None)


def masked(config: Config, network: QuantizedNetwork, programs: list[list[Command]]) -> list[list[Command]]:
    """``programs`` of a frame, compiled from the plain layers of ``network`` and with all tensors on the chip, with its masks."""
    wanted, by_name = thresholds(network), {layer.name: layer for layer in network.layers}
    if wanted and len(programs) > 1:
        raise CompareError(f"network {network.name!r} is {len(programs)} programs per frame on {config.name!r}; masks are for those of one")
    last = {layer.input: at for at, layer in enumerate(network.layers) if isinstance(layer, DrqLayer) and layer.threshold}
    if missing := sorted(wanted.keys() - by_name.keys()):
        raise CompareError(f"network {network.name!r}: the input {missing[0]!r} has no layer before it that could predict its mask")
    memory, places, order = _Memory(config), {}, [layer.name for layer in network.layers]
    region = next((layer.region for layer in network.layers if isinstance(layer, DrqLayer)), (1, 1))

    def made(command: Command) -> Command:
        if not isinstance(command, Layer) or command.tag not in by_name:
            return command
        layer, more = by_name[command.tag], {"region_h": _log2(region[0]), "region_w": _log2(region[1])}
        if layer.name in wanted:
            across = -(-command.out_w // region[1])
            plane = across * -(-command.out_h // region[0])
            places[layer.name] = memory.place(layer.name, plane * -(-command.out_channels // config.word)), plane, across
            base, plane, pitch = places[layer.name]
            more |= {"predict": True, "predict_base": base, "predict_plane": plane, "predict_pitch": pitch, "threshold": wanted[layer.name]}
        if isinstance(layer, DrqLayer) and layer.threshold:
            base, plane, pitch = places[layer.input]
            more |= {"masked": True, "mask_base": base, "mask_plane": plane, "mask_pitch": pitch}
        for name in [name for name, at in last.items() if at == order.index(layer.name)]:
            memory.free(name)
        return MaskedLayer(**vars(command) | more)

    return [[made(command) for command in program] for program in programs]
