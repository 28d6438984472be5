from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from outbox.postgres import PostgresSettings, PostgresStore
from saga._core.rows import Changes
from saga.errors import Contended
from saga.ports import Store
from tests.contracts.inbox_contract import KEEP_DAYS, InboxContract, entry, known
from tests.contracts.store_rows import claim, put
from tests.outbox.test_postgres import PostgresBench

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

DAYS = """
    select substring(c.relname from 'saga_inbox_(\\d{8})$') as day
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where substring(c.relname from 'saga_inbox_(\\d{8})$') is not null order by 1
"""


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestPostgresInbox(InboxContract):
    pass


async def days(store: Store) -> list[date]:
    async with store.unit(claim()) as unit:
        return [date.fromisoformat(row["day"]) for row in await unit.db.fetch(DAYS)]


async def test_a_day_is_made_ahead_and_dropped_in_one_piece(bench: PostgresBench) -> None:
    today = (await bench.now()).date()
    assert await bench.store.prune_inbox(10, KEEP_DAYS) == 0
    assert await days(bench.store) == [today + timedelta(days=ahead) for ahead in range(-1, 4)]
    late = today - timedelta(days=KEEP_DAYS + 1)
    async with bench.store.unit(claim()) as unit:
        await unit.db.execute(
            f"create table saga_inbox_{late:%Y%m%d} partition of saga_inbox for values from ('{late}') "
            f"to ('{late + timedelta(days=1)}')"
        )
    await put(bench.store, Changes(inbox=(entry(today), entry(late))))
    assert await bench.other.prune_inbox(10, KEEP_DAYS) == 0
    assert late not in await days(bench.store)
    assert await known(bench.store, entry(today), entry(late)) == {entry(today).key}


async def test_a_day_that_has_rows_already_stays_in_the_last_partition(bench: PostgresBench) -> None:
    today = (await bench.now()).date()
    await put(bench.store, Changes(inbox=(entry(today),)))
    await bench.store.prune_inbox(10, KEEP_DAYS)
    assert today not in await days(bench.store)
    assert today + timedelta(days=1) in await days(bench.store)
    assert await known(bench.store, entry(today)) == {entry(today).key}


async def test_who_finds_the_table_busy_leaves_it_for_later(bench: PostgresBench) -> None:
    today = (await bench.now()).date()
    async with bench.other.unit(claim()) as unit:
        await unit.write(Changes(inbox=(entry(today),)))
        with pytest.raises(Contended):
            await bench.store.prune_inbox(10, KEEP_DAYS)
    await bench.store.prune_inbox(10, KEEP_DAYS)
    assert today + timedelta(days=3) in await days(bench.store)


async def test_the_inbox_may_lie_in_a_schema(database: str) -> None:
    async with PostgresStore(database, settings=PostgresSettings(schema="shop", pool_size=2)) as store:
        await store.migrate()
        await store.prune_inbox(10, KEEP_DAYS)
        one = entry(date(2026, 1, 1))
        await put(store, Changes(inbox=(one,)))
        assert await known(store, one) == {one.key}
        async with store.unit(claim()) as unit:
            found = await unit.db.fetch("select schemaname from pg_tables where tablename like 'saga\\_inbox\\_2%'")
    assert {row["schemaname"] for row in found} == {"shop"}


async def test_who_does_not_own_the_tables_deletes_row_by_row(bench: PostgresBench) -> None:
    raw: Any = await asyncpg.connect(bench.url)
    role = f"lowly_{abs(hash(bench.url)) % 10**9}"
    try:
        await raw.execute(f"create role {role}")
        await raw.execute(
            f"grant select, insert on saga_inbox to {role}; grant select, delete on saga_inbox_rest to {role}"
        )
        old = (await bench.now()).date() - timedelta(days=KEEP_DAYS + 1)
        await put(bench.store, Changes(inbox=(entry(old),)))
        sql = bench.store._sql["inbox_days"]  # pyright: ignore[reportPrivateUsage]
        assert (await raw.fetchrow(sql))["owned"] is True
        await raw.execute(f"set role {role}")
        assert (await raw.fetchrow(sql))["owned"] is False
        gone = bench.store._sql["prune_inbox_rest"]  # pyright: ignore[reportPrivateUsage]
        assert (await raw.fetchrow(gone, 10, old + timedelta(days=1)))["rows"] == 1
    finally:
        await raw.execute(f"reset role; drop owned by {role}; drop role {role}")
        await raw.close()
