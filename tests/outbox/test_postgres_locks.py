from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import anyio
import pytest

from outbox.postgres import PostgresSettings, PostgresStore
from saga.errors import Contended
from tests.contracts.locks_contract import DAY, LocksContract, asks, due, release, seen, take, wait
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


async def test_a_release_does_not_wake_who_is_about_to_wait_elsewhere(bench: PostgresBench) -> None:
    expires_at = await bench.now() + DAY
    holder, first, second = (asks(saga_id(), expires_at) for _ in range(3))
    await take(bench.store, holder)
    await wait(bench.store, first)

    async def end() -> None:
        await release(bench.other, holder.saga_id)

    async with anyio.create_task_group() as tasks, bench.store.unit(claim()) as unit:
        await unit.wait_for_lock(replace(first, entity="chair"))
        tasks.start_soon(end)
        await bench.until_somebody_waits()
    assert await due(bench.store) == []
    await wait(bench.store, second)
    assert await release(bench.store, second.saga_id) == 1


async def test_who_waits_for_an_entity_gives_way_within_the_claims_time(bench: PostgresBench) -> None:
    one, two = asks(saga_id(), await bench.now()), asks(saga_id(), await bench.now())
    async with bench.store.unit(claim()) as unit:
        await unit.see_lock(one)
        with pytest.raises(Contended):
            async with bench.other.unit(claim(timeout=0.01)) as other:
                await other.see_lock(two)
