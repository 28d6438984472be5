"""Bring the tables of a SQLite file to this version."""

from __future__ import annotations

from collections.abc import Mapping

from outbox.codec import Codec, from_micros, to_micros
from outbox.schema import MigrationState, as_applied, check_start, check_upgrade, compare, pending
from outbox.sql import Component, Dialect, Migration, Phase, migrations
from outbox.sqlite.driver import Connection, Database, run

_CODEC = Codec(to_micros, from_micros)


class SqliteSchema:
    """Be the part of a store that knows its tables; see `outbox.schema.SchemaStore`."""

    component: Component
    _path: str
    _sql: Mapping[str, str]

    @property
    def _database(self) -> Database:
        raise NotImplementedError

    def _now(self, later_seconds: float = 0.0) -> int:
        raise NotImplementedError

    @property
    def _components(self) -> tuple[Component, ...]:
        return tuple(dict.fromkeys((Component.SHARED, self.component)))

    def _known(self) -> list[Migration]:
        return [each for name in self._components for each in migrations(Dialect.SQLITE, name)]

    async def migrations(self) -> tuple[MigrationState, ...]:
        """Return how every migration of this version and every one applied stands, in their order; changes nothing."""
        found = (await self._database.read(self._sql["migration_found"]))[0]["found"]
        rows = await self._database.read(self._sql["migration_known"]) if found else []
        return compare(self._known(), as_applied(_CODEC, rows, self._components))

    async def check_schema(self) -> None:
        """Raise SchemaMismatch unless this version can work on the tables as they are."""
        check_start(await self.migrations(), self.component, f"sqlite:///{self._path}")

    async def migrate(self, phase: Phase = Phase.BEFORE) -> None:
        """Bring the tables to this version in one transaction; several processes may do so at once.

        Raises SchemaMismatch, Contended.
        """
        async with self._database.transaction() as connection:
            run(connection, self._sql["migration_table"])
            rows = run(connection, self._sql["migration_known"]).rows
            states = compare(self._known(), as_applied(_CODEC, rows, self._components))
            check_upgrade(states, phase, f"sqlite:///{self._path}")
            wanted = {(state.component, state.number) for state in pending(states, phase)}
            for migration in self._known():
                if (migration.component, migration.number) in wanted:
                    self._migrate(connection, migration)

    def _migrate(self, connection: Connection, migration: Migration) -> None:
        for statement in migration.statements():
            run(connection, statement)
        args = (migration.component.value, migration.number, migration.name)
        row = (*args, migration.phase.value, migration.checksum, self._now())
        run(connection, self._sql["migration_applied"], row)
