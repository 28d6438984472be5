"""Delete what is old and count what is open, on PostgreSQL; see `saga.ports.keeping`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outbox.postgres.driver import Record
from outbox.pruner import aging_of, query_of
from outbox.sql import Component
from saga._core.keeping import Aging, OpenRows, RowCaps


class PostgresKeeping:
    """Be the part of a store that keeps its tables small."""

    component: Component
    _sql: Mapping[str, str]

    async def _fetch(self, name: str, *args: object) -> list[Record]:
        raise NotImplementedError

    @property
    def aging(self) -> Sequence[Aging]:
        """Return what is deleted by age here, in the order in which it has to be."""
        return [what for what in aging_of(self.component) if query_of(self.component, what) in self._sql]

    async def prune(self, what: Aging, limit: int, age_seconds: float) -> int:
        """Delete up to `limit` rows that are that old and owe nothing, skipping what others have locked."""
        return int((await self._fetch(query_of(self.component, what), limit, age_seconds))[0]["rows"])

    async def open_rows(self, caps: RowCaps) -> OpenRows:
        """Count the open rows, each kind up to its cap; a coordinator has those of its outbox."""
        if self.component is Component.COORDINATOR:
            row = (await self._fetch("open_outbox", caps.outbox_rows or 0))[0]
            return OpenRows(outbox_rows=row["outbox_rows"], outbox_age_seconds=max(0.0, row["outbox_age"]))
        limits = (caps.outbox_rows or 0, caps.waiting_deliveries or 0, caps.open_runs or 0)
        row = (await self._fetch("open_rows", *limits))[0]
        return OpenRows(
            outbox_rows=row["outbox_rows"],
            waiting_deliveries=row["waiting_deliveries"],
            open_runs=row["open_runs"],
            outbox_age_seconds=max(0.0, row["outbox_age"]),
        )
