"""Be a database as a console looks at it, on SQLite."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import orjson

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
from outbox.sqlite.base import json_list
from outbox.sqlite.driver import Record
from outbox.sqlite.operating import SqliteOperatingStore
from outbox.sqlite.unit import CODEC
from saga._core.inspecting import InstancePlace
from saga._core.overview import Census, Minute
from saga._core.sagas import SagaLine, SagaQuery


class SqliteOverseeingStore(Overseen, SqliteOperatingStore):
    """Oversee a participant's or a coordinator's file; see `saga.ports.overseeing.OverseeingStore`."""

    codec = CODEC

    async def rows_of(self, name: str, *args: object) -> list[Record]:
        """Run one of our queries."""
        return await self._database.read(self._sql[name], args)

    looked = rows_of

    async def now(self) -> datetime:
        """Read the clock: SQLite has none of its own."""
        return self._clock.now()

    def listed(self, values: Collection[int]) -> object:
        """Return numbers as SQLite's `json_each` takes them."""
        return json_list(values)

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
        counted = await self.rows_of("open_census")
        everything = SagaQuery()
        sql = list_sql(self._sql, Source(name="sagas_open"), oldest).replace(" desc", "")
        first = await self._database.read(sql, asked(everything, None))
        return as_census(counted, [as_line(CODEC, row) for row in first])

    async def minutes(self, starts: Sequence[datetime], *, cap: int = 100_000) -> Sequence[Minute]:
        """Count what started and ended in the minutes that begin then, at most `cap` of each."""
        times = json_list([CODEC.to_time(at) for at in starts])
        return [as_minute(CODEC, row) for row in await self.rows_of("count_minutes", times, cap)]

    async def count_dead(self, *, cap: int) -> tuple[int, float]:
        """Count dead letters, at most `cap`, and say for how many seconds the oldest one has been dead."""
        row = (await self.rows_of("count_dead", cap))[0]
        return row["letters"], 0.0 if row["oldest"] is None else max(0.0, (self._now() - row["oldest"]) / 1e6)


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
