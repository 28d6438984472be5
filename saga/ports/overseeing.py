"""Declare what a console asks of databases, six methods a port at most; nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, Self

from saga._core.audit import AuditRow
from saga._core.inspecting import InstancePlace
from saga._core.letters import LetterFilter
from saga._core.overview import Census, Minute
from saga._core.queues import AuditFilter, LetterLine
from saga._core.rows import InstanceRow
from saga._core.running import PartitionState, StoredPlan
from saga._core.sagas import SagaLine, SagaQuery
from saga.ports.backlog import Backlogged
from saga.ports.operating import OperatingStore


class Side(StrEnum):
    """Say whose tables a database has."""

    PARTICIPANT = "participant"
    COORDINATOR = "coordinator"


class Overseeing(Protocol):
    """Read what a coordinator knows of many sagas, from indexes alone; raises StoreUnavailable, StoreError."""

    async def lines(
        self, query: SagaQuery, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[SagaLine]:
        """Read a page of sagas, newest first, behind `after`; those that nobody knows the start of come first."""
        ...

    async def count(self, query: SagaQuery, *, cap: int) -> Mapping[str, int]:
        """Count what a query finds by phase, about `cap` in all at most."""
        ...

    async def census(self, *, oldest: int = 5) -> Census:
        """Count the open sagas and read those open for longest; `stuck` stays empty."""
        ...

    async def minutes(self, starts: Sequence[datetime], *, cap: int = 100_000) -> Sequence[Minute]:
        """Count what started and ended in the minutes that begin then, at most `cap` of each."""
        ...

    async def partitions(self) -> Sequence[PartitionState]:
        """Read how far the coordinator is in each partition of `saga.runs`."""
        ...

    async def stored_plans(self) -> Sequence[StoredPlan]:
        """Read all plans with the time they were stored at, by name, newest version and revision first."""
        ...


class Following(Protocol):
    """Read what a coordinator knows of one saga; raises StoreUnavailable, StoreError."""

    async def instance(self, saga_id: str) -> InstanceRow | None:
        """Read one saga, None when the coordinator knows none of that ID."""
        ...

    async def saga_of_trace(self, trace_id: str, *, newest: int = 20_000) -> str:
        """Return the saga recorded under a trace, "" when it is none of the newest."""
        ...


class Looking(Protocol):
    """Read what waits in a database of either side, and what people did there."""

    async def sides(self) -> frozenset[Side]:
        """Return whose tables there are."""
        ...

    async def dead_lines(self, wanted: LetterFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[LetterLine]:
        """Read a page of dead letters without their messages, newest first, below `before_id` unless that is 0.

        `database` is "" in them.
        """
        ...

    async def count_dead(self, *, cap: int) -> tuple[int, float]:
        """Count dead letters, at most `cap`, and say for how many seconds the oldest one has been dead."""
        ...

    async def acts(self, wanted: AuditFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first, below `before_id` unless that is 0."""
        ...

    async def marks(self) -> Mapping[str, str]:
        """Return texts that are others once something has changed.

        They are of `sent`, `dead` and `audits`, at a coordinator of `read` and `plans` too.
        """
        ...

    async def saga_mark(self, saga_id: str) -> str:
        """Return a text that is another one whenever something of a saga has changed here, "" without any row."""
        ...


class OverseeingStore(OperatingStore, Overseeing, Following, Looking, Backlogged, Protocol):
    """Be a database as a console looks at it: an async context manager that owns its connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def now(self) -> datetime:
        """Read the database's clock."""
        ...
