from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import anyio
import asyncpg
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresOperatingStore, PostgresSettings, PostgresStore
from outbox.sql import Dialect, queries
from saga._core.letters import LetterFilter
from saga._core.rows import Changes
from saga.errors import Conflict
from saga.operating import DeadLetterDesk
from tests.contracts.operating_contract import STEP, OperatingContract, dead, die, ids, replay
from tests.contracts.store_rows import NOW, SERVICE, claim, waiting

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)


async def ask(url: str, sql: str, *args: object) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()


class OperatingBench:
    def __init__(self, url: str) -> None:
        self.url = url
        self.store = PostgresStore(url, settings=SMALL)
        self.coordination = PostgresCoordinationStore(url, settings=SMALL)
        self.desk = PostgresOperatingStore(url, settings=SMALL)
        self.other = PostgresOperatingStore(url, settings=SMALL)

    async def now(self) -> datetime:
        now: datetime = (await ask(self.url, "select clock_timestamp()"))[0][0]
        return now

    async def pass_time(self, seconds: float) -> None:
        await ask(self.url, "update saga_outbox set created_at = created_at - $1 * interval '1 second'", float(seconds))

    def on_nothing(self) -> PostgresOperatingStore:
        return PostgresOperatingStore(self.url, settings=PostgresSettings(schema="nothing", pool_size=2))

    async def on_a_service(self) -> PostgresOperatingStore:
        settings = PostgresSettings(schema="shop", pool_size=2)
        async with PostgresStore(self.url, settings=settings) as store:
            await store.migrate()
        return PostgresOperatingStore(self.url, settings=settings)


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[OperatingBench]:
    bench = OperatingBench(database)
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        async with bench.desk, bench.other:
            yield bench


class TestPostgresOperating(OperatingContract):
    pass


async def test_a_message_that_begins_to_wait_meanwhile_is_a_conflict_and_safe_to_repeat(bench: OperatingBench) -> None:
    await die(bench, dead(1))
    found = await ids(bench.desk)
    again = waiting("s1", NOW, attempt=3, step=STEP, message_id="m1")

    async def meanwhile() -> None:
        with pytest.raises(Conflict):
            await replay(bench.desk, found)

    async with anyio.create_task_group() as tasks, bench.store.unit(claim()) as unit:
        await unit.write(Changes(insert_deliveries=(again,)))
        tasks.start_soon(meanwhile)
        sql = "select 1 from pg_locks where not granted"
        with anyio.fail_after(10):
            while not await ask(bench.url, sql):  # noqa: ASYNC110 - the server does not tell
                await anyio.sleep(0.005)
    assert await ids(bench.desk) == found
    assert await bench.desk.audits(None) == []
    assert await replay(bench.desk, found) == 1
    assert [row.attempt for row in await bench.store.take_deliveries(SERVICE, 10, 30.0)] == [3]


async def test_stuck_sagas_are_found_without_reading_the_ended_ones(bench: OperatingBench) -> None:
    await ask(
        bench.url,
        """
        insert into saga_instance
        select n::text, 'checkout', 1, 'h', '', case when n % 1000 = 0 then 'stuck' else 'completed' end, 0, null,
            now() + n * interval '1 second', null, '', 1
        from generate_series(1, 20000) n
        """,
    )
    await ask(bench.url, "analyze saga_instance")
    sql = queries(Dialect.POSTGRES)["find_instances"]
    lines = await ask(bench.url, f"explain {sql}", "", 0, ["stuck"], "", None, None, None, None, 10)
    assert "saga_instance_open" in "\n".join(line[0] for line in lines)


async def test_the_desk_replays_and_discards_all_pages_of_a_real_database(bench: OperatingBench) -> None:
    await die(bench, *(dead(n) for n in range(250)))
    async with DeadLetterDesk(bench.url) as desk:
        wanted = LetterFilter(step=STEP, up_to_id=(await desk.list(limit=150))[-1].id)
        passes = desk.replay(wanted, per_second=10_000, who="ann", why="mended")
        assert [progress.letters async for progress in passes] == [100, 150]
        assert await desk.discard(LetterFilter(service=SERVICE), who="ann", why="old") == 100
        assert await desk.list() == []
    assert len(await bench.store.take_deliveries(SERVICE, 1000, 30.0)) == 150
    assert len(await bench.desk.audits(None, limit=1000)) == 250
