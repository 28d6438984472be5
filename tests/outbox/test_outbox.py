"""The outbox alone: how soon it publishes, what it does in threads, without a loop, and when somebody is cancelled."""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from outbox.joining.of_asyncpg import AsyncpgWatch
from outbox.relay import RelayTuning
from outbox.sqlite import SqliteStore
from saga.errors import NotRunning, SettingsError
from saga.outbox import Outbox
from saga.testing.virtual import VirtualClock, VirtualLoop
from tests.outbox.joined import POSTGRES, Caller, OrderPlaced
from tests.outbox.test_joining import Heard
from tests.outbox.test_postgres import ask, until

pytestmark = pytest.mark.anyio

SWEEPING = RelayTuning(older_than_seconds=0.0, sweep_every_seconds=0.01)


def event(number: int = 0) -> OrderPlaced:
    return OrderPlaced(order="1", number=number)


@pytest.fixture
async def heard(anyio_backend: Any) -> Heard:
    return Heard()


# --- how soon --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["virtual"])
@pytest.mark.parametrize("key", ["o-1", None])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0])
async def test_what_has_committed_is_published_within_ten_milliseconds(
    heard: Heard, key: str | None, seconds: float, tmp_path: Path
) -> None:
    path = str(tmp_path / "one.db")
    async with (
        SqliteStore(path, clock=VirtualClock()) as store,
        Outbox("orders", store=store, transport=heard) as outbox,
    ):
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("begin immediate")
        outbox.join(theirs).publish(event(), key=key)
        await anyio.sleep(seconds)
        assert heard.messages == []
        theirs.execute("commit")
        before = anyio.current_time()
        await heard.until(1)
        assert anyio.current_time() - before <= 0.01
        theirs.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "library", ["asyncpg", "asyncpg pool", "psycopg", "AsyncSession on asyncpg", "Session on psycopg"]
)
async def test_transaction_after_transaction_on_one_connection_is_published_at_once(
    heard: Heard, database: str, library: str
) -> None:
    """Between two transactions there may be no moment in which anybody could look."""
    async with Outbox("orders", store=database, transport=heard) as outbox, POSTGRES[library](database) as caller:
        late: list[float] = []
        for number in range(10):
            if number:
                await begin(caller)
            await caller.publish(outbox, event(number))
            await caller.end("commit")
            committed = anyio.current_time()
            await begin(caller)
            await caller.execute("select 1")
            await heard.until(number + 1)
            late.append(anyio.current_time() - committed)
            await caller.end("rollback")
        assert median(late) < 0.5, "the sweep would have needed five seconds"


@pytest.mark.postgres
async def test_nothing_is_left_on_a_connection_of_a_pool(heard: Heard, database: str) -> None:
    async with (
        Outbox("orders", store=database, transport=heard) as outbox,
        asyncpg.create_pool(database, min_size=1, max_size=1) as pool,
    ):
        for number in range(20):
            async with pool.acquire() as connection, connection.transaction():
                await outbox.join(connection).publish(event(number), key="o-1")
        await heard.until(20)
        await until_dropped(pool)


async def until_dropped(pool: Any) -> None:
    with anyio.fail_after(5):
        async with pool.acquire() as connection:
            while connection._con._query_loggers or AsyncpgWatch._open:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.001)


