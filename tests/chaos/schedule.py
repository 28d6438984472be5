"""Draw from a seed what dies when; the same seed always gives the same schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.world import COORDINATORS

ALL_COORDINATORS = 0.05
"""The share of kills that take every coordinator at once."""
DOWN_SECONDS = (0.0, 3.0)
LONG = 0.2
LONG_SECONDS = (5.0, 9.0)
"""A fifth of the dead stay away for longer than a saga's timeout: what was on its way comes after the close."""
SERVER_DOWN_SECONDS = (0.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Kill, so long after the kill before, the first of `wanted` that is alive, or all of `together`."""

    after_seconds: float
    wanted: tuple[str, ...]
    together: tuple[str, ...]
    down_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Crash a server at that time of the chaos, and start it again."""

    at_seconds: float
    down_seconds: float


def draw_kills(names: Sequence[str], count: int, gap_seconds: float, rng: Random) -> tuple[Kill, ...]:
    """Return `count` kills; each takes at least one process."""
    return tuple(
        Kill(
            after_seconds=gap_seconds * rng.uniform(0.4, 1.6),
            wanted=tuple(rng.sample(sorted(names), k=len(names))),
            together=COORDINATORS if rng.random() < ALL_COORDINATORS else (),
            down_seconds=rng.uniform(*(LONG_SECONDS if rng.random() < LONG else DOWN_SECONDS)),
        )
        for _ in range(count)
    )


def draw_crashes(count: int, seconds: float, rng: Random) -> tuple[Crash, ...]:
    """Return `count` crashes, spread over the chaos."""
    return tuple(
        Crash(
            at_seconds=seconds * (number + rng.uniform(0.3, 0.9)) / count,
            down_seconds=rng.uniform(*SERVER_DOWN_SECONDS),
        )
        for number in range(count)
    )
