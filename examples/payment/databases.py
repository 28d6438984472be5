"""Read the services' databases from outside; `postgres.py` does it for PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio.to_thread

Row = Mapping[str, Any]
Query = Callable[[str], Awaitable[list[Row]]]
"""Run one statement and return its rows."""


def sqlite_query(path: Path) -> Query:
    """Return a reader of one SQLite file."""

    def read(sql: str) -> list[Row]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    async def query(sql: str) -> list[Row]:
        return await anyio.to_thread.run_sync(read, sql)

    return query
