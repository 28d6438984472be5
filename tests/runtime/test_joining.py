"""Start sagas inside the caller's own transaction: commit starts them, rollback leaves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from outbox.urls import open_coordination_store, open_store
from saga import Ending, KeyConflict, SettingsError
from tests.runtime.world import TUNING, Placed, Running, World, running_for_real, up
from tests.testbed.services import Kafka
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running_on_file(world: World, file: Path) -> AsyncGenerator[Running]:
    """Run a world on a SQLite file, which other connections can open too."""
    url = f"sqlite:///{file}"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(url))
        coordination = await stack.enter_async_context(open_coordination_store(url))
        transport = await stack.enter_async_context(MemoryTransport())
        yield await stack.enter_async_context(up(world, store, coordination, transport, TUNING))


async def test_a_start_is_part_of_the_callers_sqlite_transaction(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with running_on_file(World(), file) as running:
        mine = sqlite3.connect(file, isolation_level=None)
        try:
            mine.execute("begin immediate")
            mine.execute("insert into ended values ('mine', 'rolled back')")
            gone = await running.world.place(Placed(order="gone"), key="gone", connection=mine)
            mine.execute("rollback")
            mine.execute("begin immediate")
            mine.execute("insert into ended values ('mine', 'committed')")
            kept = await running.world.place(Placed(order="kept"), key="kept", connection=mine)
            again = await running.world.place(Placed(order="kept"), key="kept", connection=mine)
            with pytest.raises(KeyConflict):
                await running.world.place(Placed(order="other"), key="kept", connection=mine)
            mine.execute("commit")
        finally:
            mine.close()
        assert again.saga_id == kept.saga_id
        assert (await kept.outcome(30)).ending is Ending.COMPLETED
        assert [row["ending"] for row in await running.rows("select ending from ended where run = 'mine'")] == [
            "committed"
        ]
        assert await running.rows("select * from saga_run where saga_id = $1", gone.saga_id) == []


async def test_a_connection_without_a_transaction_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with running_on_file(World(), file) as running:
        mine = sqlite3.connect(file, isolation_level=None)
        try:
            with pytest.raises(SettingsError, match="transaction"):
                await running.world.place(Placed(order="1"), connection=mine)
            with pytest.raises(SettingsError, match="str"):
                await running.world.place(Placed(order="1"), connection="not a connection")
        finally:
            mine.close()


@pytest.mark.kafka
@pytest.mark.postgres
async def test_a_start_is_part_of_the_callers_postgresql_transaction(kafka: Kafka, database: str) -> None:
    async with running_for_real(World(), database, kafka.bootstrap) as running:
        mine = await asyncpg.connect(database)
        try:
            rolled_back = mine.transaction()
            await rolled_back.start()
            gone = await running.world.place(Placed(order="gone"), key="gone", connection=mine)
            await rolled_back.rollback()
            async with mine.transaction():
                await mine.execute("insert into ended values ('mine', 'committed')")
                kept = await running.world.place(Placed(order="kept"), key="kept", connection=mine)
                again = await running.world.place(Placed(order="kept"), key="kept", connection=mine)
        finally:
            await mine.close()
        assert again.saga_id == kept.saga_id
        assert (await kept.outcome(30)).ending is Ending.COMPLETED
        assert await running.rows("select * from saga_run where saga_id = $1", gone.saga_id) == []


async def test_a_commit_is_noticed_long_before_the_sweep(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    async with running_on_file(World(), file) as running:
        mine = sqlite3.connect(file, isolation_level=None)
        try:
            mine.execute("begin immediate")
            handle = await running.world.place(Placed(order="1"), connection=mine)
            mine.execute("commit")
        finally:
            mine.close()
        # The sweep leaves rows alone for five seconds.
        assert (await handle.outcome(4)).ending is Ending.COMPLETED
