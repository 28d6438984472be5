# ruff: noqa: PT012 - a unit of work is left by the error
from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.sqlalchemy.stores import SqlAlchemyCoordinationStore, SqlAlchemyStore
from outbox.urls import open_coordination_store, open_store
from saga import Ending, Event, Refusal, Run, Saga, Service
from saga._core.rows import Changes
from saga._runtime.trouble import HandlerTrouble
from saga.app import App, Coordinator
from saga.errors import Contended, NotRunning, SettingsError, StoreUnavailable
from saga.ports import Lock
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.fleet_contract import FleetContract
from tests.contracts.locks_contract import LocksContract
from tests.contracts.session_contract import FIVE_AND_ONE, GOODS, Base, Goods, SessionContract, take, turn
from tests.contracts.store_contract import LONG_SECONDS, StoreContract, give_prune
from tests.contracts.store_rows import SERVICE, claim, outgoing, run, saga_id
from tests.outbox.proxy import Proxy
from tests.outbox.test_postgres import CoordinationBench as PostgresCoordinationBench
from tests.outbox.test_postgres import PostgresBench, ask, until

__all__ = ["give_prune"]

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


def engine_of(url: str, **options: Any) -> AsyncEngine:
    options = {"pool_size": 4, "max_overflow": 0, **options}
    return create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), **options)


