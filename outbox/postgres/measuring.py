"""Count what is in the tables, on PostgreSQL; see `saga.ports.metering.Measured`."""

from __future__ import annotations

from outbox.measuring import Row, measuring_sql, reading_of
from outbox.postgres.driver import Record
from outbox.postgres.keeping import PostgresKeeping
from saga._core.measuring import StoreReading


class PostgresMeasuring(PostgresKeeping):
    """Be the part of a store that is counted."""

    async def measure(self) -> StoreReading:
        """Count in one query."""
        rows = await self._fetch_all(measuring_sql(self.component, self._sql))
        return reading_of([Row(row["what"], row["name"], row["kind"], row["rows"], row["age"]) for row in rows])

    async def _fetch_all(self, sql: str) -> list[Record]:
        raise NotImplementedError
