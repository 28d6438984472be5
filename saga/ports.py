"""Declare the ports: what the runtime asks of a transport, a store and a tracer, six methods each at most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, Self

from saga._core.envelope import Delivery, Message
from saga._core.rows import (
    Changes,
    CoordinatorChanges,
    Cursor,
    DeliveryRow,
    InstanceRow,
    OutboxRow,
    PlanRow,
    RunId,
    RunRow,
    Snapshot,
)


class Cleanup(StrEnum):
    """Say how a topic forgets: by age, or by keeping the last value of each key."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """Describe a topic that must exist; an existing one is checked, never changed."""

    name: str
    partitions: int
    cleanup: Cleanup = Cleanup.DELETE
    retention_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TopicPartition:
    """Name one partition."""

    topic: str
    partition: int


class Positions(StrEnum):
    """Say who keeps a group's positions: the broker (committed offsets), or the subscriber (it seeks)."""

    BROKER = "broker"
    SUBSCRIBER = "subscriber"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Describe a consumer group membership.

    `slot` makes membership static (`group.instance.id = <name>-<slot>`, KIP-345): it must be unique
    among live members and stable over restarts. A group with no committed offset starts at the
    earliest offset. With `Positions.SUBSCRIBER`, `on_assigned` returns where to start.
    """

    name: str
    slot: str
    topics: tuple[str, ...]
    positions: Positions = Positions.BROKER


OnAssigned = Callable[[frozenset[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Called on assignment, before anything is fetched; returns the offsets to start from (absent = earliest)."""

OnRevoked = Callable[[frozenset[TopicPartition]], Awaitable[None]]
"""Called before partitions are given up: finish or drop what was fetched, then return (bounded by the adapter)."""


class Publisher(Protocol):
    """Send messages."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Send a batch and return, message by message, `None` once acknowledged by all in-sync replicas, or the error.

        Order per key is kept among acknowledged messages of one call. Bounded by the adapter's timeout.
        Raises nothing but cancellation; a message with an error may or may not have been stored.
        """
        ...


class Subscription(Protocol):
    """Read as a member of a group."""

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        """Return up to `limit` deliveries of the assigned partitions, in order per partition; empty after the timeout.

        Raises TransportUnavailable, PositionLost.
        """
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read; bounded. Raises Revoked or TransportUnavailable: then not committed."""
        ...

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Move the read positions of assigned partitions; fetched but unreturned deliveries are dropped."""
        ...

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written of every assigned partition."""
        ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return, for every assigned partition, the offset after the last delivery `fetch` returned, or the start."""
        ...


class Table(Protocol):
    """Follow a compacted topic from its beginning, outside of any group."""

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        """Return records since the last call (the first call starts at the beginning); empty after the timeout."""
        ...

    async def caught_up(self) -> bool:
        """Return whether everything that was in the topic at the time of the call has been returned."""
        ...


class Transport(Protocol):
    """Open the ways in and out of one broker; an async context manager owns all connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing and check what exists; raises TransportRefused naming topic and setting."""
        ...

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """Open a publisher."""
        ...

    def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join a group; leaving the context leaves within a bounded time."""
        ...

    def table(self, topic: str) -> AbstractAsyncContextManager[Table]:
        """Open a reader of a compacted topic."""
        ...


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


class UnitOfWork(Protocol):
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

    async def read(self, sagas: Sequence[str], runs: Sequence[RunId]) -> Snapshot:
        """Read the service's gates of `sagas` and the named runs in one statement, after the locks.

        A run named with an empty step, `(saga_id, "", "")`, stands for all runs of that saga at this service.
        """
        ...

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes in one statement and return the `seq` of each outbox row, in order.

        Raises Conflict when an inserted run exists or an updated one is not at the revision read.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Open a savepoint: an exception out of the context rolls back to it and goes on being raised."""
        ...


class ParticipantStore(Protocol):
    """Keep one service's runs, gates and waiting deliveries next to its business tables."""

    def unit(self, claim: Claim) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction and take the claim's locks in the same round trip."""
        ...

    def adopt(self, connection: Any, service: str) -> AbstractAsyncContextManager[UnitOfWork]:
        """Work inside the caller's own open transaction: never commits, never rolls back.

        Raises SettingsError when the connection is not this store's kind or has no open transaction.
        """
        ...

    async def take_deliveries(self, service: str, limit: int, lease_seconds: float) -> Sequence[DeliveryRow]:
        """Claim due rows (reason RETRY, PARKED) by moving their `due_at` on by the lease; oldest first."""
        ...

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[RunRow]:
        """Claim runs whose `pending_at` has passed: owner set, `pending_at` moved on, revision raised."""
        ...

    async def load_run(self, run: RunId) -> RunRow | None:
        """Read one run outside any transaction."""
        ...


class CoordinatorStore(Protocol):
    """Keep instances, cursors and plans of the coordinator."""

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances in one query."""
        ...

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one transaction; returns the outbox `seq`s. Raises Conflict: nothing was written."""
        ...

    async def due(self, partitions: Sequence[int], limit: int) -> Sequence[InstanceRow]:
        """Read instances with `due_at <= observed_until` of their partition, most overdue first."""
        ...

    async def cursors(self, partitions: Sequence[int]) -> Mapping[int, Cursor]:
        """Read the stored cursors."""
        ...

    async def now(self) -> datetime:
        """Read the database clock."""
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

    async def committed(self, seqs: Sequence[int]) -> Sequence[int]:
        """Return which of the rows can be seen, and so are committed and not yet deleted."""
        ...

    async def pending(self) -> tuple[int, float]:
        """Return the number of rows and the age of the oldest in seconds."""
        ...


class Store(ParticipantStore, OutboxStore, Protocol):
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


class Span(Protocol):
    """Be one open span."""

    @property
    def traceparent(self) -> str:
        """Return the W3C `traceparent` to store and hand on; `""` when there is none."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute; never a payload."""
        ...

    def fail(self, error: BaseException) -> None:
        """Mark the span as failed by the error's type."""
        ...


class SpanKind(StrEnum):
    """Name the OpenTelemetry span kinds we use."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    INTERNAL = "internal"


class Tracer(Protocol):
    """Open spans; an implementation that records nothing still hands the parent's context on."""

    def span(
        self, name: str, kind: SpanKind, parent: str, attributes: Mapping[str, str | int]
    ) -> AbstractContextManager[Span]:
        """Open a span below `parent` (a `traceparent`, `""` for the ambient context)."""
        ...
