"""Declare what the runtime asks of a database, six methods a port at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from saga._core.rows import (
    CoordinatorChanges,
    Cursor,
    DeliveryRow,
    InstanceRow,
    OutboxRow,
    PlanRow,
    RunId,
    RunRow,
    TakenRun,
)
from saga.ports.shards import ShardStore
from saga.ports.unit import AdoptedUnit, Claim, UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Say what a heartbeat has found: the runs it kept, and those whose owner is silent, with that owner.

    An owner is silent when less than a third of its lease is left: it has missed two of three beats.
    """

    kept: frozenset[RunId]
    silent: Mapping[RunId, str]


class ParticipantStore(Protocol):
    """Keep one service's runs, gates and waiting deliveries next to its business tables."""

    @property
    def transactions_at_once(self) -> int:
        """Return how many transactions of one service may be worth having side by side; 1 where they take turns."""
        ...

    def unit(self, claim: Claim) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction and take the claim's locks in the same round trip."""
        ...

    def adopt(self, connection: Any, service: str) -> AbstractAsyncContextManager[AdoptedUnit]:
        """Work inside the caller's own open transaction: never commits, never rolls back.

        Over a connection that blocks nothing here ever suspends. Raises SettingsError when the connection is of an
        unknown kind, has no open transaction, or is to another database than the store's.
        """
        ...

    async def take_deliveries(self, service: str, limit: int, lease_seconds: float) -> Sequence[DeliveryRow]:
        """Claim due rows (reason RETRY, DELAYED, LOCKED, PARKED) by moving their `due_at` on by the lease.

        Those of urgent sagas first, by their topic; each lane oldest first.
        """
        ...

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[TakenRun]:
        """Claim runs whose `pending_at` has passed, urgent ones first, each lane longest waiting first.

        Owner set, `pending_at` moved on, `called_at` (and `first_called_at`, once) set to now, revision raised: a
        call may follow at once, so it is written down before.
        """
        ...

    async def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        """Move `pending_at` of the owner's runs on by a lease, in one statement; revisions stay as they are.

        A run whose revision is not the one given any more is left alone.
        """
        ...

    async def load_runs(self, runs: Sequence[RunId]) -> Sequence[RunRow]:
        """Read those of the runs that there are, outside any transaction and in no order."""
        ...


class Deadlines(Protocol):
    """Tell what time it is, and what is owed by when."""

    async def now(self) -> datetime:
        """Read the database clock."""
        ...

    async def next_due(self, partitions: Sequence[int]) -> datetime | None:
        """Read the earliest `due_at` in the partitions, whatever has been observed; None when nothing is owed."""
        ...

    async def due(self, partitions: Sequence[int], limit: int) -> Sequence[InstanceRow]:
        """Read instances with `due_at <= observed_until` of their partition, most overdue first."""
        ...


class CoordinatorStore(Deadlines, Protocol):
    """Keep instances, cursors and plans of the coordinator."""

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances in one query."""
        ...

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one transaction; returns the outbox `seq`s. Raises Conflict: nothing was written."""
        ...

    async def cursors(self, partitions: Sequence[int]) -> Mapping[int, Cursor]:
        """Read the stored cursors."""
        ...

    async def put_plans(self, plans: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """Store plans by hash and return all stored rows.

        Raises PlanError when a (saga, version, revision) is stored with another hash.
        """
        ...


class OutboxStore(Protocol):
    """Let the relay at the rows; rows are deleted after the broker's acknowledgement, never updated."""

    async def delete(self, seqs: Sequence[int]) -> None:
        """Delete published rows in one statement."""
        ...

    async def sweep(
        self,
        owner: str,
        *,
        older_than_seconds: float,
        limit: int,
        in_hand: frozenset[int],
        lease_seconds: float,
    ) -> Sequence[OutboxRow]:
        """Take or renew the database's one sweeping lease and return a page of old rows, in order of `seq`.

        Rows in hand are left out. Empty when somebody else holds the lease.
        """
        ...

    async def committed(self, seqs: Sequence[int]) -> Sequence[OutboxRow]:
        """Return those of the rows that can be seen, and so are committed and not yet deleted, as they are stored.

        A number whose transaction was rolled back may belong to another row by now.
        """
        ...

    async def pending(self) -> tuple[int, float]:
        """Return the number of rows and the age of the oldest in seconds."""
        ...


class Store(ParticipantStore, OutboxStore, ShardStore, Protocol):
    """Be a participant's database: an async context manager that owns its connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def migrate(self) -> None:
        """Bring the tables to this version; safe to call from several processes at once."""
        ...


class CoordinationStore(CoordinatorStore, OutboxStore, Protocol):
    """Be the coordinator's database: an async context manager that owns its connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def migrate(self) -> None:
        """Bring the tables to this version; safe to call from several processes at once."""
        ...


class Clock(Protocol):
    """Tell the time where no database clock is at hand."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...
