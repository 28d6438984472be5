"""Publish plain events with a key, in the order of each key, whatever process has written them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from outbox.bell import Bell
from outbox.outages import Outage
from saga._core.relay import messages_of
from saga._core.rows import OutboxRow
from saga._core.sharing import PAUSE_CAP_SECONDS, PAUSE_FIRST_SECONDS, Refused, left_out, one_each, portion_of, sent
from saga.errors import StoreError, TransportUnavailable
from saga.ports import OutboxStore, Publisher, ShardStore

log = logging.getLogger("saga")

LEAVE_SECONDS = 2.0
LATE = TransportUnavailable("not acknowledged within the lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTuning:
    """Tune the owner of shards.

    A lease lasts for `lease_seconds`, on the database clock, and is renewed in time; nothing is published after it.
    While other relays are at work too, leases are looked at every `rest_seconds`. Rows that other processes have
    written are looked for every `poll_seconds` while there is something to do, and every `rest_seconds` after nothing
    was for `idle_seconds`; then the leases are given up too. A page has at most `page` rows, `each` of a shard;
    `in_flight` bounds the rows being published, `refused` the keys that wait after an error.
    """

    lease_seconds: float = 15.0
    poll_seconds: float = 0.1
    rest_seconds: float = 1.0
    idle_seconds: float = 30.0
    page: int = 1_000
    each: int = 100
    in_flight: int = 5_000
    refused: int = 1_000


class KeyedStore(OutboxStore, ShardStore, Protocol):
    """Be an outbox with shards."""


class ShardOwner:
    """Publish the rows of the shards this relay holds, at least once and in order of each key.

    Every shard has one owner by a lease; the relays at work share them out (`saga._core.sharing`). A page is read in
    the order of `seq`, published in one call, and deleted after the acknowledgement; a key of which something is
    under way or was refused is in no other page. So its messages are never side by side, and a refused one is tried
    again before anything that follows. Who loses its leases stops at once; what it was publishing may come twice.
    """

    def __init__(
        self, store: KeyedStore, publisher: Publisher, *, owner: str, tuning: ShardTuning | None = None
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._owner = owner
        self._tuning = tuning or ShardTuning()
        self._held: frozenset[int] = frozenset()
        self._leaving: frozenset[int] = frozenset()
        self._until = 0.0
        self._busy: Counter[str] = Counter()
        self._under_way: Counter[int] = Counter()
        self._refused: dict[str, Refused] = {}
        self._undeleted: set[int] = set()
        self._scopes: set[anyio.CancelScope] = set()
        self._waiting = Outage("relay: keys wait after an error", "relay: keys that waited are published again")
        self._away = Outage("relay: rows with a key are read later", "relay: rows with a key are read again")
        self._leases = Outage("relay: leases of shards are renewed later", "relay: leases of shards are renewed again")
        self._pause = 0.0
        self._quiet_since = 0.0
        self._bell = Bell()
        self._beat_bell = Bell()
        self._empty = Bell()
        self.published = 0

    @property
    def held(self) -> frozenset[int]:
        """Return the shards whose rows are published here."""
        return self._held - self._leaving

    @property
    def in_flight(self) -> int:
        """Return how many rows are being published."""
        return self._under_way.total()

    def ring(self) -> None:
        """Say that a row of some shard has been committed here; does not block."""
        self._bell.ring()

    async def run(self) -> None:
        """Publish until cancelled; while there is nothing to publish, nothing is written and hardly anything read."""
        while True:
            await self._rest()
            try:
                await self._work()
            finally:
                await self._leave()

    async def _rest(self) -> None:
        """Return when there is something to publish."""
        while True:
            try:
                if await self._store.has_sharded():
                    return
                self._away.worked()
                self._empty.ring()
            except StoreError as error:
                self._away.failed(error)
            await self._bell.wait(self._tuning.rest_seconds)

    async def _work(self) -> None:
        """Hold shards and publish their rows until there has been nothing for a while."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beats, name="relay: leases of shards")
            await self._pages(tasks)
            tasks.cancel_scope.cancel()

    async def _leave(self) -> None:
        """Forget everything, and let others have the shards at once if the database can be told."""
        self._held, self._leaving, self._until = frozenset(), frozenset(), 0.0
        self._busy.clear()
        self._under_way.clear()
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            try:
                await self._store.give_up(self._owner, None)
            except StoreError as error:
                log.warning("relay: shards are free when their leases have run out: %s", error)

    # --- leases ----------------------------------------------------------------------------------------------

    async def _beats(self) -> None:
        tuning = self._tuning
        while True:
            pause = tuning.lease_seconds / 12
            try:
                pause = await self._beat()
                self._leases.worked()
            except StoreError as error:
                self._leases.failed(error)
            await self._beat_bell.wait(pause)

    async def _beat(self) -> float:
        """Renew, take and give up leases; return when to do so again, in seconds."""
        tuning, now = self._tuning, anyio.current_time()
        attendance = await self._store.attend(self._owner, tuning.lease_seconds)
        portion = portion_of(self._owner, attendance)
        self._leaving = portion.give_up
        free = frozenset(shard for shard in portion.give_up if not self._under_way[shard])
        if free:
            await self._store.give_up(self._owner, sorted(free))
        wanted = {*portion.hold, *(portion.give_up - free)}
        held = await self._store.hold_shards(self._owner, sorted(wanted), tuning.lease_seconds)
        lost = self._held - held - free
        self._held, self._until = held, now + tuning.lease_seconds
        for scope in self._scopes:
            scope.deadline = self._until
            if lost:  # somebody else may be publishing the same
                scope.cancel()
        self._bell.ring()
        if not portion.is_fair or portion.give_up != free:
            return tuning.lease_seconds / 12
        # Whoever else is there may leave, and nobody tells.
        return min(tuning.lease_seconds / 3, tuning.rest_seconds if attendance.relays - {self._owner} else math.inf)

    # --- pages -----------------------------------------------------------------------------------------------

    async def _pages(self, tasks: TaskGroup) -> None:
        tuning = self._tuning
        self._quiet_since = anyio.current_time()
        while True:
            if self._pause:
                await anyio.sleep(self._pause)
            knows = bool(self._until)
            rows = await self._page() if self._may_read() else ()
            if rows:
                self._busy.update(row.aggregateid for row in rows)
                self._under_way.update(row.shard for row in rows if row.shard is not None)
                tasks.start_soon(self._publish, rows, name="relay: publish keyed")
            elif knows and not self.in_flight:
                self._empty.ring()
            now = anyio.current_time()
            if not self._refused:
                self._waiting.worked()
            if rows or self.in_flight or self._refused:
                self._quiet_since = now
            elif now - self._quiet_since >= tuning.idle_seconds:
                return
            if len(rows) < tuning.each:  # else a shard, or the page, may have more than came
                await self._bell.wait(tuning.poll_seconds)

    def _may_read(self) -> bool:
        """Return whether a page may be published: what is begun too late in a lease could not be finished in it."""
        tuning, now = self._tuning, anyio.current_time()
        return (
            bool(self.held)
            and self._until - now > tuning.lease_seconds / 2
            and self.in_flight < tuning.in_flight
            and sum(each.until > now for each in self._refused.values()) < tuning.refused
        )

    async def _page(self) -> Sequence[OutboxRow]:
        """Return the next rows to publish; none while the database is away."""
        tuning, now = self._tuning, anyio.current_time()
        if self._undeleted:
            await self._delete(tuple(self._undeleted))
        keys = left_out(self._busy.keys(), self._refused, now)
        try:
            rows = await self._store.shard_page(sorted(self.held), keys, limit=tuning.page, each=tuning.each)
        except StoreError as error:
            self._away.failed(error)
            await anyio.sleep(tuning.rest_seconds)
            return ()
        self._away.worked()
        if len(rows) < tuning.each:
            # All that there is has been seen: a key that did not come has no rows any more.
            found = {row.aggregateid for row in rows}
            kept = {key: each for key, each in self._refused.items() if each.until > now or key in found}
            self._refused = kept
        # Leases may have changed while the page was read.
        mine = [row for row in rows if row.shard in self.held and row.seq not in self._undeleted]
        return one_each(mine, self._refused.keys())

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        results: Sequence[BaseException | None] = [LATE] * len(rows)
        try:
            with anyio.CancelScope(deadline=self._until) as scope:
                self._scopes.add(scope)
                try:
                    results = await self._publisher.publish([message for row in rows for message in messages_of(row)])
                finally:
                    self._scopes.discard(scope)
            await self._settle(rows, results)
        finally:
            self._busy = self._busy - Counter(row.aggregateid for row in rows)
            self._under_way = self._under_way - Counter(row.shard for row in rows if row.shard is not None)
            self._bell.ring()
            if self._leaving:
                self._beat_bell.ring()

    async def _settle(self, rows: Sequence[OutboxRow], results: Sequence[BaseException | None]) -> None:
        """Delete what was acknowledged, and let wait what was not."""
        outcome = sent(rows, results, self._refused, anyio.current_time())
        for row in rows:
            self._refused.pop(row.aggregateid, None)
        self._refused.update(outcome.refused)
        if outcome.error is not None:
            self._waiting.failed(outcome.error, len(outcome.refused))
        if outcome.done:
            self._pause = 0.0
            self.published += len(outcome.done)
            await self._delete(outcome.done)
        else:
            self._pause = min(PAUSE_CAP_SECONDS, max(PAUSE_FIRST_SECONDS, self._pause * 2))

    async def _delete(self, seqs: Sequence[int]) -> None:
        self._undeleted.update(seqs)
        try:
            await self._store.delete(seqs)
        except StoreError as error:
            # Not published again as long as it is known here that they are.
            log.warning("relay: %d published rows are deleted later: %s", len(seqs), error)
        else:
            self._undeleted.difference_update(seqs)

    async def drain(self, timeout_seconds: float, quiet_seconds: float) -> None:
        """Return once what is committed is published, or the budget is spent, or nothing has moved for a while."""
        with anyio.move_on_after(timeout_seconds):
            # The first time may have been before, and the second look may have begun before: the third counts.
            for _ in range(3):
                self._bell.ring()
                published = -1
                while not await self._empty.wait(quiet_seconds):
                    if published == self.published:
                        log.info("relay: %d rows with a key are left to the next process", self.in_flight)
                        return
                    published = self.published
