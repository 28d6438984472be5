"""Declare one open transaction of a participant, and what it claims; six methods a port at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from saga._core.locks import LockRequest, LockView
from saga._core.rows import Changes, InboxKey, RunId, Snapshot
from saga.ports.watching import Watch


class Database(Protocol):
    """Run the user's SQL inside the open transaction; placeholders are `$1`, `$2`, … on every store."""

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows it touched."""
        ...

    async def fetch(self, sql: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows."""
        ...

    async def fetch_one(self, sql: str, *args: object) -> Mapping[str, Any] | None:
        """Run one statement and return its first row, or None."""
        ...


class Lock(StrEnum):
    """Say how a transaction claims its sagas: SHARED to run, EXCLUSIVE to close, undo or change a run."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Say what a transaction is about; locks are taken per (service, saga), sorted, before anything is read."""

    service: str
    sagas: tuple[str, ...]
    lock: Lock = Lock.SHARED
    lock_timeout_seconds: float | None = None


class EntityLocks(Protocol):
    """Hold entities of the transaction's service for sagas; committed and rolled back with everything else.

    Raises Contended, StoreUnavailable.
    """

    async def see_lock(self, request: LockRequest) -> LockView:
        """Return what is stored of an entity, once no other open transaction has seen it; it stays so until the end."""
        ...

    async def take_lock(self, request: LockRequest) -> None:
        """Store the saga as the holder of an entity seen, and take it out of the queue.

        Other deliveries of the saga that wait for the entity become due.
        """
        ...

    async def wait_for_lock(self, request: LockRequest) -> None:
        """Give the request's delivery a place behind all others; one that has a place keeps it, and its time.

        A delivery waits in one place: it gives up those elsewhere, and the next delivery there becomes due. The place
        counts as long as there is a delivery of that key that waits (reason LOCKED or RETRY).
        """
        ...

    async def release_locks(self, saga_id: str) -> int:
        """Free whatever the saga holds, forget where it waits, and let the next delivery (reason LOCKED) become due.

        Returns how many entities that was about; none a second time.
        """
        ...


class UnitOfWork(EntityLocks, Protocol):
    """Be one open transaction, READ COMMITTED; it commits when its context ends and rolls back on an exception.

    Raises Contended, Conflict, StoreUnavailable, CommitUnknown.
    """

    @property
    def db(self) -> Database:
        """Return the user's door to this transaction."""
        ...

    @property
    def connection(self) -> Any:
        """Return the driver's own connection; taking it counts as a write."""
        ...

    @property
    def writes(self) -> int:
        """Return how many of the user's statements may have changed a row so far (conservative: may be too many)."""
        ...

    async def read(self, sagas: Sequence[str], runs: Sequence[RunId], inbox: Sequence[InboxKey] = ()) -> Snapshot:
        """Read the service's gates of `sagas`, the named runs and inbox entries in one statement, after the locks.

        A run named with an empty step, `(saga_id, "", "")`, stands for all runs of that saga at this service.
        """
        ...

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes in one statement and return the `seq` of each outbox row, in order.

        Raises Conflict when an inserted run or inbox entry exists or an updated one is not at the revision read,
        Gone when a waiting delivery to delete or to update is not there any more.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Open a savepoint: an exception out of the context rolls back to it and goes on being raised."""
        ...


class AdoptedUnit(UnitOfWork, Protocol):
    """Be the inside of a transaction that somebody else has begun and will end."""

    @property
    def watch(self) -> Callable[[], Watch]:
        """Return what begins to watch for the transaction's end."""
        ...
