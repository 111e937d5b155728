"""Importance: channels scaled so that what the selection sees as large is what matters to the layers that read it.

Channel ``c`` of a tensor is multiplied by a positive factor and the weights that read it are divided by it, which leaves the network what it
computes. The selection compares ``|x_c|`` alone; with the factor ``||w_c||``, the norm of all weights that read the channel, it
compares what the channel adds to the outputs. Tensors that are added or pooled share one factor per channel.
"""

import dataclasses

import numpy as np

from compiler.network import Conv, Network, Node


def classes(network: Network, depthwise: bool = False) -> dict[str, str]:
    """Tensors whose channels go together, by a common name: those that an addition or a pooling connects.

    A depthwise convolution lets a factor per channel pass or not, but an order of channels it keeps: ``depthwise`` says that it connects.
    """
    parent = {network.input: network.input} | {node.name: node.name for node in network.nodes}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in network.nodes:
        for other in (node.residual, None if isinstance(node, Conv) and not (depthwise and node.depthwise) else node.input):
            if other is not None:
                parent[find(other)] = find(node.name)
    return {name: find(name) for name in parent}


def fixed(network: Network) -> set[str]:
    """Classes that stay as they are: input, output, and where an upper bound or scales of the network's own say what a channel's range is."""
    of = classes(network)
    bound = [node.name for node in network.nodes if node.clip is not None]
    own = [node.name for node in network.nodes if isinstance(node, Conv) and node.weight_scale is not None]
    return {of[name] for name in (network.input, network.nodes[-1].name, *bound, *own, *network.codes)}


def norms(network: Network, powers: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Per class: the root of the summed squares of all weights that read each channel, relative to each reader's mean output power if given."""
    of, shapes = classes(network), network.shapes()
    total = {name: np.zeros(shapes[name][2]) for name in of}
    for node in network.nodes:
        if isinstance(node, Conv):
            square = np.square(node.weight.astype(np.float64))
            weigh = 1 if powers is None else 1 / np.maximum(powers[node.name], 1e-30)
            total[of[node.input]] += (square.sum(axis=(1, 2, 3)) if node.depthwise else square.sum(axis=(0, 2, 3))) * weigh
    return {name: np.sqrt(value) for name, value in total.items() if of[name] == name}


def equalize(network: Network, images: np.ndarray, strength: float = 1.0, spread: float = 8.0) -> Network:
    """The same function with channels scaled by importance.

    Parameters
    ----------
    images : calibration images: how much a reader counts is relative to the power of what it yields
    strength : exponent of the factors; 0 leaves the network as it is
    spread : factors reach from ``1 / spread`` to ``spread`` times their mean, so that no channel loses its range to another
    """
    of, keep = classes(network), fixed(network)
    tensors = network.run(images)
    powers = {node.name: float(np.square(tensors[node.name].astype(np.float64)).mean()) for node in network.nodes}
    factors = {}
    for name, norm in norms(network, powers).items():
        used = norm > 0
        if name in keep or not used.any():
            factors[name] = np.ones(len(norm))
            continue
        factor = np.where(used, norm, 1) ** strength
        factor = factor / np.exp(np.log(factor[used]).mean())
        factors[name] = np.where(used, np.clip(factor, 1 / spread, spread), 1.0)

    def scaled(node: Node) -> Node:
        if not isinstance(node, Conv):
            return node
        out, source = factors[of[node.name]], factors[of[node.input]]
        less = source[:, None, None, None] if node.depthwise else source[None, :, None, None]
        return dataclasses.replace(node, weight=(node.weight * out[:, None, None, None] / less).astype(np.float32),
                                   bias=(node.bias * out).astype(np.float32))

    return dataclasses.replace(network, nodes=tuple(scaled(node) for node in network.nodes))
