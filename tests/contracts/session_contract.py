# ruff: noqa: PT012 - a unit of work is left by the error
"""What every store that lends handlers a session of SQLAlchemy's promises; give a fixture `goods`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, InvalidRequestError, StatementError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from saga import Run
from saga._core.definition import Binding
from saga._core.rows import Changes
from saga._runtime.handlers import call
from saga._runtime.trouble import HandlerTrouble
from saga.errors import StoreError
from saga.ports import Store, UnitOfWork
from tests.contracts.store_contract import LONG_SECONDS
from tests.contracts.store_rows import claim, run, saga_id

GOODS = "create table goods (sku varchar(20) primary key, free integer not null check (free >= 0))"
FIVE_AND_ONE = "insert into goods values ('book', 5), ('pen', 1)"


class Base(DeclarativeBase):
    pass


class Goods(Base):
    __tablename__ = "goods"

    sku: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    free: Mapped[int]


class Shelf(Protocol):
    """Be a store with the goods of `FIVE_AND_ONE`, and say what is committed."""

    @property
    def store(self) -> Store: ...

    async def free(self, sku: str) -> Any: ...


Handle = Callable[[Run], Awaitable[Any]]


async def turn(unit: UnitOfWork, handle: Handle, seconds: float = LONG_SECONDS) -> Any:
    """Do what the runtime does with a handler."""
    return await call(handle, (Binding.RUN,), {}, Run(saga_id="s", step="stock.reserve", door=unit), seconds)


async def take(run: Run) -> Any:
    found = await run.session.get_one(Goods, "book")
    found.free -= 2
    run.session.add(Goods(sku="new", free=1))
    return run.session


WRITES: dict[str, Callable[[AsyncSession], Any]] = {
    "add": lambda session: session.add(Goods(sku="a", free=1)),
    "many": lambda session: session.add_all([Goods(sku=f"{n}", free=1) for n in range(3)]),
    "update": lambda session: session.execute(sa.update(Goods).values(free=1)),
    "insert": lambda session: session.execute(sa.insert(Goods), [{"sku": "a", "free": 1}, {"sku": "b", "free": 1}]),
    "text": lambda session: session.execute(sa.text("delete from goods")),
    "other": lambda session: session.execute(sa.text("create table more (number integer)")),
}


async def commit_below(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: sync.commit())


async def begin_inside(session: AsyncSession) -> None:
    async with session.begin():
        pass


async def use_as_context(session: AsyncSession) -> None:
    async with session:
        pass


class SessionContract:
    async def test_a_session_is_one_transaction_with_the_steps_rows(self, goods: Shelf) -> None:
        saga = saga_id()
        for end in (StoreError, None):
            with pytest.raises(StoreError) if end else anyio.CancelScope():
                async with goods.store.unit(claim(saga)) as unit:
                    assert isinstance(await turn(unit, take), AsyncSession)
                    assert await unit.db.fetch("select free from goods where sku = 'book'") == [{"free": 3}]
                    await unit.write(Changes(insert_runs=(run(saga),)))
                    assert await goods.free("book") == 5  # not committed yet
                    if end:
                        raise end
            assert (await goods.free("book"), await goods.free("new")) == ((5, None) if end else (3, 1))

    async def test_what_one_handler_has_loaded_another_does_not_see(self, goods: Shelf) -> None:
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

    async def test_no_session_costs_nothing_and_reading_is_no_write(self, goods: Shelf) -> None:
        async def read(run: Run) -> None:
            assert (await run.session.get_one(Goods, "book")).free == 5
            await run.session.execute(sa.select(Goods).where(Goods.sku == "none"))
            await run.session.execute(sa.update(Goods).where(Goods.sku == "none").values(free=0))
            await run.session.execute(sa.text("select 1"))

        async with goods.store.unit(claim()) as unit:
            await turn(unit, read)
            assert unit.writes == 0

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_a_handler_that_wrote_through_its_session_has_written(
        self, goods: Shelf, write: Callable[[Any], Any]
    ) -> None:
        async def handle(run: Run) -> None:
            made = write(run.session)
            if made is not None:
                await made

        async with goods.store.unit(claim()) as unit:
            await turn(unit, handle)
            assert unit.writes > 0

    async def test_what_is_not_flushed_is_dropped_when_a_handler_raises(self, goods: Shelf) -> None:
        async def fail(run: Run) -> None:
            await take(run)
            raise KeyError("book")

        async with goods.store.unit(claim()) as unit:
            with pytest.raises(HandlerTrouble):
                await turn(unit, fail)
            assert unit.writes == 0
        assert await goods.free("book") == 5

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
        self, goods: Shelf, end: Callable[[AsyncSession], Awaitable[None]]
    ) -> None:
        async def handle(run: Run) -> None:
            await run.session.execute(sa.update(Goods).values(free=0))
            await end(run.session)

        with pytest.raises(HandlerTrouble, match="must not commit, roll back, close"):
            async with goods.store.unit(claim()) as unit:
                await turn(unit, handle)
        assert await goods.free("book") == 5

    async def test_a_failed_flush_is_the_handlers_error_and_a_swallowed_one_too(self, goods: Shelf) -> None:
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
        assert await goods.free("book") == 5

    async def test_a_part_of_a_handler_can_be_taken_back(self, goods: Shelf) -> None:
        async def handle(run: Run) -> None:
            session = run.session
            (await session.get_one(Goods, "pen")).free = 7
            with pytest.raises(IntegrityError):
                async with session.begin_nested():
                    (await session.get_one(Goods, "book")).free = -1
            assert (await session.get_one(Goods, "book")).free == 5

        async with goods.store.unit(claim()) as unit:
            await turn(unit, handle)
        assert (await goods.free("book"), await goods.free("pen")) == (5, 7)

    async def test_a_savepoint_of_the_units_takes_objects_and_writes_back(self, goods: Shelf) -> None:
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
        assert [await goods.free(sku) for sku in ("book", "pen", "kept", "gone")] == [5, 7, 2, None]
