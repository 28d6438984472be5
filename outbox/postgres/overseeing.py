"""Be a database as a console looks at it, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from outbox.audits import as_audit
from outbox.overseeing import (
    Source,
    as_census,
    as_letter_line,
    as_line,
    as_minute,
    as_partition,
    as_stored_plan,
    count_sql,
    list_sql,
    marks_of,
    merged,
    range_of,
    saga_mark_of,
    sources_of,
)
from outbox.postgres.base import BEGIN
from outbox.postgres.driver import Record
from outbox.postgres.operating import PostgresOperatingStore
from outbox.postgres.unit import CODEC
from saga._core.audit import AuditRow
from saga._core.inspecting import InstancePlace
from saga._core.letters import LetterFilter
from saga._core.overview import Census, Minute
from saga._core.queues import AuditFilter, LetterLine
from saga._core.rows import InstanceRow
from saga._core.running import PartitionState, StoredPlan
from saga._core.sagas import SagaLine, SagaQuery
from saga.ports.overseeing import Side

# Most filters are empty: only a plan made for the values given knows that. The coordinator's table may be large and its
# statistics old; whatever a console asks has an index.
LOOKING = (
    f"{BEGIN} READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off; "
    "SET LOCAL jit = off; SET LOCAL statement_timeout = '10s'"
)


class PostgresOverseeingStore(PostgresOperatingStore):
    """Oversee a participant's or a coordinator's database; see `saga.ports.overseeing.OverseeingStore`."""

    async def look(self, sql: str, *args: object) -> list[Record]:
        """Run one query in a transaction that cannot write, planned for its parameters and for its indexes."""
        async with self._pool.transaction(LOOKING) as link:
            return await link.fetch(sql, args)

    async def now(self) -> datetime:
        """Read the database clock."""
        return cast("datetime", (await self._fetch("now"))[0]["clock_timestamp"])

    # --- many sagas ------------------------------------------------------------------------------------------

    async def lines(
        self, query: SagaQuery, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[SagaLine]:
        """Read a page of sagas, newest first, behind `after`."""
        pages: list[list[SagaLine]] = []
        for source in picked(query, after, limit):
            rows = await self.look(list_sql(self._sql, source, limit), *asked(query, after), *source.args)
            pages.append([as_line(CODEC, row) for row in rows])
        return merged(pages, limit)

    async def count(self, query: SagaQuery, *, cap: int) -> Mapping[str, int]:
        """Count what a query finds by phase, about `cap` in all at most."""
        sql, args = counting(self._sql, query, cap)
        rows = await self.look(sql, *args)
        return {row["phase"]: row["sagas"] for row in rows}

    async def census(self, *, oldest: int = 5) -> Census:
        """Count the open sagas and read those open for longest."""
        counted = await self.look(self._sql["open_census"])
        sql = list_sql(self._sql, Source(name="sagas_open"), oldest).replace(" desc", "")
        first = await self.look(sql, *asked(SagaQuery(), None))
        return as_census(counted, [as_line(CODEC, row) for row in first])

    async def minutes(self, starts: Sequence[datetime], *, cap: int = 100_000) -> Sequence[Minute]:
        """Count what started and ended in the minutes that begin then, at most `cap` of each."""
        rows = await self.look(self._sql["count_minutes"], list(starts), cap)
        return [as_minute(CODEC, row) for row in rows]

    async def partitions(self) -> Sequence[PartitionState]:
        """Read how far the coordinator is in each partition of `saga.runs`."""
        now = await self.now()
        return [as_partition(CODEC, row, now) for row in await self._fetch("oversee_cursors")]

    async def stored_plans(self) -> Sequence[StoredPlan]:
        """Read all plans with the time they were stored at."""
        return [as_stored_plan(CODEC, row) for row in await self._fetch("oversee_plans")]

    # --- one saga --------------------------------------------------------------------------------------------

    async def instance(self, saga_id: str) -> InstanceRow | None:
        """Read one saga, None when the coordinator knows none of that ID."""
        rows = await self._fetch("oversee_instance", saga_id)
        return CODEC.as_instance(rows[0]) if rows else None

    async def saga_of_trace(self, trace_id: str, *, newest: int = 20_000) -> str:
        """Return the saga recorded under a trace, "" when it is none of the newest."""
        rows = await self.look(self._sql["saga_of_trace"], trace_id, newest)
        return str(rows[0]["saga_id"]) if rows else ""

    # --- either side -----------------------------------------------------------------------------------------

    async def sides(self) -> frozenset[Side]:
        """Return whose tables there are."""
        found = (await self._fetch("tables"))[0]
        return frozenset(side for side in Side if found[side.value])

    async def dead_lines(self, wanted: LetterFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[LetterLine]:
        """Read a page of dead letters without their messages, newest first."""
        texts = (wanted.service, wanted.saga_id, wanted.step, wanted.error)
        args = (before_id, *texts, list(wanted.ids), wanted.up_to_id, limit)
        return [as_letter_line(CODEC, row) for row in await self.look(self._sql["list_dead_lines"], *args)]

    async def count_dead(self, *, cap: int) -> tuple[int, float]:
        """Count dead letters, at most `cap`, and say for how many seconds the oldest one has been dead."""
        row = (await self.look(self._sql["count_dead"], cap))[0]
        return row["letters"], max(0.0, row["oldest"])

    async def acts(self, wanted: AuditFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first."""
        args = (before_id, wanted.saga_id, wanted.who, wanted.verb, limit)
        return [as_audit(CODEC, row) for row in await self.look(self._sql["list_audits"], *args)]

    async def marks(self) -> Mapping[str, str]:
        """Return texts that are others once something has changed."""
        of_coordinator = Side.COORDINATOR in await self.sides()
        database = (await self._fetch("marks_of_database"))[0]
        return marks_of(database, (await self._fetch("marks_of_coordinator"))[0] if of_coordinator else None)

    async def saga_mark(self, saga_id: str) -> str:
        """Return a text that is another one whenever something of a saga has changed here, "" without any row."""
        sides = await self.sides()
        names = [("revision_of_instance", Side.COORDINATOR), ("revision_of_runs", Side.PARTICIPANT)]
        rows: list[Record] = []
        for name in (*(name for name, side in names if side in sides), "revision_of_rows"):
            rows += await self._fetch(name, saga_id)
        return saga_mark_of(rows)