@pytest.fixture
async def engine(database: str) -> AsyncGenerator[AsyncEngine]:
    engine = engine_of(database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def other_engine(database: str) -> AsyncGenerator[AsyncEngine]:
    engine = engine_of(database)
    yield engine
    await engine.dispose()


class SqlAlchemyBench(PostgresBench):
    def __init__(self, url: str, engine: AsyncEngine, other: AsyncEngine) -> None:
        super().__init__(url)
        self.store = SqlAlchemyStore(engine)
        self.other = SqlAlchemyStore(other)
        self.coordination = SqlAlchemyCoordinationStore(engine)

    async def free(self, sku: str) -> Any:
        return await ask(self.url, "select free from goods where sku = $1", sku)


@pytest.fixture
async def bench(database: str, engine: AsyncEngine, other_engine: AsyncEngine) -> AsyncGenerator[SqlAlchemyBench]:
    bench = SqlAlchemyBench(database, engine, other_engine)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestSqlAlchemyStore(StoreContract):
    pass


class TestSqlAlchemyLocks(LocksContract):
    pass


class TestSqlAlchemyFleet(FleetContract):
    @pytest.fixture
    async def bench(
        self, database: str, engine: AsyncEngine, other_engine: AsyncEngine
    ) -> AsyncGenerator[SqlAlchemyBench]:
        bench = SqlAlchemyBench(database, engine, other_engine)
        async with bench.store, bench.coordination:
            await bench.store.migrate()
            await bench.coordination.migrate()
            yield bench


class CoordinationBench(PostgresCoordinationBench):
    def __init__(self, url: str, engine: AsyncEngine, other: AsyncEngine) -> None:
        super().__init__(url)
        self.store: PostgresCoordinationStore = SqlAlchemyCoordinationStore(engine)
        self.other: PostgresCoordinationStore = SqlAlchemyCoordinationStore(other)
        self.participant: PostgresStore = SqlAlchemyStore(engine)


class TestSqlAlchemyCoordination(CoordinationContract):
    @pytest.fixture
    async def bench(
        self, database: str, engine: AsyncEngine, other_engine: AsyncEngine
    ) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(database, engine, other_engine)
        async with bench.store, bench.other, bench.participant:
            async with anyio.create_task_group() as tasks:
                for store in (bench.store, bench.participant, bench.other):
                    tasks.start_soon(store.migrate)
            yield bench


# --- a handler's session ----------------------------------------------------------------------------------------


@pytest.fixture
async def goods(bench: SqlAlchemyBench) -> SqlAlchemyBench:
    async with bench.store.unit(claim()) as unit:
        await unit.db.execute(GOODS)
        await unit.db.execute(FIVE_AND_ONE)
    return bench


class TestSessions(SessionContract):
    pass


async def test_contention_in_a_session_burns_no_attempt(goods: SqlAlchemyBench) -> None:
    async def change(run: Run) -> None:
        await run.session.execute(sa.text("set local lock_timeout = 10"))
        (await run.session.get_one(Goods, "book")).free = 1

    async with goods.other.unit(claim()) as first:
        await first.db.execute("update goods set free = 2 where sku = 'book'")
        with pytest.raises(HandlerTrouble) as caught:
            async with goods.store.unit(claim()) as unit:
                try:
                    await turn(unit, change)
                finally:
                    assert getattr(unit, "failure") is not None  # noqa: B009 - not in the port
    assert isinstance(caught.value.met, Contended)
    assert await goods.free("book") == 2


async def test_contention_elsewhere_is_the_handlers_own(goods: SqlAlchemyBench) -> None:
    engine = engine_of(goods.url)

    async def elsewhere(run: Run) -> None:
        await run.session.get_one(Goods, "pen")
        async with engine.begin() as connection:
            await connection.execute(sa.text("set local lock_timeout = 10"))
            await connection.execute(sa.text("update goods set free = 1 where sku = 'book'"))

    async with goods.other.unit(claim()) as first:
        await first.db.execute("update goods set free = 2 where sku = 'book'")
        with pytest.raises(HandlerTrouble) as caught:
            async with goods.store.unit(claim()) as unit:
                await turn(unit, elsewhere)
    assert isinstance(caught.value.error, DBAPIError)
    assert caught.value.met is None
    await engine.dispose()


async def test_a_connection_lost_in_a_session_is_a_database_that_is_away(goods: SqlAlchemyBench) -> None:
    async def lose(run: Run) -> None:
        pid = await run.session.scalar(sa.text("select pg_backend_pid()"))
        await ask(goods.url, "select pg_terminate_backend($1)", pid)
        await run.session.execute(sa.update(Goods).values(free=0))

    with pytest.raises(HandlerTrouble) as caught:
        async with goods.store.unit(claim()) as unit:
            await turn(unit, lose)
    assert isinstance(caught.value.met, StoreUnavailable)
    async with goods.store.unit(claim()) as unit:
        await turn(unit, take)
    assert await goods.free("book") == 3


async def test_a_handler_out_of_time_leaves_no_statement_behind(goods: SqlAlchemyBench) -> None:
    async def hang(run: Run) -> None:
        await run.session.execute(sa.text("select pg_sleep(60)"))

    with pytest.raises(HandlerTrouble, match="no answer"):
        async with goods.store.unit(claim()) as unit:
            await turn(unit, hang, 0.1)
    await until(
        goods.url, "select count(*) from pg_stat_activity where query ~ '^select pg_sleep' and state <> 'idle'", 0
    )
    async with goods.store.unit(claim()) as unit:
        await turn(unit, take)


async def test_a_session_is_there_in_a_handlers_turn_and_with_an_engine_only(bench: SqlAlchemyBench) -> None:
    kept = Run(saga_id="s", step="stock.reserve")
    with pytest.raises(NotRunning, match=r"run\.session"):
        _ = kept.session
    async with PostgresStore(bench.url) as store, store.unit(claim()) as unit:
        with pytest.raises(HandlerTrouble, match="create_async_engine"):
            await turn(unit, take)


# --- connections ------------------------------------------------------------------------------------------------


async def test_engines_that_cannot_be_used_are_refused() -> None:
    for url, told in (("sqlite://", "AsyncEngine|Engine"), ("postgresql+psycopg://h/d", "Engine")):
        with pytest.raises(SettingsError, match=told):
            open_store(sa.create_engine(url))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine = create_async_engine("postgresql+psycopg://h/d")
    for opens in (open_store, open_coordination_store):
        with pytest.raises(SettingsError, match=r"postgresql\+psycopg_?a?s?y?n?c?: make it with"):
            opens(engine)
        with pytest.raises(SettingsError, match=r"write create_async_engine|create_async_engine"):
            opens(object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_server_that_is_not_there_and_a_database_that_is_not(database: str) -> None:
    nobody = engine_of("postgresql://me:hunter2@127.0.0.1:1/db")
    nowhere = engine_of(database + "_nowhere")
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await SqlAlchemyStore(nobody).__aenter__()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"
    with pytest.raises(SettingsError, match="nowhere"):
        await SqlAlchemyStore(nowhere).__aenter__()
    with pytest.raises(StoreUnavailable, match="not open"):
        await SqlAlchemyStore(nobody).pending()


async def test_an_engine_without_a_free_connection_is_waited_for_with_a_bound(database: str) -> None:
    engine = engine_of(database, pool_size=1, pool_timeout=0.05)
    async with SqlAlchemyStore(engine) as store, store.unit(claim()):
        with pytest.raises(StoreUnavailable, match="raise its pool_size"):
            async with store.unit(claim()):
                pytest.fail("there is one connection")
    await engine.dispose()


async def test_timeouts_are_set_in_the_transaction_and_not_left_behind(database: str) -> None:
    engine = engine_of(database, pool_size=1)
    settings = PostgresSettings(statement_timeout_seconds=0.1, idle_in_transaction_seconds=7)
    saga = saga_id()
    async with SqlAlchemyStore(engine, settings=settings) as store, PostgresStore(database) as other:
        async with store.unit(claim()) as unit:
            rows = await unit.db.fetch("select current_setting('idle_in_transaction_session_timeout') as idle")
            assert rows == [{"idle": "7s"}]
        async with other.unit(claim(saga, lock=Lock.EXCLUSIVE)):
            with pytest.raises(Contended):
                async with store.unit(claim(saga)):
                    pytest.fail("the lock is taken")
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("show idle_in_transaction_session_timeout")) == "0"
            assert await connection.get_isolation_level() == "READ COMMITTED"
    await engine.dispose()


async def test_four_round_trips_for_a_batch_as_without_an_engine(bench: SqlAlchemyBench) -> None:
    async with Proxy(bench.url).serve() as proxy:
        engine = engine_of(proxy.url, pool_size=1)
        async with SqlAlchemyStore(engine) as store:
            for _ in range(3):  # the first time prepares the statements
                saga = saga_id()
                proxy.sent = 0
                async with store.unit(claim(saga, timeout=0.01)) as unit:
                    await unit.read([saga], [(saga, "stock.reserve", "")])
                    await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(),)))
            assert proxy.sent == 4
        await engine.dispose()


