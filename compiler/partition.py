"""Which layers share a pass: dynamic programming over where one ends and the next begins, by exact cycles, loads and stores included."""

from compiler import fusion, resident, tiling
from compiler.memory import AllocationError
from compiler.network import NetworkError
from compiler.passes import Pass
from compiler.resident import Layers
from sdp.config import Config


def make(config: Config, layers: Layers) -> tuple[Layers, tuple[Pass, ...]]:
    """Layers, with the copies that they need, and passes: runs of layers on the chip, fused layers in tiles, single layers in tiles.

    Raises
    ------
    NetworkError
        A layer fits in no way.
    """
    count = len(layers)
    best: list[tuple[int, Layers, tuple[Pass, ...]] | None] = [(0, (), ()), *[None] * count]
    grows, refused = [True] * count, None
    for stop in range(1, count + 1):
        kept = set(resident.sources(layers[stop:])) | {layers[-1].name}

        def offer(start, made, new):
            total = best[start][0] + new.cycles
            if best[stop] is None or total < best[stop][0]:
                best[stop] = total, best[start][1] + made, (*best[start][2], new)

        for start in (start for start in range(stop) if best[start]):
            try:
                if grows[start]:
                    offer(start, *resident.make(config, layers[start:stop], kept))
            except AllocationError:
                grows[start] = False  # with more layers it fits even less
        try:
            if best[stop - 1]:
                offer(stop - 1, layers[stop - 1 : stop], tiling.make(config, layers[stop - 1]))
        except NetworkError as error:
            refused = refused or error
        for start in (start for start in range(max(0, stop - fusion.LONGEST), stop - 1) if best[start] and best[stop]):
            new = fusion.make(config, layers[start:stop], kept, best[stop][0] - best[start][0])
            if new:
                offer(start, layers[start:stop], new)
    if best[-1] is None:
        raise refused
    return best[-1][1:]
