"""Start a saga in the transaction of somebody's own connection, of whatever library."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from saga import NOTHING, Ending, Event, KeyConflict, Run, Saga, Service, SettingsError
from saga.app import App, Coordinator, SagaHandle
from tests.outbox.joined import POSTGRES, SQLITE, Caller

pytestmark = pytest.mark.anyio


class Placed(Event, name="order.placed", version=1):
    order: str


class Reserved(Event, name="stock.reserved", version=1):
    order: str


@dataclass
class Shop:
    place: Any
    where: str
    open: Any

    async def start(self, caller: Caller, event: Placed, key: str) -> SagaHandle:
        handle: SagaHandle = await self.place(event, key=key, connection=caller.connection)
        return handle


@pytest.fixture(params=[*POSTGRES, *SQLITE])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Shop]:
    library = str(request.param)
    where = f"sqlite:///{tmp_path / 'one.db'}" if library in SQLITE else str(request.getfixturevalue("database"))
    async with shop_at(where) as place:
        yield Shop(place, where, {**POSTGRES, **SQLITE}[library])


@asynccontextmanager
async def shop_at(where: str) -> AsyncGenerator[Any]:
    checkout = Saga("checkout", version=1, timeout=timedelta(minutes=1))
    orders, stock = Service("orders"), Service("stock")
    place = orders.starts(checkout, Placed)

    @stock.step(checkout, compensation=NOTHING)
    async def reserve(placed: Placed, run: Run) -> Reserved:
        del run
        await anyio.lowlevel.checkpoint()
        return Reserved(order=placed.order)

    async with App([orders, stock], store=where, transport="memory://", coordinator=Coordinator()):
        yield place


async def test_a_start_is_part_of_the_callers_transaction(shop: Shop) -> None:
    async with shop.open(shop.where) as caller:
        gone = await shop.start(caller, Placed(order="1"), "1")
        await caller.end("rollback")
    async with shop.open(shop.where) as caller:
        handle = await shop.start(caller, Placed(order="2"), "1")
        assert handle.saga_id == gone.saga_id
        with pytest.raises(KeyConflict):
            await shop.start(caller, Placed(order="3"), "1")
        again = await shop.start(caller, Placed(order="2"), "1")
        assert caller.is_open()
        await caller.end("commit")
        assert again.saga_id == handle.saga_id
        ended = await handle.outcome(20)
    assert (ended.ending, ended.start) == (Ending.COMPLETED, Placed(order="2"))


async def test_a_synchronous_session_starts_one_in_a_thread(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with shop_at(url) as place:
        engine = create_engine(url)

        def work() -> SagaHandle:
            with Session(engine) as session, session.begin():
                handle: SagaHandle = place.sync(Placed(order="1"), key="1", connection=session)
            return handle

        handle = await anyio.to_thread.run_sync(work)
        assert (await handle.outcome(20)).ending is Ending.COMPLETED
        engine.dispose()


@pytest.mark.postgres
async def test_a_psycopg_connection_starts_one_in_a_thread(database: str) -> None:
    async with shop_at(database) as place, POSTGRES["psycopg sync"](database) as caller:

        def work() -> SagaHandle:
            handle: SagaHandle = place.sync(Placed(order="1"), key="1", connection=caller.connection)
            caller.connection.commit()
            return handle

        handle = await anyio.to_thread.run_sync(work)
        assert (await handle.outcome(20)).ending is Ending.COMPLETED


@pytest.mark.postgres
async def test_an_asynchronous_connection_is_to_be_awaited(database: str) -> None:
    async with shop_at(database) as place:
        for library in ("asyncpg", "psycopg", "AsyncSession on asyncpg"):
            async with POSTGRES[library](database) as caller:
                with pytest.raises(SettingsError, match="await the call"):
                    place.sync(Placed(order="1"), key="1", connection=caller.connection)
                await caller.execute("select 1")
