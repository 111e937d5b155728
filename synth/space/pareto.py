"""Pareto fronts: which points no other one beats in everything, and how far from them the others are. Every objective is to be small."""

from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """``a`` is nowhere worse than ``b`` and somewhere better."""
    return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that none dominates, in the order of the first objective; equal points are in it together.

    Whatever dominates a point comes before it in lexicographic order, and is on the front or behind one that is: the front so far decides.
    """
    found: list[int] = []
    for at in sorted(range(len(points)), key=lambda n: tuple(points[n])):
        if not any(dominates(points[other], points[at]) for other in found):
            found.append(at)
    return found


def excess(point: Point, points: Sequence[Point]) -> float:
    """The factor by which all objectives of ``point``, which are positive, must shrink for it to be on the front; 1: it is."""
    return max([1.0, *(min(x / y for x, y in zip(point, other)) for other in points if dominates(other, point))])
