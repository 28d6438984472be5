"""Hold what a person sees of everything at once: how many, how old, and what has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from saga._core.breaker import Phase
from saga._core.inspecting import InstanceCount
from saga._core.queues import LetterCount, OutboxState, Problem
from saga._core.running import BreakerState, Consumers
from saga._core.sagas import SagaLine


class Card(StrEnum):
    """Name the parts of a live page that change by themselves."""

    SAGAS = "sagas"
    LETTERS = "letters"
    OUTBOX = "outbox"
    AUDITS = "audits"
    PLANS = "plans"
    BREAKERS = "breakers"
    CONSUMERS = "consumers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Count the sagas that have started and ended within one minute that begins at `at`."""

    at: datetime
    started: int = 0
    completed: int = 0
    compensated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Be the open sagas of a coordinator, and the ones that have been open for longest or are stuck.

    `open` counts every open saga by name, version and phase, `plans` by the hash of its plan.
    """

    open: tuple[InstanceCount, ...] = ()
    plans: Mapping[str, int] = field(default_factory=dict[str, int])
    oldest: tuple[SagaLine, ...] = ()
    stuck: tuple[SagaLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Be the first page: `minutes` are the last sixty, oldest first; a part that did not answer is in `missing`."""

    now: datetime
    census: Census
    minutes: tuple[Minute, ...]
    letters: tuple[LetterCount, ...]
    outboxes: tuple[OutboxState, ...]
    breakers: tuple[BreakerState, ...]
    consumers: Consumers
    missing: tuple[Problem, ...] = ()

    @property
    def by_phase(self) -> Mapping[str, int]:
        """Return how many sagas are open in each phase; ended ones are counted by the minute only."""
        found: dict[str, int] = {}
        for count in self.census.open:
            found[count.phase] = found.get(count.phase, 0) + count.sagas
        return found

    @property
    def open_breakers(self) -> tuple[BreakerState, ...]:
        """Return the dependencies that do not get all of their calls."""
        return tuple(one for one in self.breakers if one.phase is not Phase.CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Hold a number or text for each card that is another one once there is something new to show."""

    marks: Mapping[Card, str] = field(default_factory=dict[Card, str])

    def differing(self, before: Changes | None) -> frozenset[Card]:
        """Return the cards that have changed since `before`; all of them when there is none."""
        return frozenset(card for card, mark in self.marks.items() if before is None or before.marks.get(card) != mark)
