"""Several layers tile by tile: what one makes of a tile the next takes from the chip, and only the last one's output leaves it.

Pays where tensors are large and layers short, a depthwise and a pointwise convolution for one. Tiles are boxes of rows and columns of
the last output, with all channels; halos grow from layer to layer towards the first and are computed anew by each neighbour.
"""

from collections import Counter
from dataclasses import dataclass

from compiler import memory, packing
from compiler.layout import Box, plane
from compiler.passes import Deliver, Fetch, Job, Pass, timing, weave
from compiler.residency import Part, parts_of_all
from compiler.resident import Layers
from compiler.tile import Held, command, reach
from compiler.tiling import OVERHEAD, TIMED, even, ranges
from golden.cycles import layer_cycles
from sdp.config import Config
from sdp.program import Opcode, beats_per_word, memory_words

LONGEST = 4
"""Layers at most: halos grow with every window."""


@dataclass(frozen=True)
class Span:
    """Rows (or columns) of a layer's output in a tile, and of the input that they need."""

    out: range
    inside: range


def spans(layers: Layers, axis: int, out: range) -> tuple[Span, ...] | None:
    """From ``out`` of the last layer back to the first; none where two readers of a tensor want different boxes of it."""
    made = {layer.name for layer in layers}
    wanted, found = {layers[-1].name: out}, []
    for layer in reversed(layers):
        if layer.name not in wanted:
            return None
        here = wanted[layer.name]
        inside = reach(here, layer.stride[axis], layer.kernel[axis], layer.pad[axis], layer.in_shape[axis], layer.input not in made)
        if not inside:
            return None
        for name, need in ((layer.input, inside), (layer.residual, here)):
            if name in made and wanted.setdefault(name, need) != need:
                return None
        found.append(Span(here, inside))
    return tuple(reversed(found))


def tensor_at(layers: Layers, layer, name: str) -> str:
    """What the allocator calls a tensor: those from the host are loaded for each reader."""
    return name if any(name == other.name for other in layers) else f"{name} for {layer.name}"


