"""Gather what is measured in a batch, so that telling it costs little; and how long a reader has been behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saga._core.metrics import Labels, Metric

MOST_VALUES = 8
"""How many values of a histogram are told of one batch: each costs as much as a quarter of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Be one value of a gauge."""

    metric: Metric
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Be how many rows of a kind there are, and how old the oldest is in seconds; `name` says whose, `kind` which."""

    name: str
    kind: str = ""
    rows: int
    age_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReading:
    """Be what one query has found in a database, by service: `active` are open sagas, by saga and phase."""

    outbox: tuple[Count, ...] = ()
    waiting: tuple[Count, ...] = ()
    dead: tuple[Count, ...] = ()
    calls: tuple[Count, ...] = ()
    active: tuple[Count, ...] = ()


def thinned(values: Sequence[float], most: int = MOST_VALUES) -> Sequence[float]:
    """Return at most `most` values that are spread as all of them are: the least, the greatest, and between."""
    if len(values) <= most:
        return values
    ordered = sorted(values)
    last = len(ordered) - 1
    return [ordered[round(place * last / (most - 1))] for place in range(most)]


@dataclass(slots=True, kw_only=True)
class Behind:
    """Find out how long a reader has been behind, from where each partition ended at earlier looks.

    What lay behind the position at some look has lain there since then at least; no message has to be read for that.
    """

    most_looks: int = 64
    _looks: dict[tuple[str, int], list[tuple[float, int]]] = field(
        default_factory=dict[tuple[str, int], list[tuple[float, int]]], init=False
    )

    def look(
        self, now: float, ends: Mapping[tuple[str, int], int], positions: Mapping[tuple[str, int], int]
    ) -> tuple[int, float]:
        """Return how many messages have not been read, and since when the oldest has been known of, in seconds.

        `now` is any clock that goes on; partitions that are not among `ends` any more are forgotten.
        """
        lag, since = 0, now
        kept: dict[tuple[str, int], list[tuple[float, int]]] = {}
        for place, end in ends.items():
            position = positions.get(place)
            if position is None:
                continue
            lag += max(0, end - position)
            looks = [look for look in self._looks.get(place, []) if look[1] > position]
            if end > position and (not looks or looks[-1][1] < end):
                looks.append((now, end))
            if len(looks) > self.most_looks:
                del looks[_least(looks)]
            kept[place] = looks
            if looks:
                since = min(since, looks[0][0])
        self._looks = kept
        return lag, now - since


def _least(looks: Sequence[tuple[float, int]]) -> int:
    """Return the look between two others that are nearest to each other: without it they stay evenly apart."""
    return min(range(1, len(looks) - 1), key=lambda place: looks[place + 1][0] - looks[place - 1][0])