async def begin(caller: Caller) -> None:
    if isinstance(caller.connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        await caller.execute("begin")
        return
    begun = caller.connection.begin() if hasattr(caller.connection, "begin") else caller.connection.execute("select 1")
    if hasattr(begun, "__await__"):
        await begun


# --- threads, and no loop --------------------------------------------------------------------------------------


async def test_a_session_in_a_thread_hands_over_to_the_loop(heard: Heard, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    async with Outbox("orders", store=url, transport=heard) as outbox:
        engine = create_engine(url)

        def work() -> None:
            assert threading.current_thread() is not threading.main_thread()
            with Session(engine) as session, session.begin():
                outbox.join(session).publish(event(), key="o-1")
                outbox.join(session).publish(event())

        await anyio.to_thread.run_sync(work)
        await heard.until(2)
        engine.dispose()


def test_a_program_without_a_loop_writes_and_somebody_else_publishes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"

    async def publish(count: int) -> None:
        heard = Heard()
        async with Outbox("orders", store=url, transport=heard, tuning=SWEEPING):
            await heard.until(count)

    anyio.run(publish, 0)  # makes the tables
    outbox = Outbox("orders", store=url)
    engine = create_engine(url)
    with Session(engine) as session, session.begin():
        outbox.join(session).publish(event(), key="o-1")
        outbox.join(session).publish(event())
    engine.dispose()
    anyio.run(publish, 2)


async def test_an_outbox_that_only_writes_does_not_come_up(tmp_path: Path) -> None:
    outbox = Outbox("orders", store=f"sqlite:///{tmp_path / 'one.db'}")
    with pytest.raises(SettingsError, match="transport"):
        async with outbox:
            pass


async def test_an_outbox_runs_once_and_may_run_again(heard: Heard, tmp_path: Path) -> None:
    outbox = Outbox("orders", store=f"sqlite:///{tmp_path / 'one.db'}", transport=heard)
    async with outbox:
        with pytest.raises(NotRunning):
            await outbox.__aenter__()
    async with outbox:
        pass


@pytest.mark.parametrize("key", ["o-1", None])
async def test_what_is_committed_last_is_published_before_the_end(
    heard: Heard, tmp_path: Path, key: str | None
) -> None:
    path = tmp_path / "one.db"
    async with Outbox("orders", store=f"sqlite:///{path}", transport=heard) as outbox:
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("begin immediate")
        outbox.join(theirs).publish(event(), key=key)
        theirs.execute("commit")
        theirs.close()
    assert len(heard.messages) == 1


# --- cancelled -------------------------------------------------------------------------------------------------


@pytest.fixture
async def lock(database: str) -> AsyncGenerator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.mark.postgres
@pytest.mark.parametrize(
    "library",
    ["asyncpg", "psycopg", "AsyncSession on asyncpg", "AsyncSession on psycopg", "AsyncConnection on asyncpg"],
)
async def test_whoever_is_cancelled_has_a_sound_connection(
    heard: Heard, database: str, lock: asyncpg.Connection[Any], library: str
) -> None:
    async with Outbox("orders", store=database, transport=heard) as outbox, POSTGRES[library](database) as caller:
        async with lock.transaction(), anyio.create_task_group() as tasks:
            await lock.execute("lock table saga_outbox in exclusive mode")
            with anyio.CancelScope() as scope:
                tasks.start_soon(cancel_when_waiting, database, scope)
                await caller.publish(outbox, event(2))
            assert scope.cancelled_caught
        await caller.end("rollback")
        assert not caller.is_open()
        await begin(caller)
        await caller.execute("select 1")
        await caller.publish(outbox, event(3))
        await caller.end("commit")
        await heard.until(1)
        assert [message.value for message in heard.messages] == [b'{"order":"1","number":3}']
    idle = (
        "select count(*) from pg_stat_activity where state like 'idle in transaction%' and datname = current_database()"
    )
    assert await ask(database, idle) == 0


async def cancel_when_waiting(url: str, scope: anyio.CancelScope) -> None:
    await until(url, "select exists (select from pg_locks where not granted)", wanted=True)
    scope.cancel()


# --- refused ---------------------------------------------------------------------------------------------------


async def test_what_is_no_connection_is_refused(heard: Heard, tmp_path: Path) -> None:
    outbox = Outbox("orders", store=f"sqlite:///{tmp_path / 'one.db'}", transport=heard)
    with pytest.raises(SettingsError, match="asyncpg, psycopg 3 or sqlite3, or a session"):
        outbox.join("sqlite:///one.db")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def test_a_closed_connection_is_refused(heard: Heard, tmp_path: Path) -> None:
    outbox = Outbox("orders", store=f"sqlite:///{tmp_path / 'one.db'}", transport=heard)
    theirs = sqlite3.connect(":memory:")
    theirs.close()
    with pytest.raises(SettingsError, match="is closed"):
        outbox.join(theirs).publish(event())


@pytest.mark.postgres
async def test_autocommit_is_refused(heard: Heard, database: str) -> None:
    engine = create_async_engine(database.replace("postgresql", "postgresql+asyncpg"), isolation_level="AUTOCOMMIT")
    async with Outbox("orders", store=database, transport=heard) as outbox:
        async with engine.connect() as connection, connection.begin():
            with pytest.raises(SettingsError, match="is in autocommit"):
                await outbox.join(connection).publish(event())
        await engine.dispose()
        sync = create_engine(database.replace("postgresql", "postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with sync.connect() as blocking, blocking.begin(), pytest.raises(SettingsError, match="is in autocommit"):
            outbox.join(blocking).publish(event())
        sync.dispose()
    assert heard.messages == []


@pytest.mark.postgres
async def test_a_connection_given_back_to_its_pool_is_refused(heard: Heard, database: str) -> None:
    async with (
        Outbox("orders", store=database, transport=heard) as outbox,
        asyncpg.create_pool(database, min_size=1, max_size=1) as pool,
    ):
        async with pool.acquire() as connection:
            joined = outbox.join(connection)
        with pytest.raises(SettingsError, match="gone back to its pool"):
            await joined.publish(event())


@pytest.mark.postgres
async def test_a_transaction_that_has_failed_is_refused(heard: Heard, database: str) -> None:
    async with Outbox("orders", store=database, transport=heard) as outbox, POSTGRES["psycopg"](database) as caller:
        await caller.execute("savepoint mine")
        with pytest.raises(Exception, match="no_such_table"):
            await caller.execute("select * from no_such_table")
        with pytest.raises(SettingsError, match="has failed"):
            await caller.publish(outbox, event())
        await caller.execute("rollback to savepoint mine")
        await caller.publish(outbox, event())
        await caller.end("commit")
        await heard.until(1)


def test_settings_are_checked_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    with pytest.raises(Exception, match="Orders"):
        Outbox("Orders", store=url)
    with pytest.raises(SettingsError, match="topic 'a b'"):
        Outbox("orders", store=url, topics=["a b"])
    with pytest.raises(SettingsError, match="mysql"):
        Outbox("orders", store="mysql://localhost/orders")
