"""Be what both PostgreSQL stores share: the pool, the migrations and the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from outbox.messages import as_outbox
from outbox.postgres.driver import Pool, Record
from outbox.postgres.measuring import PostgresMeasuring
from outbox.postgres.parts import Composer
from outbox.postgres.schema import BEGIN, PostgresSchema
from outbox.postgres.settings import PgBouncer, PostgresSettings, read_url, shown
from outbox.sql import Dialect, checked_schema, queries
from saga._core.keeping import Publishing
from saga._core.rows import OutboxRow

__all__ = ["BEGIN", "PostgresBase"]


class PostgresBase(PostgresSchema, PostgresMeasuring):
    """Own the pool; an async context manager."""

    def __init__(self, url: str, *, settings: PostgresSettings | None = None, pool: Pool | None = None) -> None:
        """Take the connections from `pool`, or from one of its own to `url`; raises SettingsError."""
        url, self._settings = read_url(url, settings)
        self._schema = checked_schema(self._settings.schema)
        direct = self._settings.pgbouncer is PgBouncer.NONE
        self._pool = pool or Pool(url, self._settings, "" if direct else self._settings.local)
        self._sql = queries(Dialect.POSTGRES, self._schema)
        self._composer = Composer(self._sql)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self._pool.url)!r})"

    async def __aenter__(self) -> Self:
        """Connect; raises SettingsError for a refused user or database, StoreUnavailable."""
        await self._pool.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.close()

    def publish_by(self, publishing: Publishing) -> None:
        """Write what is to be published where the relay or a connector finds it; see `saga.ports.keeping.Capturing`."""
        self._composer.publishing = publishing

    # --- the outbox ------------------------------------------------------------------------------------------

    async def delete(self, seqs: Sequence[int]) -> None:
        """Delete published rows in one statement."""
        if seqs:
            await self._fetch("delete_outbox", list(seqs), len(seqs))

    async def sweep(
        self,
        owner: str,
        *,
        older_than_seconds: float,
        limit: int,
        in_hand: frozenset[int],
        lease_seconds: float,
    ) -> Sequence[OutboxRow]:
        """Take or renew the sweeping lease, if there is something to sweep, and return a page of old rows."""
        rows = await self._fetch("sweep", older_than_seconds, list(in_hand), limit, owner, lease_seconds)
        return [as_outbox(row) for row in rows]

    async def committed(self, seqs: Sequence[int]) -> Sequence[OutboxRow]:
        """Return those of the rows that can be seen."""
        return [as_outbox(row) for row in await self._fetch("committed_outbox", list(seqs))]

    async def pending(self) -> tuple[int, float]:
        """Return the number of rows and the age of the oldest in seconds."""
        row = (await self._fetch("pending_outbox"))[0]
        return row["rows"], row["age"]

    async def _fetch(self, name: str, *args: object) -> list[Record]:
        async with self._pool.link() as link:
            return await link.fetch(self._sql[name], args)

    async def _fetch_all(self, sql: str) -> list[Record]:
        async with self._pool.link() as link:
            return await link.fetch(sql, ())
