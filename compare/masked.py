"""DRQ's networks on the machine: a tensor has one mask there, with the lowest of its readers' thresholds (the search, generously, has one for each)."""

from dataclasses import replace

from compare.drq import DrqLayer
from compiler import drq_masks
from compiler.network import NetworkError
from compiler.quantized import QuantizedNetwork
from compiler.schedule import Compiled


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


def add(compiled: Compiled, network: QuantizedNetwork) -> Compiled:
    """``compiled``, from the plain layers of ``network``, with its masks. Raises ``NetworkError`` where they have no place, or nothing makes them."""
    wanted = thresholds(network)
    if missing := sorted(wanted.keys() - {layer.name for layer in network.layers}):
        raise NetworkError(f"network {network.name!r}: the input {missing[0]!r} has no layer before it that could predict its mask")
    regions = {layer.region for layer in network.layers if isinstance(layer, DrqLayer)}
    (rows, columns), = regions or {(1, 1)}
    exact = [layer.name for layer in network.layers if not getattr(layer, "threshold", 0)]
    return drq_masks.add(compiled, wanted, (rows.bit_length() - 1, columns.bit_length() - 1), exact)
