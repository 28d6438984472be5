"""Be a database as a console looks at it, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import cast

from outbox.overseeing import (
    Overseen,
    Source,
    as_census,
    as_line,
    as_minute,
    count_sql,
    list_sql,
    merged,
    range_of,
    sources_of,
)
from outbox.postgres.base import BEGIN
from outbox.postgres.driver import Record
from outbox.postgres.operating import PostgresOperatingStore
from outbox.postgres.unit import CODEC
from saga._core.inspecting import InstancePlace
from saga._core.overview import Census, Minute
from saga._core.sagas import SagaLine, SagaQuery

# Most filters are empty: only a plan made for the values given knows that. The coordinator's table may be large and its
# statistics old; whatever a console asks has an index.
LOOKING = (
    f"{BEGIN} READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off; "
    "SET LOCAL jit = off; SET LOCAL statement_timeout = '10s'"
)


class PostgresOverseeingStore(Overseen, PostgresOperatingStore):
    """Oversee a participant's or a coordinator's database; see `saga.ports.overseeing.OverseeingStore`."""

    codec = CODEC

    async def rows_of(self, name: str, *args: object) -> list[Record]:
        """Run one of our queries."""
        return await self._fetch(name, *args)

    async def looked(self, name: str, *args: object) -> list[Record]:
        """Run one of our queries as `look` does."""
        return await self.look(self._sql[name], *args)

    def listed(self, values: Collection[int]) -> object:
        """Return numbers as an array."""
        return list(values)

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

    async def count_dead(self, *, cap: int) -> tuple[int, float]:
        """Count dead letters, at most `cap`, and say for how many seconds the oldest one has been dead."""
        row = (await self.look(self._sql["count_dead"], cap))[0]
        return row["letters"], max(0.0, row["oldest"])


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
