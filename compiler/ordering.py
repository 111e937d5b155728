"""Order of the channels: which of them share a group of the selection.

A group keeps a fixed number of terms, however many it has: one whose channels are all active drops terms while its neighbour has empty slots.
Channels may be permuted freely, with the weights that make and read them, which leaves the network what it computes. They are exchanged
between groups as long as that lowers the energy of what is dropped, each channel's weighted by the power of the weights that read it.
"""

import dataclasses

import numpy as np

from compiler.calibration import Calibration
from compiler.importance import classes
from compiler.network import Conv, Network
from golden import term_select

PIXELS = 1024
"""Of each tensor, in which the dropped energy is measured."""
SWEEPS = 4
"""Over all pairs of channels, at most."""


def readers(network: Network) -> dict[str, np.ndarray]:
    """Power of the weights that read each channel, by tensor, where a selection comes in between."""
    found: dict[str, np.ndarray] = {}
    for node in network.nodes:
        if isinstance(node, Conv) and not node.depthwise:
            found[node.input] = found.get(node.input, 0) + np.square(node.weight.astype(np.float64)).sum(axis=(0, 2, 3))
    return found


def dropped(codes: np.ndarray, power: np.ndarray, budget: int, group: int) -> np.ndarray:
    """Weighted energy that the selection drops, (..., groups), from codes (..., pixels, channels) and ``power`` (..., channels)."""
    missing = (codes - term_select.select(codes, budget, group)[0]).astype(np.float32)
    energy = np.square(missing).sum(axis=-2) * power
    return energy.reshape(*energy.shape[:-1], -1, group).sum(axis=-1)


def exchange(tensors: list[tuple[np.ndarray, np.ndarray]], budget: int, group: int) -> np.ndarray:
    """The order of channels, found by exchanging pairs: the same input, the same order.

    ``tensors``: codes int16 (pixels, channels) and power (channels,) of all tensors that share the order.
    """
    channels = tensors[0][0].shape[1]
    whole = -(-channels // group) * group
    padded = [(np.pad(codes, ((0, 0), (0, whole - channels))), np.pad(power, (0, whole - channels))) for codes, power in tensors]
    order = np.arange(whole)

    def energy(at: np.ndarray) -> np.ndarray:
        """Of candidates ``at`` (n, places), places being whole groups: (n, groups)."""
        return sum(dropped(np.ascontiguousarray(codes.T[at].transpose(0, 2, 1)), power[at], budget, group) for codes, power in padded)

    now = energy(order[None])[0]
    for _ in range(SWEEPS):
        before = now.sum()
        for one in range(len(now)):
            for other in range(one + 1, len(now)):
                # A channel of one group against each of the other at once. What fills up the last group stays behind the channels.
                for i in range(one * group, (one + 1) * group):
                    places = np.r_[one * group : (one + 1) * group, other * group : (other + 1) * group]
                    partners = range(other * group, min((other + 1) * group, channels))
                    tried = np.tile(order[places], (len(partners), 1))
                    for row, j in zip(tried, partners):
                        row[i - one * group], row[group + j - other * group] = order[j], order[i]
                    found = energy(tried)
                    best = int(found.sum(axis=1).argmin())
                    if found[best].sum() < (now[one] + now[other]) * (1 - 1e-6):
                        order[places], now[[one, other]] = tried[best], found[best]
        if now.sum() > before * 0.99:
            break
    return order[:channels]


def permuted(network: Network, orders: dict[str, np.ndarray]) -> Network:
    """The network with channel ``i`` of a tensor taken from channel ``orders[tensor][i]``; tensors that are not named stay."""

    def moved(node):
        out, source = orders.get(node.name), orders.get(node.input)
        if not isinstance(node, Conv) or out is None and source is None:
            return node
        changes = {}
        if out is not None:
            changes = {name: getattr(node, name)[out] for name in ("weight", "bias", "weight_scale") if getattr(node, name) is not None}
        if source is not None and not node.depthwise:
            changes["weight"] = changes.get("weight", node.weight)[:, source]
        return dataclasses.replace(node, **changes)

    return dataclasses.replace(network, nodes=tuple(moved(node) for node in network.nodes))


def arrange(calibration: Calibration, budget: int, group: int) -> Network:
    """The same function with its channels in an order that suits a selection of ``budget`` terms in every layer."""
    network, of = calibration.network, classes(calibration.network, depthwise=True)
    calibration = calibration.at({node.name: (budget, True) for node in network.nodes}, group)
    powers, shapes, members = readers(network), network.shapes(), {}
    keep = {of[network.input], of[network.nodes[-1].name]}
    for name, power in powers.items():
        if of[name] not in keep and shapes[name][2] > group:
            values = calibration.tensors[name][: calibration.fit].reshape(-1, shapes[name][2])
            values = values[np.sort(np.random.default_rng(len(values)).choice(len(values), min(PIXELS, len(values)), replace=False))]
            codes = np.clip(np.rint(values / calibration.scales[name]), *calibration.limits(name)).astype(np.int16)
            members.setdefault(of[name], []).append((codes, power))
    orders = {name: exchange(tensors, budget, group) for name, tensors in members.items()}
    return permuted(network, {name: orders[of[name]] for name in of if of[name] in orders})
