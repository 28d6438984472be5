"""Forget what nobody can ask for any more, in bites small enough not to be felt."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from outbox.sql import Component
from saga._core.keeping import Aging, Retention
from saga.errors import StoreError
from saga.ports.keeping import Prunable

log = logging.getLogger("saga")

BREATH_SECONDS = 0.1

# Locks before gates: these may say how long they are kept.
_AGING = {
    Component.SHARED: (),
    Component.PARTICIPANT: (
        Aging.RUNS,
        Aging.LOCKS,
        Aging.LOCK_QUEUE,
        Aging.GATES,
        Aging.LETTERS,
        Aging.AUDITS,
        Aging.CAPTURED,
    ),
    Component.COORDINATOR: (Aging.INSTANCES, Aging.PLANS, Aging.LETTERS, Aging.AUDITS, Aging.CAPTURED),
}


def aging_of(component: Component) -> Sequence[Aging]:
    """Return what is deleted by age from the tables of a component."""
    return _AGING[component]


def query_of(component: Component, what: Aging) -> str:
    """Return the name of the query that deletes it; a coordinator's letters are unreadable records of no saga."""
    if component is Component.COORDINATOR and what is Aging.LETTERS:
        return "prune_records"
    return f"prune_{what.value}"


class Pruner:
    """Delete the rows of one store that are older than `retention` says; see there for what stays.

    Several may work on one database: each leaves alone what another has locked.
    """

    def __init__(self, store: Prunable, retention: Retention | None = None) -> None:
        """Prune `store`, once `run` or `prune` is called."""
        self._store = store
        self._retention = retention or Retention()

    async def prune(self) -> int:
        """Delete everything due, bite by bite, and return how many rows went."""
        ages = self._retention.ages
        return sum([await self._prune(what, ages[what]) for what in self._store.aging])

    async def _prune(self, what: Aging, age_seconds: float) -> int:
        rows = 0
        while True:
            bite = await self._store.prune(what, self._retention.bite_rows, age_seconds)
            rows += bite
            if bite < self._retention.bite_rows:
                return rows
            await anyio.sleep(BREATH_SECONDS)

    async def run(self) -> None:
        """Prune until cancelled; a database that is away is waited for."""
        while True:
            try:
                rows = await self.prune()
                if rows:
                    log.info("%d old rows deleted", rows)
            except StoreError as error:
                log.warning("old rows are deleted later: %s", error)
            await anyio.sleep(self._retention.every_seconds)
