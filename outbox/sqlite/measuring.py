"""Count what is in the tables, on SQLite; see `saga.ports.metering.Measured`."""

from __future__ import annotations

from outbox.measuring import Row, measuring_sql, reading_of
from outbox.sqlite.keeping import SqliteKeeping
from saga._core.measuring import StoreReading


class SqliteMeasuring(SqliteKeeping):
    """Be the part of a store that is counted."""

    async def measure(self) -> StoreReading:
        """Count in one query."""
        rows = await self._database.read(measuring_sql(self.component, self._sql))
        return reading_of(
            [Row(row["what"], row["name"], row["kind"], row["rows"], self._age(row["oldest"])) for row in rows]
        )