def picked(query: SagaQuery, after: InstancePlace | None, limit: int) -> tuple[Source, ...]:
    """Return where the sagas of a query are; what an index holds is not looked up row by row."""
    if not _is_in_index(query):
        return sources_of(query)
    started_at, saga_id = after if after is not None else (None, None)
    return (Source(name="sagas_picked", args=(*_in_index(query), started_at, saga_id, limit)),)


def counting(sql: Mapping[str, str], query: SagaQuery, cap: int) -> tuple[str, tuple[object, ...]]:
    """Return the statement that counts what a query finds, and what it is asked with."""
    if _is_in_index(query):
        return sql["count_picked"], (*_in_index(query), cap)
    text, args = count_sql(sql, sources_of(query), cap)
    return text, (*asked(query, None), *args)


def _is_in_index(query: SagaQuery) -> bool:
    return sources_of(query) == (Source(name="sagas_started"),) and query.wanted.ended_before is None


def _in_index(query: SagaQuery) -> tuple[object, ...]:
    wanted = query.wanted
    names = (wanted.saga, wanted.version, wanted.tenant, list(wanted.phases))
    return (*names, wanted.started_from, wanted.started_before)


def asked(query: SagaQuery, after: InstancePlace | None) -> tuple[object, ...]:
    """Return what a list itself is asked with."""
    wanted = query.wanted
    started_at, saga_id = after if after is not None else (None, None)
    ids, first, behind = range_of(query)
    return (
        *(wanted.saga, wanted.version, list(wanted.phases), wanted.tenant, wanted.step, wanted.error),
        *(wanted.started_from, wanted.started_before, wanted.ended_from, wanted.ended_before),
        *(list(ids), first, behind, started_at, saga_id),
    )
