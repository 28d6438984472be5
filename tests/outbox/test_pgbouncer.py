# ruff: noqa: PT012 - a unit of work is left by the error
"""Run a store behind a real pgbouncer in transaction mode; skipped where none is installed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from datetime import timedelta

import anyio
import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from outbox.postgres import PostgresCoordinationStore, PostgresStore
from outbox.sqlalchemy.stores import SqlAlchemyStore
from saga import NOTHING, Ending, Event, Run, Saga, Service
from saga._core.rows import Changes
from saga.app import App, Coordinator
from saga.errors import Contended, SettingsError, StoreUnavailable
from saga.ports import Lock
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.store_contract import LONG_SECONDS, StoreContract, give_prune
from tests.contracts.store_rows import claim, run, saga_id
from tests.outbox.bouncer import SERVERS, PgBouncerServer, installed
from tests.outbox.test_postgres import CoordinationBench, PostgresBench, until

__all__ = ["give_prune"]

PROGRAM = installed()

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.postgres,
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed: apt-get install pgbouncer"),
]


@pytest.fixture
def bouncer(database: str) -> Iterator[PgBouncerServer]:
    assert PROGRAM is not None
    with closing(PgBouncerServer(PROGRAM, database)) as server:
        server.start()
        yield server


@pytest.fixture
def url(bouncer: PgBouncerServer) -> str:
    return f"{bouncer.url}?pgbouncer=transaction"


@pytest.fixture
async def bench(database: str, url: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    bench.store, bench.other = PostgresStore(url), PostgresStore(url)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestStoreBehindPgBouncer(StoreContract):
    pass


class TestCoordinationBehindPgBouncer(CoordinationContract):
    @pytest.fixture
    async def bench(self, database: str, url: str) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(database)
        bench.store, bench.other = PostgresCoordinationStore(url), PostgresCoordinationStore(url)
        bench.participant = PostgresStore(url)
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            yield bench


async def test_without_the_setting_it_says_what_to_write(bouncer: PgBouncerServer) -> None:
    with pytest.raises(SettingsError, match=r"\?pgbouncer=transaction"):
        await PostgresStore(bouncer.url).__aenter__()


async def test_more_clients_than_servers_do_not_meet_each_others_statements(bench: PostgresBench, url: str) -> None:
    async with PostgresStore(url) as third:
        stores = (bench.store, bench.other, third)

        async def work(store: PostgresStore, number: int) -> None:
            for _ in range(5):
                saga = saga_id()
                async with store.unit(claim(saga)) as unit:
                    await unit.read([saga], [(saga, "stock.reserve", "")])
                    assert await unit.db.fetch("select $1::int + $2::int as sum", number, 1) == [{"sum": number + 1}]
                    await unit.write(Changes(insert_runs=(run(saga),)))
                assert len(await store.load_runs([(saga, "stock.reserve", "")])) == 1

        with anyio.fail_after(4 * LONG_SECONDS):
            async with anyio.create_task_group() as tasks:
                for number in range(4 * SERVERS):
                    tasks.start_soon(work, stores[number % 3], number)


async def test_the_timeouts_are_those_of_the_transaction(database: str, url: str, bench: PostgresBench) -> None:
    saga = saga_id()
    fast = f"{url}&statement_timeout_seconds=0.2&idle_in_transaction_seconds=0.3"
    async with PostgresStore(fast) as store:
        async with bench.other.unit(claim(saga, lock=Lock.EXCLUSIVE)):
            with pytest.raises(Contended):
                async with store.unit(claim(saga)):
                    pytest.fail("the lock is taken")
        with pytest.raises(asyncpg.QueryCanceledError):
            async with store.unit(claim()) as unit:
                await unit.db.fetch("select pg_sleep(20)")
        with pytest.raises(StoreUnavailable):
            async with store.unit(claim()) as unit:
                await unit.db.fetch("select 1")
                await until(database, "select count(*) from pg_stat_activity where state ~ 'idle in tr'", 1)
                await until(database, "select count(*) from pg_stat_activity where state ~ 'idle in tr'", 0)
                await unit.write(Changes(insert_runs=(run(saga),)))
    # Nothing of it stays with a server connection that others get.
    async with bench.store.unit(claim()) as unit:
        assert await unit.db.fetch("select current_setting('statement_timeout') as t") == [{"t": "30s"}]
    connection = await asyncpg.connect(url.partition("?")[0], statement_cache_size=0)
    assert await connection.fetchval("show statement_timeout") == "0"
    await connection.close()


async def test_an_engine_behind_it(url: str) -> None:
    # As SQLAlchemy's own documentation has it: no pool of its own, no prepared statements that are kept.
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://").partition("?")[0],
        poolclass=NullPool,
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        },
    )
    async with SqlAlchemyStore(engine) as store:
        await store.migrate()
        saga = saga_id()
        for number in range(3):
            async with store.unit(claim(saga)) as unit:
                turn = getattr(unit, "open_session")()  # noqa: B009 - not in the port
                assert await turn.session.scalar(text("select 1 + :n"), {"n": number}) == number + 1
                await turn.close()
                await unit.read([saga], [])
    await engine.dispose()


class Placed(Event, name="order.placed", version=1):
    number: int


class Reserved(Event, name="stock.reserved", version=1):
    number: int


async def test_an_app_behind_it(url: str) -> None:
    saga = Saga("checkout", version=1, timeout=timedelta(minutes=5))
    orders, inventory = Service("orders"), Service("inventory")
    place = orders.starts(saga, Placed)

    @inventory.step(saga, compensation=NOTHING)
    async def reserve(order: Placed, run: Run) -> Reserved:
        await run.db.fetch("select $1::int", order.number)
        return Reserved(number=order.number)

    async with App([orders, inventory], store=url, transport="memory://", coordinator=Coordinator()):
        handles = [await place(Placed(number=number)) for number in range(20)]
        for handle in handles:
            assert (await handle.outcome(2 * LONG_SECONDS)).ending is Ending.COMPLETED
