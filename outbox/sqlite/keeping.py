"""Delete what is old and count what is open, on SQLite; see `saga.ports.keeping`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from outbox.codec import from_micros
from outbox.pruner import aging_of, query_of
from outbox.sql import Component
from outbox.sqlite.driver import Database, run
from saga._core.keeping import DAY_SECONDS, Aging, OpenRows, RowCaps
from saga._core.times import format_time

_PARAMETER = re.compile(r"\?(\d)")


class SqliteKeeping:
    """Be the part of a store that keeps its tables small."""

    component: Component
    _sql: Mapping[str, str]

    @property
    def _database(self) -> Database:
        raise NotImplementedError

    def _now(self, later_seconds: float = 0.0) -> int:
        raise NotImplementedError

    @property
    def aging(self) -> Sequence[Aging]:
        """Return what is deleted by age here, in the order in which it has to be."""
        return [what for what in aging_of(self.component) if query_of(self.component, what) in self._sql]

    async def prune(self, what: Aging, limit: int, age_seconds: float) -> int:
        """Delete up to `limit` rows that are that old and owe nothing."""
        sql = self._sql[query_of(self.component, what)]
        day_ago = format_time(from_micros(self._now(-DAY_SECONDS)))[:19]
        args = (limit, self._now(-age_seconds), day_ago, self._now())
        used = max(int(number) for number in _PARAMETER.findall(sql))
        async with self._database.transaction() as connection:
            return run(connection, sql, args[:used]).touched

    async def open_rows(self, caps: RowCaps) -> OpenRows:
        """Count the open rows, each kind up to its cap; a coordinator has those of its outbox."""
        if self.component is Component.COORDINATOR:
            row = (await self._database.read(self._sql["open_outbox"], (caps.outbox_rows or 0,)))[0]
            return OpenRows(outbox_rows=row["outbox_rows"], outbox_age_seconds=self._age(row["oldest"]))
        limits = (caps.outbox_rows or 0, caps.waiting_deliveries or 0, caps.open_runs or 0)
        row = (await self._database.read(self._sql["open_rows"], limits))[0]
        return OpenRows(
            outbox_rows=row["outbox_rows"],
            waiting_deliveries=row["waiting_deliveries"],
            open_runs=row["open_runs"],
            outbox_age_seconds=self._age(row["oldest"]),
        )

    def _age(self, oldest: int | None) -> float:
        return 0.0 if oldest is None else max(0.0, (self._now() - oldest) / 1e6)
