from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from outbox.postgres import PostgresSettings, PostgresStore
from saga.errors import Contended
from tests.contracts.locks_contract import LocksContract, asks, release, seen, take
from tests.contracts.store_rows import claim, saga_id
from tests.outbox.test_postgres import PostgresBench

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestPostgresLocks(LocksContract):
    pass


async def test_the_tables_may_lie_in_a_schema(database: str) -> None:
    settings = PostgresSettings(schema="shop", pool_size=2)
    async with PostgresStore(database, settings=settings) as store:
        await store.migrate()
        bench = PostgresBench(database)
        one = asks(saga_id(), await bench.now())
        await take(store, one)
        assert (await seen(store, one)).holder == one.saga_id
        assert await release(store, one.saga_id) == 1


async def test_who_waits_for_an_entity_gives_way_within_the_claims_time(bench: PostgresBench) -> None:
    one, two = asks(saga_id(), await bench.now()), asks(saga_id(), await bench.now())
    async with bench.store.unit(claim()) as unit:
        await unit.see_lock(one)
        with pytest.raises(Contended):
            async with bench.other.unit(claim(timeout=0.01)) as other:
                await other.see_lock(two)
