# ruff: noqa: PT012 - a unit of work is left by the error
from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.sqlalchemy import SqlAlchemyCoordinationStore, SqlAlchemyStore
from outbox.urls import open_coordination_store, open_store
from saga import Ending, Event, Refusal, Run, Saga, Service
from saga._core.definition import Binding
from saga._core.rows import Changes
from saga._runtime.handlers import call
from saga._runtime.trouble import HandlerTrouble
from saga.app import App, Coordinator
from saga.errors import Contended, NotRunning, SettingsError, StoreError, StoreUnavailable
from saga.ports import Lock, UnitOfWork
from saga.testing import unit as sqlite_unit
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.fleet_contract import FleetContract
from tests.contracts.locks_contract import LocksContract
from tests.contracts.store_contract import LONG_SECONDS, StoreContract, give_prune
from tests.contracts.store_rows import SERVICE, claim, outgoing, run, saga_id
from tests.outbox.proxy import Proxy
from tests.outbox.test_postgres import CoordinationBench as PostgresCoordinationBench
from tests.outbox.test_postgres import PostgresBench, ask, until

__all__ = ["give_prune"]

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

GOODS = "create table goods (sku varchar(20) primary key, free integer not null check (free >= 0))"


class Base(DeclarativeBase):
    pass


class Goods(Base):
    __tablename__ = "goods"

    sku: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    free: Mapped[int]


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
        await unit.db.execute("insert into goods values ('book', 5), ('pen', 1)")
    return bench


Handle = Callable[[Run], Awaitable[Any]]


async def turn(unit: UnitOfWork, handle: Handle, seconds: float = LONG_SECONDS) -> Any:
    """Do what the runtime does with a handler."""
    return await call(handle, (Binding.RUN,), {}, Run(saga_id="s", step="stock.reserve", door=unit), seconds)


async def free(bench: SqlAlchemyBench, sku: str) -> Any:
    return await ask(bench.url, "select free from goods where sku = $1", sku)


async def take(run: Run) -> Any:
    found = await run.session.get_one(Goods, "book")
    found.free -= 2
    run.session.add(Goods(sku="new", free=1))
    return run.session


async def test_a_session_is_one_transaction_with_the_steps_rows(goods: SqlAlchemyBench) -> None:
    saga = saga_id()
    for end in (StoreError, None):
        with pytest.raises(StoreError) if end else anyio.CancelScope():
            async with goods.store.unit(claim(saga)) as unit:
                assert isinstance(await turn(unit, take), AsyncSession)
                assert await unit.db.fetch("select free from goods where sku = 'book'") == [{"free": 3}]
                await unit.write(Changes(insert_runs=(run(saga),)))
                assert await free(goods, "book") == 5  # not committed yet
                if end:
                    raise end
        assert (await free(goods, "book"), await free(goods, "new")) == ((5, None) if end else (3, 1))


async def test_what_one_handler_has_loaded_another_does_not_see(goods: SqlAlchemyBench) -> None:
    async with goods.store.unit(claim()) as unit:
        first = await turn(unit, take)

        async def look(run: Run) -> Any:
            assert run.session is run.session
            assert list(run.session) == []
            assert (await run.session.get_one(Goods, "book")).free == 3
            return run.session

        assert await turn(unit, look) is not first
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            await first.get(Goods, "book")


async def test_no_session_costs_nothing_and_reading_is_no_write(goods: SqlAlchemyBench) -> None:
    async def read(run: Run) -> None:
        assert (await run.session.get_one(Goods, "book")).free == 5
        await run.session.execute(sa.select(Goods).where(Goods.sku == "none"))
        await run.session.execute(sa.update(Goods).where(Goods.sku == "none").values(free=0))
        await run.session.execute(sa.text("select 1"))

    async with goods.store.unit(claim()) as unit:
        await turn(unit, read)
        assert unit.writes == 0