async def test_broken_connections_go_back_to_nobody(database: str) -> None:
    engine = engine_of(database, pool_size=1)
    async with SqlAlchemyStore(engine) as store:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:

                async def hang() -> None:
                    async with store.unit(claim()) as unit:
                        await unit.db.fetch("select pg_sleep(60)")

                tasks.start_soon(hang)
                await until(database, "select count(*) from pg_stat_activity where query ~ '^select pg_sleep'", 1)
                tasks.cancel_scope.cancel()
            await until(
                database,
                "select count(*) from pg_stat_activity where query ~ '^select pg_sleep' and state <> 'idle'",
                0,
            )
        async with store.unit(claim()) as unit:
            assert await unit.db.fetch("select 1 as one") == [{"one": 1}]
    await engine.dispose()


@pytest.mark.parametrize("what", ["session", "connection"])
async def test_the_callers_own_session_or_connection_can_be_joined(goods: SqlAlchemyBench, what: str) -> None:
    engine = engine_of(goods.url)
    kept, dropped = saga_id(), saga_id()
    for saga, keeps in ((kept, True), (dropped, False)):
        mine: AsyncSession | AsyncConnection = AsyncSession(engine) if what == "session" else engine.connect()
        async with mine as caller:
            with pytest.raises(SettingsError, match="open transaction"):
                async with goods.store.adopt(caller, SERVICE):
                    pytest.fail("adopted")
            await caller.begin()
            async with goods.store.adopt(caller, SERVICE) as unit:
                await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(),)))
            await caller.execute(sa.update(Goods).where(Goods.sku == "pen").values(free=9 if keeps else 8))
            assert await goods.store.load_runs([(saga, "stock.reserve", "")]) == []
            await (caller.commit() if keeps else caller.rollback())
    assert len(await goods.store.load_runs([(kept, "stock.reserve", "")])) == 1
    assert await goods.store.load_runs([(dropped, "stock.reserve", "")]) == []
    assert await goods.free("pen") == 9
    await engine.dispose()


