"""Lend handlers sessions of SQLAlchemy's on SQLite: on trio, too, as nothing waits there."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, InvalidRequestError

from outbox.sqlite import SqliteStore
from saga import NOTHING, Event, Refusal, Run, Saga, Service
from saga._runtime.trouble import HandlerTrouble
from saga.app import App, Coordinator
from saga.errors import StoreUnavailable
from saga.testing import Scenario, run_for, scenario, unit
from saga.testing import run as run_virtually
from tests.contracts.session_contract import FIVE_AND_ONE, GOODS, Base, Goods, SessionContract, take, turn
from tests.contracts.store_rows import claim

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class SqliteShelf:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(str(path))

    async def free(self, sku: str) -> Any:
        with closing(sqlite3.connect(self.path)) as other:
            row = other.execute("select free from goods where sku = ?", (sku,)).fetchone()
        return None if row is None else row[0]


@pytest.fixture
async def goods(tmp_path: Path) -> AsyncGenerator[SqliteShelf]:
    shelf = SqliteShelf(tmp_path / "shop.db")
    async with shelf.store:
        await shelf.store.migrate()
        async with shelf.store.unit(claim()) as unit:
            await unit.db.execute(GOODS)
            await unit.db.execute(FIVE_AND_ONE)
        yield shelf


class TestSqliteSessions(SessionContract):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # what a session does when it is left as a context is asyncio's


async def test_a_disk_that_is_full_in_a_session_is_a_database_that_is_away(goods: SqliteShelf) -> None:
    async def fill(run: Run) -> None:
        await run.session.execute(sa.text("pragma max_page_count = 1"))
        await run.session.execute(sa.text("create table more as select zeroblob(1000000)"))

    with pytest.raises(HandlerTrouble) as caught:
        async with goods.store.unit(claim()) as unit:
            await turn(unit, fill)
    assert isinstance(caught.value.met, StoreUnavailable)


async def test_without_sqlalchemy_the_extra_is_named(goods: SqliteShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> None: ...

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    with pytest.raises(HandlerTrouble, match=r"pip install 'saga-choreography\[sqlalchemy\]'"):
        async with goods.store.unit(claim()) as unit:
            await turn(unit, take)


# --- where it is for: tests of services that have sessions ------------------------------------------------------


class Placed(Event, name="lite.placed", version=1):
    sku: str


class Reserved(Event, name="lite.reserved", version=1):
    sku: str


class OutOfStock(Refusal, name="lite.out", version=1):
    sku: str


class TooHeavy(Refusal, name="lite.heavy", version=1):
    sku: str


checkout, parcels = Saga("lite-checkout", version=1), Saga("lite-parcels", version=1)
orders, stock = Service("orders"), Service("stock")
place = orders.starts(checkout, Placed)
send = stock.starts(parcels, Reserved)


@stock.step(checkout)
async def reserve(placed: Placed, run: Run) -> Reserved | OutOfStock:
    found = await run.session.get(Goods, placed.sku, with_for_update=True)
    if found is None or found.free < 1:
        return OutOfStock(sku=placed.sku)
    found.free -= 1
    return Reserved(sku=placed.sku)


@reserve.compensation
async def put_back(reserved: Reserved, run: Run) -> None:
    (await run.session.get_one(Goods, reserved.sku)).free += 1


@stock.pivot(checkout)
async def pack(reserved: Reserved, run: Run) -> TooHeavy | None:
    assert await run.session.get(Goods, reserved.sku) is not None
    await send(reserved, key=reserved.sku, connection=run.session)
    return None


@stock.step(parcels, compensation=NOTHING)
async def post(reserved: Reserved, run: Run) -> None:
    run.session.add(Goods(sku=f"parcel of {reserved.sku}", free=0))


async def fill(s: Scenario, **goods: int) -> None:
    async with s.session(stock) as session:
        await (await session.connection()).run_sync(Base.metadata.create_all)
        session.add_all(Goods(sku=sku, free=free) for sku, free in goods.items())


def test_handlers_with_sessions_play_in_a_scenario() -> None:
    async def play() -> None:
        async with scenario(orders, stock) as s:
            await fill(s, book=1)
            await s.expect(await s.when(place(Placed(sku="book"), key="1"))).completed()
            second = await s.when(place(Placed(sku="book"), key="2"))
            await s.expect(second).compensated(refusal=OutOfStock(sku="book"))
            await s.pass_time(minutes=1)
            await s.expect_rows(
                stock, "select sku from goods where free = 0", [{"sku": "book"}, {"sku": "parcel of book"}]
            )

    run_virtually(play)


def test_what_a_session_wrote_is_undone_after_a_crash() -> None:
    async def play() -> None:
        async with scenario(orders, stock) as s:
            await fill(s, book=3)
            s.refuse(pack, TooHeavy(sku="book"))
            s.crash(reserve)
            s.fail(put_back, times=2)
            handle = await s.when(place(Placed(sku="book"), key="1"))
            await s.expect(handle).compensated(refusal=TooHeavy(sku="book"))
            s.undone(reserve)
            await s.expect_rows(stock, "select free from goods", [{"free": 3}])

    run_virtually(play)


async def test_a_handler_with_a_session_can_be_called_by_itself() -> None:
    async with unit(stock) as run:
        await (await run.session.connection()).run_sync(Base.metadata.create_all)
        run.session.add(Goods(sku="book", free=1))
        await run.session.flush()
        mine = run_for(reserve, run)
        assert await reserve(Placed(sku="book"), mine) == Reserved(sku="book")
        await mine.session.flush()
        assert await run.db.fetch("select free from goods") == [{"free": 0}]


async def test_what_a_handler_left_in_its_session_counts_at_the_end_of_a_unit() -> None:
    async def leave() -> None:
        async with unit(stock) as run:
            await (await run.session.connection()).run_sync(Base.metadata.create_all)
            for _ in range(2):
                run_for(reserve, run).session.add(Goods(sku="book", free=1))

    with pytest.raises(IntegrityError):
        await leave()


async def test_an_app_on_sqlite_has_sessions(goods: SqliteShelf) -> None:
    app = App([orders, stock], store=f"sqlite:///{goods.path}", transport="memory://", coordinator=Coordinator())
    with anyio.fail_after(30):
        async with app:
            handle = await place(Placed(sku="book"), key="1")
            assert (await handle.outcome(20)).ending == "completed"
    assert await goods.free("book") == 4


async def test_a_session_is_where_a_handler_runs_only(goods: SqliteShelf) -> None:
    async with goods.store.unit(claim()) as unit:
        kept = await turn(unit, take)
    with pytest.raises(InvalidRequestError, match="closed"):
        await kept.get(Goods, "book")