WRITES: dict[str, Callable[[AsyncSession], Any]] = {
    "add": lambda session: session.add(Goods(sku="a", free=1)),
    "many": lambda session: session.add_all([Goods(sku=f"{n}", free=1) for n in range(3)]),
    "update": lambda session: session.execute(sa.update(Goods).values(free=1)),
    "insert": lambda session: session.execute(sa.insert(Goods), [{"sku": "a", "free": 1}, {"sku": "b", "free": 1}]),
    "text": lambda session: session.execute(sa.text("delete from goods")),
    "other": lambda session: session.execute(sa.text("create table more ()")),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_handler_that_wrote_through_its_session_has_written(
    goods: SqlAlchemyBench, write: Callable[[Any], Any]
) -> None:
    async def handle(run: Run) -> None:
        made = write(run.session)
        if made is not None:
            await made

    async with goods.store.unit(claim()) as unit:
        await turn(unit, handle)
        assert unit.writes > 0


async def test_what_is_not_flushed_is_dropped_when_a_handler_raises(goods: SqlAlchemyBench) -> None:
    async def fail(run: Run) -> None:
        await take(run)
        raise KeyError("book")

    async with goods.store.unit(claim()) as unit:
        with pytest.raises(HandlerTrouble):
            await turn(unit, fail)
        assert unit.writes == 0
    assert await free(goods, "book") == 5


async def commit_below(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: sync.commit())


async def begin_inside(session: AsyncSession) -> None:
    async with session.begin():
        pass


async def use_as_context(session: AsyncSession) -> None:
    async with session:
        pass


@pytest.mark.parametrize(
    "end",
    [
        AsyncSession.commit,
        AsyncSession.rollback,
        AsyncSession.close,
        AsyncSession.reset,
        AsyncSession.invalidate,
        commit_below,
        partial(AsyncSession.run_sync, fn=Session.commit),  # round the guard
        partial(AsyncSession.run_sync, fn=Session.rollback),
        begin_inside,
        use_as_context,
    ],
)
async def test_a_handler_must_not_end_the_transaction_of_its_session(
    goods: SqlAlchemyBench, end: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    async def handle(run: Run) -> None:
        await run.session.execute(sa.update(Goods).values(free=0))
        await end(run.session)

    with pytest.raises(HandlerTrouble, match="must not commit, roll back, close"):
        async with goods.store.unit(claim()) as unit:
            await turn(unit, handle)
    assert await free(goods, "book") == 5


async def test_a_failed_flush_is_the_handlers_error_and_a_swallowed_one_too(goods: SqlAlchemyBench) -> None:
    async def fail(run: Run) -> None:
        run.session.add(Goods(sku="book", free=1))

    async def swallow(run: Run) -> None:
        await run.session.execute(sa.update(Goods).values(free=0))
        run.session.add(Goods(sku="x" * 9, free=["no number"]))
        with pytest.raises(StatementError):  # the driver's: the server has not heard of it
            await run.session.flush()

    with pytest.raises(HandlerTrouble) as caught:
        async with goods.store.unit(claim()) as unit:
            await turn(unit, fail)
    assert isinstance(caught.value.error, IntegrityError)
    assert caught.value.met is None
    with pytest.raises(HandlerTrouble, match="handler went on"):
        async with goods.store.unit(claim()) as unit:
            await turn(unit, swallow)
    assert await free(goods, "book") == 5


async def test_a_part_of_a_handler_can_be_taken_back(goods: SqlAlchemyBench) -> None:
    async def handle(run: Run) -> None:
        session = run.session
        (await session.get_one(Goods, "pen")).free = 7
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                (await session.get_one(Goods, "book")).free = -1
        assert (await session.get_one(Goods, "book")).free == 5

    async with goods.store.unit(claim()) as unit:
        await turn(unit, handle)
    assert (await free(goods, "book"), await free(goods, "pen")) == (5, 7)


async def test_a_savepoint_of_the_units_takes_objects_and_writes_back(goods: SqlAlchemyBench) -> None:
    async with goods.store.unit(claim()) as unit:

        async def around(run: Run) -> None:
            session = run.session
            pen = await session.get_one(Goods, "pen")
            pen.free = 7
            inner: AsyncSession | None = None
            with pytest.raises(KeyError):
                async with unit.savepoint():
                    inner = await turn(unit, take)
                    assert unit.writes > 1
                    (await session.get_one(Goods, "book")).free = 0
                    session.add(Goods(sku="gone", free=1))
                    await session.flush()
                    raise KeyError
            assert unit.writes == 1
            assert {each.sku for each in session} <= {"pen", "book"}
            assert (await session.get_one(Goods, "book")).free == 5
            assert await session.get(Goods, "gone") is None
            assert inner is not None
            with pytest.raises(InvalidRequestError):
                await inner.get(Goods, "book")
            async with unit.savepoint():
                session.add(Goods(sku="kept", free=2))

        await turn(unit, around)
    assert [await free(goods, sku) for sku in ("book", "pen", "kept", "gone")] == [5, 7, 2, None]


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
    assert await free(goods, "book") == 2


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
    assert await free(goods, "book") == 3


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
    async with sqlite_unit(Service("stock")) as given:
        with pytest.raises(SettingsError, match="create_async_engine"):
            _ = given.session
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
    assert await free(goods, "pen") == 9
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
