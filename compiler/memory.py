"""Where tensors lie in activation memory: no two live ones overlap, a residual lies in the other half than its layer's input.

Each tensor lies within one half, so that a layer reads input and residual in the same cycle. An output may take the place of the
residual that it consumes, word by word.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from compiler.network import NetworkError

ATTEMPTS = 2_000
"""Placements tried before the search for one that fits is given up."""


class AllocationError(NetworkError):
    """Activations that do not fit; the message names the tensor and the sizes. ``hopeless``: one alone is too large for a half."""

    def __init__(self, message: str, hopeless: bool = False):
        super().__init__(message)
        self.hopeless = hopeless


@dataclass(frozen=True, kw_only=True)
class Step:
    """A layer as the allocator sees it: names of tensors; without an input it is a load."""

    output: str
    input: str | None = None
    residual: str | None = None


@dataclass(frozen=True)
class Place:
    base: int
    words: int

    @property
    def end(self) -> int:
        return self.base + self.words


def last_uses(steps: list[Step]) -> dict[str, int]:
    """Index of the last step that reads each tensor; the final output lives on to the end."""
    uses = {source: at for at, step in enumerate(steps) for source in (step.input, step.residual) if source is not None}
    return uses | {steps[-1].output: len(steps)}


def allocate(steps: list[Step], words: dict[str, int], depth: int) -> dict[str, Place]:
    """Base addresses of all tensors.

    Parameters
    ----------
    steps : loads and layers in order
    words : size of every tensor, a multiple of ``ports``
    depth : words of the activation memory, both halves

    Raises
    ------
    AllocationError
        Naming the layer that no placement was found for.
    """
    half, uses = depth // 2, last_uses(steps)
    apart = {frozenset((step.input, step.residual)) for step in steps if step.residual is not None}
    for pair in apart:
        if len(pair) == 1:
            raise AllocationError(f"a layer reads {next(iter(pair))!r} as input and as residual, "
                                  "which must lie in different halves of activation memory")
    order = [step.output for step in steps]
    for name in order:
        if words[name] > half:
            raise AllocationError(f"tensor {name!r} needs {words[name]} words of activation memory, each of its halves has {half}",
                                  hopeless=True)
    deepest, attempts = 0, 0

    def places(at: int, name: str, placed: dict[str, Place]) -> Iterator[Place]:
        """What is allowed for the output of step ``at``, the best first."""
        live = [place for other, place in placed.items() if uses.get(other, -1) >= at]
        residual = steps[at].residual
        dies = residual is not None and uses[residual] == at and words[residual] == words[name]
        if dies and permitted(name, placed[residual], placed):
            yield placed[residual]
        for upper in (0, 1):
            at_word = half * upper
            # First fit: below, between and above of what lives in this half.
            for place in sorted((p for p in live if p.base // half == upper), key=lambda p: p.base):
                if place.base - at_word >= words[name]:
                    break
                at_word = max(at_word, place.end)
            place = Place(at_word, words[name])
            if place.end <= half * (upper + 1) and permitted(name, place, placed):
                yield place

    def permitted(name: str, place: Place, placed: dict[str, Place]) -> bool:
        return all(placed[other].base // half != place.base // half for pair in apart if name in pair
                   for other in pair - {name} if other in placed)

    def search(index: int, placed: dict[str, Place]) -> dict[str, Place] | None:
        nonlocal deepest, attempts
        if index == len(order):
            return placed
        deepest, attempts = max(deepest, index), attempts + 1
        for place in places(index, order[index], placed):
            found = search(index + 1, placed | {order[index]: place}) if attempts < ATTEMPTS else None
            if found is not None:
                return found
        return None

    found = search(0, {})
    if found is None:
        name = order[deepest]
        live = ", ".join(f"{other!r} ({words[other]})" for other in order[:deepest] if uses.get(other, -1) >= deepest)
        raise AllocationError(f"tensor {name!r} needs {words[name]} words of activation memory beside {live or 'nothing'}; "
                              f"each of its halves has {half}")
    return found
