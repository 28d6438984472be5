"""Crash the server under load, and bring apps up before it is there: nothing is lost, nothing is done twice."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from outbox.postgres import PostgresSettings, PostgresStore
from outbox.sqlalchemy.stores import SqlAlchemyStore
from saga import Ending, Event, Refusal, Run, Saga, Service
from saga._core.rows import Changes
from saga._opening import patiently
from saga.app import App, Coordinator, SagaHandle, Tuning
from saga.errors import CommitUnknown, GrantMissing, SettingsError, StoreUnavailable
from saga.testing import trio_backend
from tests.contracts.store_rows import claim, outgoing, run, saga_id
from tests.testbed.services import Postgres

pytestmark = [pytest.mark.anyio]

SECONDS = 60.0
SAGAS = 60
TUNING = Tuning(waiting_poll_seconds=0.2)


class Placed(Event, name="order.placed", version=1):
    number: int


class Reserved(Event, name="stock.reserved", version=1):
    number: int


class Paid(Event, name="order.paid", version=1):
    number: int


class Declined(Refusal, name="card.declined", version=1):
    number: int


class Shop:
    """Write a row for everything that is done, without a key that would hide what is done twice."""

    def __init__(self, execute: Callable[[Run, str, int], Any], after: int) -> None:
        saga = Saga("checkout", version=1, timeout=timedelta(minutes=5))
        orders, inventory, payment = map(Service, ("orders", "inventory", "payment"))
        self.services = (orders, inventory, payment)
        self.place = orders.starts(saga, Placed)
        self.under_load = anyio.Event()
        reserved: set[int] = set()

        @inventory.step(saga)
        async def reserve(order: Placed, run: Run) -> Reserved:
            await execute(run, "insert into done (what, number) values ('reserved', {})", order.number)
            reserved.add(order.number)
            if len(reserved) == after:
                self.under_load.set()
            return Reserved(number=order.number)

        @reserve.compensation
        async def release(reserved: Reserved, run: Run) -> None:
            await execute(run, "insert into done (what, number) values ('released', {})", reserved.number)

        @payment.pivot(saga)
        async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
            if reserved.number % 5 == 0:
                return Declined(number=reserved.number)
            await execute(run, "insert into done (what, number) values ('paid', {})", reserved.number)
            return Paid(number=reserved.number)


async def by_hand(run: Run, sql: str, number: int) -> None:
    await run.db.execute(sql.format("$1"), number)


async def by_session(run: Run, sql: str, number: int) -> None:
    await run.session.execute(text(sql.format(":number")), {"number": number})


@pytest.fixture
async def url(postgres: Postgres) -> AsyncGenerator[str]:
    if not postgres.controlled:
        pytest.skip("the server was given as an address")
    url = await postgres.create_database(uuid4().hex[:12])
    yield url
    await postgres.drop_database(url)


@pytest.fixture
async def engine(url: str) -> AsyncGenerator[AsyncEngine]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), pool_size=8)
    yield engine
    await engine.dispose()


async def crash(postgres: Postgres) -> None:
    await anyio.to_thread.run_sync(postgres.stop_immediate)
    await anyio.to_thread.run_sync(postgres.start)


async def done(url: str) -> set[tuple[str, int, int]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select what, number, count(*) from done group by 1, 2")
    await connection.close()
    return {(row[0], row[1], row[2]) for row in rows}


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["url", "engine"])
async def test_a_crash_of_the_server_loses_nothing_and_doubles_nothing(
    postgres: Postgres, url: str, engine: AsyncEngine, kind: str
) -> None:
    shop = Shop(by_hand if kind == "url" else by_session, SAGAS // 4)
    store = url if kind == "url" else engine
    connection = await asyncpg.connect(url)
    await connection.execute("create table done (what text not null, number integer not null)")
    await connection.close()
    handles: dict[int, SagaHandle] = {}

    async def place(first: int) -> None:
        for number in range(first, SAGAS, 4):
            while number not in handles:
                try:
                    handles[number] = await shop.place(Placed(number=number), key=str(number))
                except StoreUnavailable:  # CommitUnknown is one: the key says whether it was
                    await anyio.sleep(0.1)

    with anyio.fail_after(2 * SECONDS):
        async with App(
            shop.services, store=store, transport="memory://", coordinator=Coordinator(store=store), tuning=TUNING
        ) as app:
            async with anyio.create_task_group() as tasks:
                for first in range(4):
                    tasks.start_soon(place, first)
                await shop.under_load.wait()
                await crash(postgres)
            assert len({handle.saga_id for handle in handles.values()}) == SAGAS
            for number, handle in handles.items():
                wanted = Ending.COMPENSATED if number % 5 == 0 else Ending.COMPLETED
                assert (await ended(handle)) is wanted
            assert app.plans
    assert await done(url) == {
        *(("reserved", number, 1) for number in range(SAGAS)),
        *(("released" if number % 5 == 0 else "paid", number, 1) for number in range(SAGAS)),
    }
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(*) from saga_outbox") == 0
    await connection.close()


async def ended(handle: SagaHandle) -> Ending:
    while True:
        try:
            return (await handle.outcome(SECONDS)).ending
        except StoreUnavailable:
            await anyio.sleep(0.1)


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["url", "engine"])
async def test_batches_under_load_are_written_once_each(
    postgres: Postgres, url: str, engine: AsyncEngine, kind: str
) -> None:
    settings = PostgresSettings(pool_size=4)
    store = PostgresStore(url, settings=settings) if kind == "url" else SqlAlchemyStore(engine, settings=settings)
    written: set[str] = set()
    enough, broken = anyio.Event(), [0]

    async def write() -> None:
        for _ in range(40):
            row = run(saga_id())
            while row.saga_id not in written:
                try:
                    async with store.unit(claim(row.saga_id)) as unit:
                        seen = await unit.read([row.saga_id], [(row.saga_id, row.step, "")])
                        if not seen.runs:
                            await unit.write(Changes(insert_runs=(row,), outbox=(outgoing(row.saga_id),)))
                    written.add(row.saga_id)
                except CommitUnknown:
                    broken[0] += 1  # read again: it may be there
                except StoreUnavailable:
                    broken[0] += 1
                    await anyio.sleep(0.05)
            if len(written) > 30:
                enough.set()

    async with store:
        await store.migrate()
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(write)
                await enough.wait()
                await crash(postgres)
        assert broken[0]
        connection = await asyncpg.connect(url)
        runs = [row[0] for row in await connection.fetch("select saga_id from saga_run")]
        messages = [row[0] for row in await connection.fetch("select id from saga_outbox")]
        await connection.close()
    assert sorted(runs) == sorted(written)
    assert len(messages) == len(set(messages)) == len(written) == 160


# --- before it is there -----------------------------------------------------------------------------------------


class Heard(logging.Handler):
    """Say when a line with some words is logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.heard = anyio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.heard.set()


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["url", "engine"])
async def test_an_app_waits_for_its_database_when_it_starts(
    postgres: Postgres, url: str, engine: AsyncEngine, kind: str
) -> None:
    store = url if kind == "url" else engine
    app = App(Shop(by_hand, 1).services, store=store, transport="memory://", coordinator=Coordinator())
    await anyio.to_thread.run_sync(postgres.stop_immediate)
    waiting = Heard("the database is away, trying again")
    logging.getLogger("saga").addHandler(waiting)

    async def come_up() -> None:
        async with app:
            assert app.plans

    try:
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(come_up)
                await waiting.heard.wait()
                await anyio.to_thread.run_sync(postgres.start)
    finally:
        logging.getLogger("saga").removeHandler(waiting)
        postgres.start()


