"""Map times to pixels: evenly where something happens, and a break of fixed width where nothing does for long."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise

BREAK = 78.0
"""Pixels of a stretch of time that is left out, enough for its length in words."""
IDLE = 8.0
"""A stretch is left out when it is so many times as long as all shorter ones together."""
LEAST = timedelta(seconds=1)
"""A shorter stretch is never left out."""
APART = 84.0
"""The least pixels between two labels of the axis."""
_NICE = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Be the time between two moments and the pixels it takes; `left_out` says that it is a break."""

    begin: datetime
    end: datetime
    x: float
    width: float
    left_out: bool

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return (self.end - self.begin).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Be one mark of the axis: where, and how many seconds after the beginning of what is shown together.

    The `first` behind a break says how many seconds after the beginning of all.
    """

    x: float
    seconds: float
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Map moments to x; outside of its stretches it stops at the ends."""

    x: float
    width: float
    stretches: tuple[Stretch, ...]

    def at(self, moment: datetime) -> float:
        """Return the x of a moment; a later one is never further left."""
        if not self.stretches or moment <= self.stretches[0].begin:
            return self.x
        place = bisect_right(self.stretches, moment, key=lambda stretch: stretch.begin) - 1
        stretch = self.stretches[place]
        share = min((moment - stretch.begin).total_seconds() / stretch.seconds, 1.0)
        return min(stretch.x + share * stretch.width, self.x + self.width)

    def ticks(self) -> tuple[Tick, ...]:
        """Return marks at round times, far enough apart to be labelled; behind a break they count from there anew."""
        parts = [list(part) for left_out, part in groupby(self.stretches, lambda s: s.left_out) if not left_out]
        if not parts:
            return (Tick(x=self.x, seconds=0.0, first=True),)
        begin = self.stretches[0].begin
        shown = [stretch for part in parts for stretch in part]
        step = _step(sum(s.seconds for s in shown) / max(sum(s.width for s in shown), 1.0) * APART)
        found: list[Tick] = []
        for part in parts:
            first, seconds = part[0], sum(s.seconds for s in part)
            pace = sum(s.width for s in part) / seconds
            for number in range(int(seconds / step) + 1):
                x = first.x + number * step * pace
                since = (first.begin - begin).total_seconds() if not number else number * step
                if not found or x - found[-1].x >= APART:
                    found.append(Tick(x=x, seconds=since, first=not number))
        return tuple(found)


def _step(least: float) -> float:
    """Return the smallest round number of seconds that is at least `least`."""
    scale = 1e-6
    while scale < 1:
        for round_ in (1, 2, 5):
            if scale * round_ >= least:
                return scale * round_
        scale *= 10
    return next((nice for nice in _NICE if nice >= least), -(-least // 86400.0) * 86400.0)


def axis(moments: Iterable[datetime], x: float, width: float) -> Axis:
    """Return the axis over all moments at which something happens, from `x` and `width` pixels wide."""
    points = sorted(set(moments))
    gaps = list(pairwise(points))
    left_out = _left_out(gaps)
    most = int(width * 0.6 // BREAK)
    left_out = frozenset(sorted(left_out, key=lambda gap: (gap[0] - gap[1], gap[0]))[:most])
    shown = sum((end - begin).total_seconds() for begin, end in gaps if (begin, end) not in left_out)
    room = width - BREAK * len(left_out)
    stretches: list[Stretch] = []
    place = x
    for begin, end in gaps:
        broken = (begin, end) in left_out
        pixels = BREAK if broken else room * (end - begin).total_seconds() / shown
        stretches.append(Stretch(begin=begin, end=end, x=place, width=pixels, left_out=broken))
        place += pixels
    return Axis(x=x, width=width, stretches=tuple(stretches))


def _left_out(gaps: list[tuple[datetime, datetime]]) -> frozenset[tuple[datetime, datetime]]:
    """Return the gaps that are long against everything shorter; all that is shorter than those is shown."""
    by_length = sorted(gaps, key=lambda gap: gap[1] - gap[0])
    shorter = timedelta()
    for number, (begin, end) in enumerate(by_length):
        if number and end - begin >= LEAST and end - begin > IDLE * shorter:
            return frozenset(by_length[number:])
        shorter += end - begin
    return frozenset()
