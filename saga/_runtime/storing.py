"""Store what a coordinator has folded: at once what presses, the rest a moment later with the positions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random

import anyio

from saga._core.rows import CoordinatorChanges, Cursor, InstanceRow, OutboxRow, numbered
from saga._core.topics import RUNS
from saga._runtime.deciding import Decider
from saga._runtime.folding import Folded
from saga._runtime.holding import Held
from saga._runtime.observing import Observer
from saga.errors import Conflict, Contended, StoreUnavailable
from saga.ports import CoordinatorStore, Subscription

log = logging.getLogger("saga")

Stored = Callable[[Sequence[Folded], Sequence[OutboxRow], Mapping[int, int]], None]
"""Takes what has been stored, the outbox rows with their `seq`, and the positions; only after the commit."""


class InstanceWriter:
    """Write what is held to the database; `cursors` are the stored ones of the partitions that are read here."""

    def __init__(
        self,
        *,
        store: CoordinatorStore,
        decider: Decider,
        observer: Observer,
        rng: Random,
        count: Callable[[str], None],
        stored: Stored,
    ) -> None:
        """Hold nothing yet."""
        self._store = store
        self._decider = decider
        self._observer = observer
        self._rng = rng
        self._count = count
        self._stored = stored
        self.held = Held()
        self.cursors: dict[int, Cursor | None] = {}

    async def write(
        self,
        subscription: Subscription | None,
        only: Collection[str] = (),
        *,
        due: Sequence[InstanceRow] = (),
        again: int = 0,
    ) -> None:
        """Store what is held, of some sagas or all of it with the positions, until it fits what is stored.

        Nothing is held when rows are `due`. Positions are never ahead of what is stored: some sagas go without.
        `again` times it has gone wrong before. Without a `subscription` a partition of which nothing was read gets no
        position. Raises Conflict when another replica has moved a cursor: reading starts over from the stored ones.
        """
        if not self.held.is_folded:
            # Whoever was folding the last batch was cut short: its records are held, and its positions.
            self._decider.known.clear()
            again = max(again, 1)
        failures = tries = again
        folded: list[Folded] | None = None if due or again else self.held.folded(only)
        while True:
            tries += 1
            try:
                if folded is None:
                    folded = await self._decider.decide(self.held.work(due), tries)
                changes = self._changes(subscription, folded, only)
                seqs = await self._store.write(changes)
            except Conflict:
                self._count("conflict")
                folded, only = None, ()
                self._decider.known.clear()
                await self._check_mine()
            except (Contended, StoreUnavailable) as error:
                failures += 1
                folded, only = None, ()
                self._decider.known.clear()
                log.warning("coordinator: the database is away, trying again: %s", error)
                await anyio.sleep(min(5.0, 0.05 * 2.0 ** min(failures, 8)) * self._rng.random())
            else:
                self._written(folded, changes, seqs, only)
                return

    def _changes(
        self, subscription: Subscription | None, folded: Sequence[Folded], only: Collection[str]
    ) -> CoordinatorChanges:
        cursors: tuple[tuple[Cursor | None, Cursor], ...] = ()
        if not only:
            reading = reading_of(subscription) if subscription and None in self.cursors.values() else {}
            cursors = self._observer.cursors(self.cursors, self.held.positions, reading)
        return CoordinatorChanges(
            instances=tuple([each.row for each in folded]),
            outbox=tuple([row for each in folded for row in each.outbox]),
            cursors=cursors,
            dead=() if only else tuple(self.held.dead),
        )

    def _written(
        self, folded: Sequence[Folded], changes: CoordinatorChanges, seqs: Sequence[int], only: Collection[str]
    ) -> None:
        self.cursors.update({new.partition: new for _, new in changes.cursors})
        self._decider.known.take(folded)
        self._stored(folded, numbered(changes.outbox, seqs), {} if only else dict(self.held.positions))
        self.held.written(only)

    async def _check_mine(self) -> None:
        """Raise Conflict unless the stored cursors are the ones held here."""
        stored = await self._store.cursors(sorted(self.cursors))
        for partition, cursor in self.cursors.items():
            found = stored.get(partition)
            if (found and found.position) != (cursor and cursor.position):
                msg = f"partition {partition} of {RUNS} was moved on by another coordinator; starting over from there"
                raise Conflict(msg)


def reading_of(subscription: Subscription) -> dict[int, int]:
    """Return where each partition of a subscription is read."""
    return {place.partition: at for place, at in subscription.positions().items()}