async def test_an_app_waits_no_longer_than_it_is_told() -> None:
    app = App(
        Shop(by_hand, 1).services,
        store="postgresql://me@127.0.0.1:1/db",
        transport="memory://",
        coordinator=Coordinator(),
        store_timeout_seconds=0.3,
    )
    with pytest.raises(StoreUnavailable, match=r"cannot be reached.*waited 0\.3 s: store_timeout_seconds"):
        async with app:
            pytest.fail("there is no server")


class TestWaiting:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        return trio_backend()

    async def _once(self, *errors: Exception, seconds: float) -> float:
        left = list(errors)

        async def once() -> float:
            if left:
                raise left.pop(0)
            return anyio.current_time()

        began = anyio.current_time()
        return await patiently(once, seconds) - began

    async def test_it_is_tried_again_and_again_for_a_bounded_time(self) -> None:
        away = StoreUnavailable("away")
        assert await self._once(seconds=0) == 0
        assert 0 < await self._once(away, seconds=30) < 1
        assert 10 < await self._once(*[away] * 7, seconds=30) < 30
        with pytest.raises(StoreUnavailable, match=r"away \(waited 30 s"):
            await self._once(*[away] * 99, seconds=30)
        with pytest.raises(StoreUnavailable, match=r"away \(waited 0 s"):
            await self._once(away, seconds=0)

    async def test_what_waiting_does_not_mend_is_told_at_once(self) -> None:
        for error in (SettingsError("no such user"), GrantMissing("denied"), ValueError("ours")):
            with pytest.raises(type(error), match=str(error)):
                await self._once(error, seconds=30)
