"""Publish outbox rows: at once what is handed over in memory, later by the sweep what was left behind."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from outbox.bell import Bell
from outbox.expecting import Expected
from outbox.outages import Outage
from outbox.shards import KeyedStore, ShardOwner, ShardTuning
from saga._core.envelope import Message
from saga._core.relay import Pace, Settled, consider, messages_of, pace_after, settle
from saga._core.rows import OutboxRow
from saga.errors import StoreError
from saga.ports import OpenRows, OutboxStore, Publisher

log = logging.getLogger("saga")

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTuning:
    """Tune a relay.

    `in_hand` bounds the rows handed over and not yet deleted, `in_flight` those of them being published:
    a memory transport acknowledges only what has been consumed, so both count rows and not calls. Acknowledged
    rows are deleted together, `delete_pause_seconds` apart or once there are `delete_batch`. The sweep takes rows
    older than `older_than_seconds`, on the database clock, and holds its lease for `lease_seconds`, which should
    exceed the time a page takes to be published.
    """

    in_hand: int = 10_000
    in_flight: int = 2_000
    batch: int = 256
    delete_pause_seconds: float = 0.25
    delete_batch: int = 1_000
    older_than_seconds: float = 5.0
    sweep_every_seconds: float = 1.0
    page: int = 500
    lease_seconds: float = 15.0
    quiet_seconds: float = 0.5
    shards: ShardTuning = field(default_factory=ShardTuning)


class Relay:
    """Publish the rows of one store, at least once.

    Several relays may work on one database: each publishes what is handed to it, and one of them, by a
    lease, sweeps. A row is published twice when its deletion fails, or when it is in another relay's hand
    for longer than the sweep waits: rare, and every reader knows a message it has seen by its ID.

    Rows go out in the order they are handed over, several batches at a time; after an error a row may
    come behind a later one of the same key. Sagas do not mind. Rows of a shard are published in order by its owner
    (`ShardOwner`), who is one of the relays with `keyed`, the same store.
    """

    def __init__(
        self,
        store: OutboxStore,
        publisher: Publisher,
        *,
        owner: str = "",
        tuning: RelayTuning | None = None,
        keyed: KeyedStore | None = None,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._tuning = tuning or RelayTuning()
        # Two relays of one process must not both hold the lease.
        self._owner = f"{owner or f'{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}'}-{next(_numbers)}"
        self._queue: deque[OutboxRow] = deque()
        self._in_hand: set[int] = set()
        self._in_flight = 0
        self._tasks: TaskGroup | None = None
        self._starting = False
        self._acknowledged: list[int] = []
        self._deleting = 0
        self._full = False
        self._refused = Outage("relay: rows not published, left to the sweep", "relay: rows are published again")
        self._away = Outage("relay: the sweep looks again later", "relay: the sweep is back")
        self._draining = False
        self._acked = Bell()
        self._hurry = Bell()
        self._sweep_bell = Bell()
        self._progress = Bell()
        self.counts: dict[str, int] = {}
        self.shards = (
            ShardOwner(keyed, publisher, owner=self._owner, tuning=self._tuning.shards) if keyed is not None else None
        )
        self._expected = Expected(
            store,
            self.hand_over,
            window_seconds=self._tuning.older_than_seconds,
            limit=self._tuning.in_hand,
        )

    @property
    def in_hand(self) -> int:
        """Return how many rows are queued, being published or waiting to be deleted."""
        return len(self._in_hand)

    def hand_over(self, rows: Sequence[OutboxRow]) -> None:
        """Take committed rows, with their `seq`, to be published now; never blocks.

        Call it only after COMMIT has returned. Rows there is no room for are left to the sweep.
        """
        if self.shards is not None and any(row.shard is not None for row in rows):
            self.shards.ring()
        offer = consider(rows, self._in_hand, self._tuning.in_hand)
        if offer.refused:
            self._count("refused", offer.refused)
            if not self._full:
                log.warning("relay: %d rows are in hand and not published; more are left to the sweep", self.in_hand)
        self._full = offer.refused > 0
        if offer.taken:
            self._in_hand.update(row.seq for row in offer.taken)
            self._queue.extend(offer.taken)
            self._start()

    def expect(self, open_rows: OpenRows) -> None:
        """Take rows written in a transaction that is still open, to be published once it has committed; any thread."""
        self._expected.expect(open_rows)

    def sweep_now(self) -> None:
        """Let the sweep look now instead of at its next interval; does not block."""
        self._sweep_bell.ring()

    async def run(self) -> None:
        """Publish, delete and sweep until cancelled; a database that is away is waited for.

        May be called again after it ended: what was queued is still published.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._delete, name="relay: delete")
                tasks.start_soon(self._sweep, name="relay: sweep")
                tasks.start_soon(self._expected.run, name="relay: expected commits")
                if self.shards is not None:
                    tasks.start_soon(self.shards.run, name="relay: shards")
                self._tasks = tasks
                self._start()
        finally:
            self._tasks, self._starting = None, False
            # Whatever was under way is forgotten: nobody knows whether it arrived.
            self._in_flight = self._deleting = 0
            self._in_hand = {row.seq for row in self._queue} | set(self._acknowledged)

    async def drain(self, timeout_seconds: float) -> None:
        """Return once nothing is in hand, or the budget is spent, or nothing has moved for `quiet_seconds`.

        Call it while `run` is running and nothing more is handed over. What is left stays in the
        database; with a memory transport that is everything whose readers have stopped.
        """
        self._draining = True
        self._hurry.ring()
        try:
            with anyio.move_on_after(timeout_seconds):
                await self._expected.look()
                if self.shards is not None:
                    await self.shards.drain(timeout_seconds, self._tuning.quiet_seconds)
                while self._in_hand:
                    moved = await self._progress.wait(self._tuning.quiet_seconds)
                    if not moved and not self._deleting:
                        log.info("relay: %d rows are left to the next process", self.in_hand)
                        return
        finally:
            self._draining = False

    # --- handed over -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start a task that publishes what is queued, unless one is about to start or too much is in flight.

        It takes what is there when it begins: what is handed over until then goes out with it.
        """
        if self._queue and not self._starting and self._tasks is not None and self._in_flight < self._tuning.in_flight:
            self._starting = True
            self._tasks.start_soon(self._publish_queued, name="relay: publish")

    async def _publish_queued(self) -> None:
        self._starting = False
        size = min(self._tuning.batch, len(self._queue), self._tuning.in_flight - self._in_flight)
        batch = [self._queue.popleft() for _ in range(size)]
        self._in_flight += size
        # In a loop iteration of its own: this batch goes out before the next, and the next one grows.
        self._start()
        await self._publish(batch)
        self._in_flight -= size
        self._start()

    async def _publish(self, rows: Sequence[OutboxRow]) -> Settled:
        """Publish rows and put them to be deleted, or forget them."""
        messages: list[Message] = []
        counts: list[int] = []
        for row in rows:
            several = messages_of(row)
            messages += several
            counts.append(len(several))
        results = await self._publisher.publish(messages) if messages else ()
        settled = settle(rows, counts, results)
        self._acknowledged.extend(settled.done)
        self._in_hand.difference_update(settled.forgotten)
        self._count("published", len(settled.done))
        if settled.forgotten:
            self._count("forgotten", len(settled.forgotten))
            if settled.error is not None:
                self._refused.failed(settled.error, len(settled.forgotten))
        elif settled.done:
            self._refused.worked()
        if settled.done:
            self._acked.ring()
            if len(self._acknowledged) >= self._tuning.delete_batch:
                self._hurry.ring()
        self._progress.ring()
        return settled

    async def _delete(self) -> None:
        while True:
            await self._acked.wait()
            while self._acknowledged:
                seqs, self._acknowledged = self._acknowledged, []
                self._deleting = len(seqs)
                try:
                    await self._store.delete(seqs)
                except StoreError as error:
                    # Kept in hand, so that the sweep does not publish them again.
                    self._acknowledged = seqs + self._acknowledged
                    log.warning("relay: %d published rows are deleted later: %s", len(seqs), error)
                    await self._acked.wait(self._tuning.sweep_every_seconds)
                except BaseException:
                    self._acknowledged = seqs + self._acknowledged
                    raise
                else:
                    self._in_hand.difference_update(seqs)
                    self._count("deleted", len(seqs))
                    self._deleting = 0
                    self._progress.ring()
            if not self._draining and len(self._acknowledged) < self._tuning.delete_batch:
                await self._hurry.wait(self._tuning.delete_pause_seconds)

    # --- swept -----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            pace = Pace.LATER
            try:
                pace = await self._sweep_page()
                self._away.worked()
            except StoreError as error:
                self._away.failed(error)
            if pace is Pace.LATER:
                await self._sweep_bell.wait(self._tuning.sweep_every_seconds)

    async def _sweep_page(self) -> Pace:
        tuning = self._tuning
        rows = await self._store.sweep(
            self._owner,
            older_than_seconds=tuning.older_than_seconds,
            limit=tuning.page,
            in_hand=frozenset(self._in_hand),
            lease_seconds=tuning.lease_seconds,
        )
        # Handed over while the page was read.
        rows = [row for row in rows if row.seq not in self._in_hand]
        if not rows:
            return Pace.LATER
        self._in_hand.update(row.seq for row in rows)
        self._count("swept", len(rows))
        return pace_after(len(rows), tuning.page, await self._publish(rows))

    def _count(self, what: str, more: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + more
