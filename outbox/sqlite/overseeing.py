"""Be a database as a console looks at it, on SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from outbox.audits import as_audit
from outbox.codec import Row
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
from outbox.sqlite.base import json_list
from outbox.sqlite.operating import SqliteOperatingStore
from outbox.sqlite.unit import CODEC
from saga._core.audit import AuditRow
from saga._core.inspecting import InstancePlace
from saga._core.letters import LetterFilter
from saga._core.overview import Census, Minute
from saga._core.queues import AuditFilter, LetterLine
from saga._core.rows import InstanceRow
from saga._core.running import PartitionState, StoredPlan
from saga._core.sagas import SagaLine, SagaQuery
from saga.ports.overseeing import Side


class SqliteOverseeingStore(SqliteOperatingStore):
    """Oversee a participant's or a coordinator's file; see `saga.ports.overseeing.OverseeingStore`."""

    async def _rows(self, name: str, *args: object) -> list[Mapping[str, Any]]:
        return await self._database.read(self._sql[name], args)

    # --- many sagas ------------------------------------------------------------------------------------------

    async def lines(
        self, query: SagaQuery, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[SagaLine]:
        """Read a page of sagas, newest first, behind `after`."""
        pages: list[list[SagaLine]] = []
        for source in own(sources_of(query)):
            sql = list_sql(self._sql, source, limit)
            rows = await self._database.read(sql, (*asked(query, after), *source.args))
            pages.append([as_line(CODEC, row) for row in rows])
        return merged(pages, limit)

    async def count(self, query: SagaQuery, *, cap: int) -> Mapping[str, int]:
        """Count what a query finds by phase, about `cap` in all at most."""
        sql, args = count_sql(self._sql, own(sources_of(query)), cap)
        rows = await self._database.read(sql, (*asked(query, None), *args))
        return {row["phase"]: row["sagas"] for row in rows}

    async def census(self, *, oldest: int = 5) -> Census:
        """Count the open sagas and read those open for longest."""
        counted = await self._rows("open_census")
        everything = SagaQuery()
        sql = list_sql(self._sql, Source(name="sagas_open"), oldest).replace(" desc", "")
        first = await self._database.read(sql, asked(everything, None))
        return as_census(counted, [as_line(CODEC, row) for row in first])

    async def minutes(self, starts: Sequence[datetime], *, cap: int = 100_000) -> Sequence[Minute]:
        """Count what started and ended in the minutes that begin then, at most `cap` of each."""
        times = json_list([CODEC.to_time(at) for at in starts])
        return [as_minute(CODEC, row) for row in await self._rows("count_minutes", times, cap)]

    async def partitions(self) -> Sequence[PartitionState]:
        """Read how far the coordinator is in each partition of `saga.runs`."""
        now = self._clock.now()
        return [as_partition(CODEC, row, now) for row in await self._rows("oversee_cursors")]

    async def stored_plans(self) -> Sequence[StoredPlan]:
        """Read all plans with the time they were stored at."""
        return [as_stored_plan(CODEC, row) for row in await self._rows("oversee_plans")]

    # --- one saga --------------------------------------------------------------------------------------------

    async def instance(self, saga_id: str) -> InstanceRow | None:
        """Read one saga, None when the coordinator knows none of that ID."""
        rows = await self._rows("oversee_instance", saga_id)
        return CODEC.as_instance(rows[0]) if rows else None

    async def saga_of_trace(self, trace_id: str, *, newest: int = 20_000) -> str:
        """Return the saga recorded under a trace, "" when it is none of the newest."""
        rows = await self._rows("saga_of_trace", trace_id, newest)
        return str(rows[0]["saga_id"]) if rows else ""

    # --- either side -----------------------------------------------------------------------------------------

    async def sides(self) -> frozenset[Side]:
        """Return whose tables there are."""
        found = (await self._rows("tables"))[0]
        return frozenset(side for side in Side if found[side.value])

    async def dead_lines(self, wanted: LetterFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[LetterLine]:
        """Read a page of dead letters without their messages, newest first."""
        texts = (wanted.service, wanted.saga_id, wanted.step, wanted.error)
        args = (before_id, *texts, json_list(wanted.ids), wanted.up_to_id, limit)
        return [as_letter_line(CODEC, row) for row in await self._rows("list_dead_lines", *args)]

    async def count_dead(self, *, cap: int) -> tuple[int, float]:
        """Count dead letters, at most `cap`, and say for how many seconds the oldest one has been dead."""
        row = (await self._rows("count_dead", cap))[0]
        return row["letters"], 0.0 if row["oldest"] is None else max(0.0, (self._now() - row["oldest"]) / 1e6)

    async def acts(self, wanted: AuditFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first."""
        args = (before_id, wanted.saga_id, wanted.who, wanted.verb, limit)
        return [as_audit(CODEC, row) for row in await self._rows("list_audits", *args)]

    async def marks(self) -> Mapping[str, str]:
        """Return texts that are others once something has changed."""
        of_coordinator = Side.COORDINATOR in await self.sides()
        database = (await self._rows("marks_of_database"))[0]
        return marks_of(database, (await self._rows("marks_of_coordinator"))[0] if of_coordinator else None)

    async def saga_mark(self, saga_id: str) -> str:
        """Return a text that is another one whenever something of a saga has changed here, "" without any row."""
        sides = await self.sides()
        names = [("revision_of_instance", Side.COORDINATOR), ("revision_of_runs", Side.PARTICIPANT)]
        rows: list[Row] = []
        for name in (*(name for name, side in names if side in sides), "revision_of_rows"):
            rows += [dict(row) for row in await self._rows(name, saga_id)]
        return saga_mark_of(rows)


def own(sources: Sequence[Source]) -> list[Source]:
    """Return sources with lists written as SQLite's `json_each` takes them."""
    return [
        Source(
            name=source.name,
            args=tuple(orjson.dumps(value).decode() if isinstance(value, list) else value for value in source.args),
        )
        for source in sources
    ]


def asked(query: SagaQuery, after: InstancePlace | None) -> tuple[object, ...]:
    """Return what a list itself is asked with."""
    wanted = query.wanted
    started_at, saga_id = after if after is not None else (None, None)
    ids, first, behind = range_of(query)
    times = (wanted.started_from, wanted.started_before, wanted.ended_from, wanted.ended_before)
    return (
        *(wanted.saga, wanted.version, orjson.dumps(wanted.phases).decode(), wanted.tenant, wanted.step, wanted.error),
        *(CODEC.time(at) for at in times),
        *(orjson.dumps(ids).decode(), first, behind, CODEC.time(started_at), saga_id),
    )
