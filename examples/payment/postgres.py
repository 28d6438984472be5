"""Create the services' databases on a PostgreSQL server, and read them from outside."""

from __future__ import annotations

import asyncpg

from examples.payment.databases import Query, Row


def postgres_query(url: str) -> Query:
    """Return a reader of one PostgreSQL database."""

    async def query(sql: str) -> list[Row]:
        connection = await asyncpg.connect(url)
        try:
            return [dict(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return query


async def create_database(server: str, name: str) -> None:
    """Create a database on a server unless it is there; `server` is the URL of any database of it."""
    connection = await asyncpg.connect(server)
    try:
        if await connection.fetchval("select 1 from pg_database where datname = $1", name) is None:
            await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
