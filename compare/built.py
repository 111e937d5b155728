"""What was chosen, on the machines that were built: exact cycles and everything that moves, layer by layer.

Every method has a machine of the same shell: as many bits of memory and multipliers worth as many nibble products per cycle as SDP's.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from compare import masked
from compare.drq import masks
from compare.static import StaticLayer
from compiler import schedule
from compiler.arithmetic import Arithmetic
from compiler.network import NetworkError
from compiler.quantized import QuantizedLayer, QuantizedNetwork
from golden import drq_array
from golden.cycles import layer_cycles
from golden.weights import allowed
from sdp.config import CONFIGS, Config
from sdp.program import Command, Kind, Layer
from sim.flow import layer_names

MACHINES = {"sdp": "small", "static": "int4-small", "int8": "int8-small", "int16": "int16-small", "drq": "drq-small"}
"""Configurations by method."""
IMAGES = 16
"""That cycles are counted on where they depend on data."""


@dataclass(frozen=True, eq=False)
class Built:
    """One inference. ``cycles``: of each layer in its order, float (mean over images); ``layers``: their commands; ``programs``: of a frame; ``setup``:
    loaded once for all of them."""

    config: Config
    names: list[str]
    layers: list[Layer]
    cycles: np.ndarray
    programs: list[list[Command]]
    setup: list[Command]

    @property
    def total(self) -> float:
        return float(self.cycles.sum())


def machine(method: str, config: Config | None = None) -> Config:
    """Of a method; ``config``: that of SDP, if it is another one."""
    return config if config is not None and method == "sdp" else CONFIGS[MACHINES[method]]


def plain(layer: QuantizedLayer, config: Config) -> QuantizedLayer:
    """``layer`` as the machine of ``config`` runs it: its budget and weight mode. What a machine has no datapath for (the rounding of a tensor that
    ``static`` reads in four bits and keeps in eight, generous there) takes no time."""
    if layer.kind is not Kind.CONV or config.array_kind.terms:
        return layer
    budget, w4 = config.group, False
    if isinstance(layer, StaticLayer) and config.array == "int4":
        budget, w4 = config.group * layer.mode[0] // 4, layer.mode[1] == 4
    values = allowed(config, w4)
    made = {field.name: getattr(layer, field.name) for field in fields(QuantizedLayer)}
    return QuantizedLayer(**made | {"budget": budget, "w4": w4, "weights": np.clip(layer.weights, values[0], values[-1]).astype(np.int16)})


def compiled_for(network: QuantizedNetwork, config: Config) -> schedule.Compiled:
    """The network for the machine of ``config``, with DRQ's masks if it has them; thresholds as :func:`compare.masked.unified` leaves them."""
    compiled = schedule.compile(replace(network, layers=tuple(plain(layer, config) for layer in network.layers)), config)
    return masked.add(compiled, network) if config.array == "drq" else compiled


def build(arithmetic: Arithmetic, network: QuantizedNetwork, config: Config, images: np.ndarray) -> Built:
    """``network`` on the machine of ``config``; ``images`` (n, h, w, c) decide about the cycles of DRQ alone."""
    network, sensitive = masked.unified(network), {}
    try:
        compiled = compiled_for(network, config)
    except NetworkError:
        # Regions of a pixel take a mask per code, more than the machine's mask memory: generously for nothing.
        compiled = schedule.compile(replace(network, layers=tuple(plain(layer, config) for layer in network.layers)), config)
    programs = compiled.commands()
    if config.array == "drq":
        tensors = arithmetic.run(network, images[:IMAGES])
        exact = {layer.name for layer in network.layers if not getattr(layer, "threshold", 0)}
        sensitive = {name: mask for name, mask in masks(network, tensors).items() if name not in exact}
    layers = [command for program in programs for command in program if isinstance(command, Layer)]
    names = layer_names(compiled)
    cycles = [_cycles(config, layer, sensitive.get(name)) for name, layer in zip(names, layers, strict=True)]
    return Built(config, names, layers, np.array(cycles), programs, compiled.setup())


def _cycles(config: Config, layer: Layer, sensitive: np.ndarray | None) -> float:
    if config.array == "drq" and layer.kind is Kind.CONV:
        return float(drq_array.layer_cycles(config, layer, sensitive).total.mean())
    return float(layer_cycles(config, layer).total)
