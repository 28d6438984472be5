"""Be what both PostgreSQL stores share: the pool, the migrations and the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from outbox.codec import as_outbox
from outbox.postgres.driver import Link, Pool, Record
from outbox.postgres.parts import Composer
from outbox.postgres.settings import PostgresSettings, shown
from outbox.sql import Component, Dialect, Phase, checked_schema, migrations, queries
from saga._core.rows import OutboxRow

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# One migration at a time in a database, whoever runs it: the number is "saga" in ASCII.
_BEGIN_MIGRATION = (
    f"{BEGIN}; SET LOCAL statement_timeout = '120s'; SELECT pg_advisory_xact_lock({int.from_bytes(b'saga')})"
)


class PostgresBase:
    """Own the pool; an async context manager."""

    component: Component

    def __init__(self, url: str, *, settings: PostgresSettings | None = None) -> None:
        self._settings = settings or PostgresSettings()
        self._schema = checked_schema(self._settings.schema)
        self._pool = Pool(url, self._settings)
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

    async def migrate(self, phase: Phase = Phase.BEFORE) -> None:
        """Bring the tables to this version in one transaction; several processes may do so at once.

        BEFORE adds what this version needs and leaves older replicas at work; AFTER removes what only they needed.
        """
        async with self._pool.transaction(_BEGIN_MIGRATION) as link:
            if self._schema is not None:
                await link.simple(f'create schema if not exists "{self._schema}"')
            await link.simple(self._sql["migration_table"])
            for component in (Component.SHARED, self.component):
                await self._migrate(link, component, phase)

    async def _migrate(self, link: Link, component: Component, phase: Phase) -> None:
        known = {row["number"] for row in await link.fetch(self._sql["migration_known"], (component.value,))}
        for migration in migrations(Dialect.POSTGRES, component, self._schema):
            if migration.number not in known and migration.phase is phase:
                await link.simple(migration.sql)
                args = (component.value, migration.number, migration.name)
                await link.execute(self._sql["migration_applied"], args)

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

    async def committed(self, seqs: Sequence[int]) -> Sequence[int]:
        """Return which of the rows can be seen."""
        rows = await self._fetch("committed_outbox", list(seqs))
        return [row["seq"] for row in rows]

    async def pending(self) -> tuple[int, float]:
        """Return the number of rows and the age of the oldest in seconds."""
        row = (await self._fetch("pending_outbox"))[0]
        return row["rows"], row["age"]

    async def _fetch(self, name: str, *args: object) -> list[Record]:
        async with self._pool.link() as link:
            return await link.fetch(self._sql[name], args)