def test_nothing_else_imports_sqlalchemy() -> None:
    told = "import saga.app, outbox.postgres, sys; assert 'sqlalchemy' not in sys.modules"
    subprocess.run([sys.executable, "-c", told], check=True, timeout=60)


# --- an app -----------------------------------------------------------------------------------------------------


class Placed(Event, name="order.placed", version=1):
    sku: str


class Reserved(Event, name="stock.reserved", version=1):
    sku: str


class OutOfStock(Refusal, name="stock.out", version=1):
    sku: str


class Declined(Refusal, name="card.declined", version=1):
    sku: str


class Paid(Event, name="order.paid", version=1):
    sku: str


class Shop:
    def __init__(self) -> None:
        saga = Saga("checkout", version=1, timeout=timedelta(minutes=5))
        orders, inventory, payment = map(Service, ("orders", "inventory", "payment"))
        self.services = (orders, inventory, payment)
        self.place = orders.starts(saga, Placed)

        @inventory.step(saga)
        async def reserve(order: Placed, run: Run) -> Reserved | OutOfStock:
            goods = await run.session.get(Goods, order.sku, with_for_update=True)
            if goods is None:
                return OutOfStock(sku=order.sku)
            goods.free -= 1
            if goods.free < 0:
                return OutOfStock(sku=order.sku)  # written, and refused: taken back
            return Reserved(sku=order.sku)

        @reserve.compensation
        async def release(reserved: Reserved, run: Run) -> None:
            (await run.session.get_one(Goods, reserved.sku)).free += 1

        @payment.pivot(saga)
        async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
            return Declined(sku=reserved.sku) if reserved.sku == "pen" else Paid(sku=reserved.sku)


async def test_an_app_on_an_engine_does_and_undoes(database: str, engine: AsyncEngine) -> None:
    shop = Shop()
    async with AsyncExitStack() as stack:
        app = App(shop.services, store=engine, transport="memory://", coordinator=Coordinator())
        await stack.enter_async_context(app)
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(lambda sync: Base.metadata.create_all(sync.connection()))
            session.add_all([Goods(sku="book", free=2), Goods(sku="pen", free=1)])
        handles = [await shop.place(Placed(sku=sku)) for sku in ("book", "book", "book", "pen", "none")]
        async with AsyncSession(engine) as session, session.begin():
            session.add(Goods(sku="late", free=1))
            handles.append(await shop.place(Placed(sku="late"), connection=session))
        endings = [(await handle.outcome(LONG_SECONDS)).ending for handle in handles]
    done, undone = Ending.COMPLETED, Ending.COMPENSATED
    assert sorted(endings[:3]) == sorted([done, done, undone])
    assert endings[3:] == [undone, undone, done]
    assert [await ask(database, "select free from goods where sku = $1", sku) for sku in ("book", "pen", "late")] == [
        0,
        1,
        0,
    ]
    async with engine.connect() as connection:  # the engine is still its owner's
        assert await connection.scalar(sa.text("select count(*) from saga_outbox")) == 0
