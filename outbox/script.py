"""Write the migrations down as one SQL script, for people who run it themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outbox.sql import MIGRATION_LOCK, Component, Dialect, Migration, Phase, checked_schema, migrations, queries
from saga.errors import SettingsError


def script(
    dialect: Dialect, components: Sequence[Component], *, schema: str | None, number: int, phase: Phase | None
) -> str:
    """Return what brings an empty database, or one at `number`, to this version, in one transaction.

    Every migration is followed by the row that remembers it. Raises SettingsError for a schema that cannot be.
    """
    if dialect is Dialect.SQLITE and schema is not None:
        raise SettingsError("--schema belongs to PostgreSQL: leave it out with --dialect sqlite")
    checked_schema(schema)
    wanted = [
        migration
        for component in components
        for migration in migrations(dialect, component, schema)
        if migration.number >= number and phase in (None, migration.phase)
    ]
    lines = ["-- One migration at a time in a database; the lock is the one that saga itself takes.", "begin;"]
    if dialect is Dialect.POSTGRES:
        lines += ["set local lock_timeout = '5s';", f"select pg_advisory_xact_lock({MIGRATION_LOCK});"]
    if schema is not None:
        lines.append(f'create schema if not exists "{schema}";')
    lines.append(queries(dialect, schema)["migration_table"] + ";")
    for migration in wanted:
        lines += _written(dialect, migration, queries(dialect, schema)["migration_applied"])
    return "\n".join([*lines, "commit;", ""])


def _written(dialect: Dialect, migration: Migration, remembered: str) -> Iterator[str]:
    yield ""
    yield f"-- {migration.component} {migration.number:04}_{migration.name} ({migration.phase})"
    yield migration.sql.strip()
    row = (migration.component, migration.number, migration.name, migration.phase.value, migration.checksum)
    values = [str(value) if isinstance(value, int) else f"'{value}'" for value in row]
    if dialect is Dialect.SQLITE:
        values.append("cast(strftime('%s', 'now') as integer) * 1000000")
    yield f"{remembered.partition(' values ')[0]} values ({', '.join(values)});"
