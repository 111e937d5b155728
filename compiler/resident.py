"""A run of layers whose tensors all stay on the chip, as one pass: loaded once, stored once, copied where the halves demand it."""

from dataclasses import replace

import numpy as np

from compiler import memory
from compiler.layout import tensor_words, whole
from compiler.passes import Deliver, Fetch, Job, Pass, weave
from compiler.quantized import QuantizedLayer
from compiler.residency import parts_of_all
from compiler.tile import whole_layer
from sdp.config import Config
from sdp.program import Kind

Layers = tuple[QuantizedLayer, ...]
COPY = ".copy"
"""What the name of a layer ends with that copies another's residual."""


def copy_of(layer: QuantizedLayer) -> tuple[QuantizedLayer, QuantizedLayer]:
    """A layer that copies the residual of ``layer``, code by code, and ``layer`` adding the copy."""
    channels, scale = layer.out_shape[2], layer.residual_multiplier / 2**layer.shift * layer.out_scale
    copy = QuantizedLayer(
        name=layer.name + COPY, kind=Kind.SUM, input=layer.residual, in_shape=layer.out_shape, out_shape=layer.out_shape,
        # Twice the code, halved: no rounding, whatever the sign.
        bias=np.zeros(channels, dtype=np.int64), multiplier=np.full(channels, 2, dtype=np.int64), shift=1, in_signed=layer.residual_signed,
        clamp=(-128, 127) if layer.residual_signed else (0, 255), in_scale=scale, out_scale=scale)
    return copy, replace(layer, residual=copy.name)


def with_copies(layers: Layers, names: set[str]) -> Layers:
    """The layers, with the residuals of those named copied right before them."""
    return tuple(new for layer in layers for new in (copy_of(layer) if layer.name in names else (layer,)))


def sources(layers: Layers) -> list[str]:
    """Tensors that the layers read and none of them makes."""
    made = {layer.name for layer in layers}
    read = (name for layer in layers for name in (layer.input, layer.residual) if name is not None)
    return [name for name in dict.fromkeys(read) if name not in made]


def allocate(config: Config, layers: Layers) -> dict[str, memory.Place]:
    """Places of all tensors; those from the host come right before the first layer that reads them."""
    shapes, steps, there = {}, [], {layer.name for layer in layers}
    for layer in layers:
        shapes |= {layer.input: layer.in_shape, layer.name: layer.out_shape}
        if layer.residual is not None:
            shapes[layer.residual] = layer.out_shape
        for name in (layer.input, layer.residual):
            if name is not None and name not in there:
                there.add(name)
                steps.append(memory.Step(output=name))
        steps.append(memory.Step(output=layer.name, input=layer.input, residual=layer.residual))
    return memory.allocate(steps, {name: tensor_words(config, shape) for name, shape in shapes.items()}, config.activation_words)


def place(config: Config, layers: Layers) -> tuple[Layers, dict[str, memory.Place]]:
    """Layers, some with a copy of their residual before them, and the places of all tensors.

    Raises
    ------
    AllocationError
        Neither no copy, nor any one, nor a copy of every residual makes them fit.
    """
    residuals = [layer.name for layer in layers if layer.residual is not None]
    always = {layer.name for layer in layers if layer.residual == layer.input}
    first = None
    for more in (set(), *({name} for name in residuals), set(residuals)):
        tried = with_copies(layers, always | more)
        try:
            return tried, allocate(config, tried)
        except memory.AllocationError as error:
            first = first or error
            if error.hopeless:
                break
    raise first


def make(config: Config, layers: Layers, kept: set[str]) -> tuple[Layers, Pass]:
    """(layers, with copies where needed, pass); the outputs named ``kept`` go to the host, the others only where all are traced.

    Raises
    ------
    AllocationError
        The tensors do not fit.
    NetworkError
        The weights of a layer do not, or its reduction is too long.
    """
    layers, places = place(config, layers)
    bases = {name: where.base for name, where in places.items()}
    jobs, there = [], {layer.name for layer in layers}
    for part in parts_of_all(config, layers):
        layer, fetches, delivers = part.layer, [], ()
        for name, shape in ((layer.input, layer.in_shape), (layer.residual, layer.out_shape)):
            if name is not None and name not in there:
                there.add(name)
                fetches.append(Fetch(whole(config, name, shape), bases[name]))
        if part.last:
            delivers = (Deliver(whole(config, layer.name, layer.out_shape), bases[layer.name], layer.out_shape[2], layer.name not in kept),)
        jobs.append(Job(part, whole_layer(config, part, bases), tuple(fetches), delivers))
    name = layers[0].name if len(layers) == 1 else f"{layers[0].name} ... {layers[-1].name}"
    return layers, Pass(f"{name}: {len(layers)} on the chip", config, weave(config, jobs))
