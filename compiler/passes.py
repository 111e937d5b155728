"""A pass: one program of a frame. What the host feeds it, what it computes, what it gives back to the host.

There is no memory beside the chip but the host's: a tensor that does not stay on the chip is stored by one pass and loaded, box by box,
by later ones. Items hold no data; :meth:`Pass.program` puts in the host's tensors.
"""

from dataclasses import dataclass, replace

import numpy as np

from compiler.layout import Box, Tensors
from compiler.packing import Constants
from compiler.residency import ConstantLoad, Part, sequence
from golden import cycles
from sdp.config import Config
from sdp.program import Command, End, Layer, Load, Opcode, Store, beats_per_word, header_beats


@dataclass(frozen=True)
class Fetch:
    """A box of a tensor from the host to activation memory."""

    box: Box
    address: int


@dataclass(frozen=True)
class Compute:
    part: Part
    command: Layer


@dataclass(frozen=True)
class Deliver:
    """A box from activation memory to the host; ``traced``: only for whom wants every layer's output. ``channels``: of the tensor."""

    box: Box
    address: int
    channels: int
    traced: bool = False

    def commands(self, config: Config) -> list[Store]:
        """One store for planes that follow each other without gaps, but for the last one's fewer codes."""
        stores, step, pixels = [], self.box.plane(config), self.box.pixels
        for at, word in enumerate(self.box.words):
            tail = min(config.word, self.channels - word * config.word)
            before = stores[-1] if stores else None
            if before and before.tail == tail and before.address + before.count == self.address + at * step:
                stores[-1] = replace(before, count=before.count + pixels)
            else:
                stores.append(Store(address=self.address + at * step, count=pixels, tail=tail))
        return stores


Item = Fetch | ConstantLoad | Compute | Deliver


@dataclass(frozen=True)
class Job:
    """A layer command with what must be there before it and what leaves after it."""

    part: Part
    command: Layer
    fetches: tuple[Fetch, ...] = ()
    delivers: tuple[Deliver, ...] = ()


def weave(config: Config, jobs: list[Job]) -> tuple[Item, ...]:
    """The jobs' items in an order that loads constants beside the computation.

    Those of the next job follow the running one's layer command at once; everything else waits for its end.
    """
    loads: list[list[ConstantLoad]] = [[] for _ in jobs]
    bases = []
    for opcode in (Opcode.LOAD_WEIGHTS, Opcode.LOAD_SCALES):
        base, load = sequence(config, opcode, [job.part for job in jobs])
        bases.append(base)
        loads = [before + more for before, more in zip(loads, load)]
    items: list[Item] = []
    for at, job in enumerate(jobs):
        items += job.fetches
        items += loads[0] if not at else []
        items.append(Compute(job.part, replace(job.command, weight_base=bases[0][at], scale_base=bases[1][at])))
        items += loads[at + 1] if at + 1 < len(jobs) else []
        items += job.delivers
    return tuple(items)


@dataclass(frozen=True, eq=False)
class Pass:
    """``name``: what it computes and how, for people."""

    name: str
    config: Config
    items: tuple[Item, ...]

    def _of(self, kind):
        return [item for item in self.items if isinstance(item, kind)]

    @property
    def loads(self) -> list[Fetch]:
        return self._of(Fetch)

    @property
    def layers(self) -> list[Compute]:
        return self._of(Compute)

    def stores(self, trace: bool = False) -> list[Deliver]:
        return [item for item in self._of(Deliver) if trace or not item.traced]

    def program(self, tensors: Tensors, constants: Constants, trace: bool = False) -> list[Command]:
        """The commands, with what the host holds of the tensors that the pass loads."""
        commands: list[Command] = []
        for item in self.items:
            match item:
                case Fetch():
                    commands.append(Load(opcode=Opcode.LOAD_ACTIVATIONS, address=item.address, data=item.box.read(self.config, tensors)))
                case ConstantLoad():
                    commands.append(item.command(constants))
                case Compute():
                    commands.append(item.command)
                case Deliver() if trace or not item.traced:
                    commands += item.commands(self.config)
        return [*commands, End()]

    def collect(self, words: np.ndarray, tensors: Tensors, trace: bool = False) -> None:
        """Put the words of the output stream, uint8 (..., words, codes), into the host's tensors."""
        expected = sum(len(item.box.words) * item.box.pixels for item in self.stores(trace))
        if expected != words.shape[-2]:
            raise ValueError(f"{words.shape[-2]} words of output, expected are {expected}")
        at = 0
        for item in self.stores(trace):
            count = len(item.box.words) * item.box.pixels
            item.box.write(tensors, words[..., at : at + count, :])
            at += count

    @property
    def cycles(self) -> int:
        return timing(self.config, self.items)

    @property
    def traffic(self) -> tuple[int, int]:
        """Beats that enter with activations, weights and scales, and that leave, headers not counted."""
        enter = sum(item.box.count(self.config) for item in self.loads)
        enter += sum(len(item.at) * beats_per_word(self.config, item.opcode) for item in self._of(ConstantLoad))
        return enter, sum(len(item.box.words) * item.box.pixels for item in self.stores())


def timing(config: Config, items) -> int:
    """Cycles of a pass on streams that never wait, as the golden machine counts them, without a look at data."""
    now, idle = cycles.BEGIN + 1, 0

    def header(opcode):
        return header_beats(config, opcode) + cycles.CHECK

    for item in items:
        match item:
            case Fetch():
                now = max(now + header(Opcode.LOAD_ACTIVATIONS), idle) + 1 + item.box.count(config)
            case ConstantLoad():
                now += header(item.opcode)
                now = (max(now, idle) if item.sync else now) + 1 + len(item.at) * beats_per_word(config, item.opcode)
            case Compute():
                now = max(now + header(Opcode.LAYER), idle)
                idle = now + cycles.layer_cycles(config, item.command).total + 1
                now += 1
            case Deliver() if not item.traced:
                for store in item.commands(config):
                    now = max(now + header(Opcode.STORE), idle) + 1 + store.count + cycles.STORE_TAIL
    return max(now + header(Opcode.END), idle)
