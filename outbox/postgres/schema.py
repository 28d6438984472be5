"""Bring the tables of a PostgreSQL database to this version, without stopping those who work on it."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from outbox.codec import Codec, as_it_is
from outbox.postgres.driver import Link, Pool
from outbox.postgres.grants import check_grants, grants_of
from outbox.postgres.settings import pasted, shown
from outbox.schema import MigrationState, as_applied, check_start, check_upgrade, compare, pending
from outbox.sql import MIGRATION_LOCK, Component, Dialect, Migration, Phase, migrations
from saga.errors import Contended

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
TURN_SECONDS = 20.0
LOCK_SECONDS = 5.0
PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 1.0

# One migration at a time in a database. Whoever waits for a table's lock keeps everybody behind it waiting, too.
_BEGIN_MIGRATION = (
    f"{BEGIN}; SET LOCAL lock_timeout = '{TURN_SECONDS:.0f}s'; SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); "
    f"SET LOCAL lock_timeout = '{LOCK_SECONDS:.0f}s'"
)
# `create schema if not exists` asks for the right to create one even where it exists.
_IS_THERE = "select 1 from pg_namespace where nspname = $1"
_CODEC = Codec(as_it_is, as_it_is)


class PostgresSchema:
    """Be the part of a store that knows its tables; see `outbox.schema.SchemaStore`."""

    component: Component
    _pool: Pool
    _schema: str | None
    _sql: Mapping[str, str]

    @property
    def _components(self) -> tuple[Component, ...]:
        return tuple(dict.fromkeys((Component.SHARED, self.component)))

    def _known(self) -> list[Migration]:
        return [each for name in self._components for each in migrations(Dialect.POSTGRES, name, self._schema)]

    async def migrations(self) -> tuple[MigrationState, ...]:
        """Return how every migration of this version and every one applied stands, in their order; changes nothing."""
        async with self._pool.link() as link:
            return await self._states(link)

    async def check_schema(self) -> None:
        """Raise SchemaMismatch unless this version can work on the tables as they are.

        Raises SettingsError with the grants that the user of this process lacks.
        """
        url = self._pool.url
        check_start(await self.migrations(), self.component, shown(url), pasted(url, self._schema))
        await self._check_grants()

    async def _check_grants(self) -> None:
        prefix = "" if self._schema is None else f'"{self._schema}".'
        pairs = [
            (prefix + table, privilege)
            for table, privileges in grants_of(self._components).items()
            for privilege in privileges.split(", ")
        ]
        async with self._pool.link() as link:
            rows = await link.fetch(self._sql["missing_grants"], [list(each) for each in zip(*pairs, strict=True)])
        missing: dict[str, list[str]] = {}
        for row in rows:
            missing.setdefault(row["relation"], []).append(row["privilege"])
        check_grants(missing, rows[0]["role"] if rows else "", shown(self._pool.url))

    async def migrate(self, phase: Phase = Phase.BEFORE) -> None:
        """Bring the tables to this version in one transaction; several processes may do so at once.

        BEFORE adds what this version needs and leaves older replicas at work; AFTER removes what only they needed.
        Where nothing is pending, nothing is locked. A table that is in use is waited for in turns of a few seconds,
        so that those who use it go on. Raises SchemaMismatch, Contended when the table was never to be had.
        """
        end = anyio.current_time() + PATIENCE_SECONDS
        while pending(await self._checked(phase), phase):
            try:
                await self._migrate(phase)
            except Contended as error:
                if anyio.current_time() >= end:
                    raise Contended(
                        f"{shown(self._pool.url)}: the tables were in use for {PATIENCE_SECONDS:g} s, or another "
                        f"migration was running; nothing was changed, try again when less is going on: {error}"
                    ) from error
                await anyio.sleep(PAUSE_SECONDS)

    async def _checked(self, phase: Phase) -> tuple[MigrationState, ...]:
        states = await self.migrations()
        check_upgrade(states, phase, shown(self._pool.url))
        return states

    async def _migrate(self, phase: Phase) -> None:
        async with self._pool.transaction(_BEGIN_MIGRATION) as link:
            if self._schema is not None and not await link.fetch(_IS_THERE, (self._schema,)):
                await link.simple(f'create schema if not exists "{self._schema}"')
            await link.simple(self._sql["migration_table"])
            states = await self._states(link)
            wanted = {(state.component, state.number) for state in pending(states, phase)}
            for migration in self._known():
                if (migration.component, migration.number) in wanted:
                    await link.simple(migration.sql)
                    args = (migration.component.value, migration.number, migration.name)
                    row = (*args, migration.phase.value, migration.checksum)
                    await link.execute(self._sql["migration_applied"], row)

    async def _states(self, link: Link) -> tuple[MigrationState, ...]:
        found = (await link.fetch(self._sql["migration_found"], ()))[0]["found"]
        rows = await link.fetch(self._sql["migration_known"], ()) if found else []
        return compare(self._known(), as_applied(_CODEC, rows, self._components))
