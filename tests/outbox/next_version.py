"""Change a database as the next version's migrations will: they add columns and tables, each with a default."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import asyncpg

NUMBER = 9001
TABLES = """
    select relname from pg_class
    where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition
        and relname like 'saga_%'
"""


def columns(table: str, kind: str) -> list[str]:
    """Return what adds to a table what a row may well have one day."""
    return [
        f"alter table {table} add column later_text text not null default 'later'",
        f"alter table {table} add column later_number {kind} default 7",
        f"alter table {table} add column later_nothing {kind}",
    ]


def remembered(component: str, phase: str, more: str = "", value: str = "") -> str:
    return (
        f"insert into saga_migration (component, number, name, phase, checksum{more}) "
        f"values ('{component}', {NUMBER}, 'later', '{phase}', 'later'{value})"
    )


async def upgrade_postgres(url: str) -> None:
    """Add to all tables that there are."""
    connection = await asyncpg.connect(url)
    try:
        for row in await connection.fetch(TABLES):
            for statement in columns(row["relname"], "bigint"):
                await connection.execute(statement)
        await connection.execute("create table if not exists saga_later (id bigint primary key)")
        for component in ("shared", "participant", "coordinator"):
            await connection.execute(remembered(component, "before"))
    finally:
        await connection.close()


def upgrade_sqlite(path: str) -> None:
    """Add to all tables that there are."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        found = connection.execute("select name from sqlite_master where type = 'table' and name like 'saga_%'")
        for (table,) in found.fetchall():
            for statement in columns(table, "integer"):
                connection.execute(statement)
        connection.execute("create table if not exists saga_later (id integer primary key)")
        for component in ("shared", "participant", "coordinator"):
            connection.execute(remembered(component, "before", ", applied_at", ", 1"))
