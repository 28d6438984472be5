"""Fill tables by SQL from a few real rows: what would take hours to come about."""

from __future__ import annotations

from typing import Any

COLUMNS = """
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type
from pg_attribute a where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
    and a.attidentity = '' and a.attgenerated = '' order by a.attnum
"""
SAGA_ID = "md5('clone' || n)::uuid::text"
"""The ID of the n-th clone of a saga, the same in every table."""


async def clone(connection: Any, table: str, count: int, where: str = "true", **changed: str) -> None:
    """Insert `count` copies of the table's rows; `changed` gives columns as SQL over the number `n`, from 1 on."""
    columns = {row["name"]: row["type"] for row in await connection.fetch(COLUMNS, table)}
    unknown = set(changed) - set(columns)
    assert not unknown, f"{table} has no {', '.join(sorted(unknown))}"
    values = [f"({changed[name]})::{columns[name]}" if name in changed else f"t.{name}" for name in columns]
    await connection.execute(
        f"insert into {table} ({', '.join(columns)}) select {', '.join(values)} "
        f"from (select * from {table} where {where}) t, generate_series(1, $1::bigint) n",
        count,
        timeout=1800,
    )
