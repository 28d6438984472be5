"""Draw arrows: a way and its head, which is a shape of its own, so that no drawing needs an ID."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import hypot

from saga._core.drawing.marks import Joined, Mark, Point, Way

LENGTH = 8.0
HALF = 3.6


def arrow_marks(points: Sequence[Point], name: str) -> Iterator[Mark]:
    """Yield a curved arrow through points that lie above each other, ends upright."""
    *before, end = points
    up = end[1] < before[-1][1]
    tip = (end[0], end[1] + (LENGTH if up else -LENGTH))
    yield Way(name=name, points=(*before, tip), joined=Joined.CURVED)
    yield arrow_head(tip, end, name)


def straight_marks(begin: Point, end: Point, name: str) -> Iterator[Mark]:
    """Yield a straight arrow."""
    length = hypot(end[0] - begin[0], end[1] - begin[1]) or 1.0
    share = max(length - LENGTH, 0.0) / length
    tip = (begin[0] + (end[0] - begin[0]) * share, begin[1] + (end[1] - begin[1]) * share)
    yield Way(name=name, points=(begin, tip))
    yield arrow_head(tip, end, name)


def arrow_head(tail: Point, tip: Point, name: str) -> Way:
    """Return a head from the end of a way to its tip; its colour is that of the way."""
    length = hypot(tip[0] - tail[0], tip[1] - tail[1]) or 1.0
    aside_x, aside_y = (tail[1] - tip[1]) / length * HALF, (tip[0] - tail[0]) / length * HALF
    kept = [each for each in name.split() if each in ("sg-back", "sg-command", "sg-no")]
    return Way(
        name=" ".join(("sg-head", *kept)),
        points=(tip, (tail[0] + aside_x, tail[1] + aside_y), (tail[0] - aside_x, tail[1] - aside_y)),
        joined=Joined.OUTLINE,
    )