class Chain:
    """Layers to be fused, the outputs ``kept`` that leave the chip, and what a tile of them costs."""

    def __init__(self, config: Config, layers: Layers, kept: set[str]):
        self.config, self.layers, self.kept, self._commands = config, layers, kept, {}
        self.made = {layer.name for layer in layers}
        self.parts = parts_of_all(config, layers)
        self.steps = []
        for layer in layers:
            at = {name: tensor_at(layers, layer, name) for name in (layer.input, layer.residual) if name is not None}
            self.steps += [memory.Step(output=at[name]) for name in at if name not in self.made]
            residual = at[layer.residual] if layer.residual is not None else None
            self.steps.append(memory.Step(output=layer.name, input=at[layer.input], residual=residual))

    def axis(self, axis: int) -> dict[int, list[tuple[Span, ...]]]:
        """For every size of tiles along an axis, the spans of all of them."""
        size = self.layers[-1].out_shape[axis]
        found = {}
        for step in even(size, self.config.ports if axis else 1):
            every = [spans(self.layers, axis, out) for out in ranges(size, step)]
            if None in every:
                return {}
            found[step] = every
        return found

    def words(self, shapes: list[tuple[tuple[int, int], tuple[int, int]]]) -> dict[str, int]:
        """Words of all tensors for (rows, columns) of (output, input) of every layer."""
        words = {}
        for layer, (out, inside) in zip(self.layers, shapes):
            words[layer.name] = packing.channel_words(self.config, layer.out_shape[2]) * plane(self.config, (*out, 1))
            if layer.input not in self.made:
                count = packing.channel_words(self.config, layer.in_shape[2])
                words[tensor_at(self.layers, layer, layer.input)] = count * plane(self.config, (*inside, 1))
            if layer.residual is not None and layer.residual not in self.made:
                words[tensor_at(self.layers, layer, layer.residual)] = words[layer.name]
        return words

    def compute(self, part: Part, out: tuple[int, int], step: int) -> int:
        """Cycles of a part for (rows, columns); ``step`` of the input's columns."""
        key = part, out, step
        if key not in self._commands:
            box = Box("", range(1 << 12), range(1), range(0, step, step))
            held = Held(box, 0)
            made = command(self.config, part, range(out[0]), range(out[1]), held, held, None)
            self._commands[key] = layer_cycles(self.config, made).total
        return self._commands[key]

    def constants(self) -> tuple[int, bool]:
        """(beats of all weights and scales, whether they stay)."""
        beats, stay = 0, True
        for opcode in (Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES):
            count = sum(packing.count(self.config, opcode, part.layer, part.stop - part.start) for part in self.parts)
            beats += count * beats_per_word(self.config, opcode)
            stay = stay and count <= memory_words(self.config, opcode)
        return beats, stay

    def estimate(self, rows: list[tuple[Span, ...]], columns: list[tuple[Span, ...]], limit: float) -> float:
        """Cycles of all tiles, about; stops counting above ``limit``."""
        def classes(every):
            return Counter(tuple((len(span.out), len(span.inside), span.inside.step) for span in tile) for tile in every)

        beats, stay = self.constants()
        total = beats if stay else 0
        by_column = classes(columns)
        for row, row_count in classes(rows).items():
            for column, column_count in by_column.items():
                shapes = [((r[0], c[0]), (r[1], c[1])) for r, c in zip(row, column)]
                words = self.words(shapes)
                moved = sum(words[name] + OVERHEAD for name in words if name not in self.made or name in self.kept)
                computed = 0
                for layer, (out, _), (*_, step) in zip(self.layers, shapes, column):
                    computed += sum(self.compute(part, out, step) for part in self.parts if part.layer is layer)
                total += row_count * column_count * (moved + (computed if stay else max(computed, beats)))
            if total > limit:
                break
        return total

    def places(self, rows, columns) -> dict[str, memory.Place] | None:
        """Places that hold every tile, or none."""
        def largest(every):
            return [(max(len(t.out) for t in layer), max(len(t.inside) for t in layer)) for layer in zip(*every)]

        shapes = [((r[0], c[0]), (r[1], c[1])) for r, c in zip(largest(rows), largest(columns))]
        words = self.words(shapes)
        if max(words.values()) > self.config.activation_words // 2:
            return None
        try:
            return memory.allocate(self.steps, words, self.config.activation_words)
        except memory.AllocationError:
            return None

    def jobs(self, rows, columns, places: dict[str, memory.Place]) -> list[Job]:
        c, jobs = self.config, []
        for tile in ((row, column) for row in rows for column in columns):
            for layer, row, column in zip(self.layers, *tile):
                in_words, out_words = (range(packing.channel_words(c, shape[2])) for shape in (layer.in_shape, layer.out_shape))
                def held(name, box):
                    return Held(box, places[tensor_at(self.layers, layer, name)].base)

                source = held(layer.input, Box(layer.input, in_words, row.inside, column.inside))
                target = held(layer.name, Box(layer.name, out_words, row.out, column.out))
                residual = held(layer.residual, Box(layer.residual, out_words, row.out, column.out)) if layer.residual is not None else None
                fetches = tuple(Fetch(h.box, h.base) for h in (source, residual) if h is not None and h.box.tensor not in self.made)
                delivers = (Deliver(target.box, target.base, layer.out_shape[2], layer.name not in self.kept),)
                for part in (part for part in self.parts if part.layer is layer):
                    jobs.append(Job(part, command(c, part, row.out, column.out, source, target, residual),
                                    () if part.start else fetches, delivers if part.last else ()))
        return jobs


def make(config: Config, layers: Layers, kept: set[str], limit: int) -> Pass | None:
    """The fastest pass that fuses these layers, if there is one that may take fewer than ``limit`` cycles."""
    if any(layer.residual == layer.input for layer in layers):
        return None
    chain = Chain(config, layers, kept)
    by_row, by_column = chain.axis(0), chain.axis(1)
    ranked = sorted(((chain.estimate(rows, columns, limit), at, across) for at, rows in by_row.items() for across, columns in by_column.items()
                     if chain.places(rows, columns)), key=lambda found: found[0])
    best = None
    for estimate, at, across in ranked[:TIMED]:
        if estimate > limit:
            break
        rows, columns = by_row[at], by_column[across]
        items = weave(config, chain.jobs(rows, columns, chain.places(rows, columns)))
        cycles = timing(config, items)
        if cycles < limit:
            name = f"{layers[0].name} ... {layers[-1].name}: {len(layers)} fused, {len(rows) * len(columns)} tiles of {at}x{across}"
            best, limit = Pass(name, config, items), cycles
    return best
