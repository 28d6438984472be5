from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest

from outbox.overseeing import list_sql
from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.postgres.overseeing import LOOKING, PostgresOverseeingStore, asked, counting, picked
from outbox.sql import Dialect, queries
from saga._core.inspecting import InstancePlace, SagaRows
from saga._core.sagas import SagaQuery
from saga.errors import StoreUnavailable
from saga.ports.overseeing import Side
from tests.contracts.overseeing_contract import OverseeingContract
from tests.contracts.store_rows import NOW

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)


class OverseeingBench:
    def __init__(self, url: str) -> None:
        self.url = url
        self.store = PostgresStore(url, settings=SMALL)
        self.coordination = PostgresCoordinationStore(url, settings=SMALL)
        self.view = PostgresOverseeingStore(url, settings=SMALL)

    async def on_a_service(self) -> PostgresOverseeingStore:
        settings = PostgresSettings(schema="shop", pool_size=2)
        async with PostgresStore(self.url, settings=settings) as store:
            await store.migrate()
        return PostgresOverseeingStore(self.url, settings=settings)

    async def explained(self, query: SagaQuery, after: InstancePlace | None = None) -> Sequence[str]:
        known = queries(Dialect.POSTGRES)
        async with self.looking() as connection:
            counted = counting(known, query, 10_001)
            statements = [
                (list_sql(known, one, 50), (*asked(query, after), *one.args)) for one in picked(query, after, 50)
            ]
            plans: list[str] = []
            for text, args in [*statements, counted]:
                rows = await connection.fetch(f"explain {text}", *args)
                plans.append("\n".join(row[0] for row in rows))
            return plans

    async def others_explained(self) -> Mapping[str, str]:
        known, plans = queries(Dialect.POSTGRES), dict[str, str]()
        asked: dict[str, tuple[object, ...]] = {
            "open_census": (),
            "count_minutes": ([NOW, NOW], 1000),
            "oversee_cursors": (),
            "oversee_instance": ("s",),
            "saga_of_trace": ("t", 100),
            "revision_of_instance": ("s",),
        }
        async with self.looking() as connection:
            for name, args in asked.items():
                rows = await connection.fetch(f"explain {known[name]}", *args)
                plans[name] = "\n".join(row[0] for row in rows)
        return plans

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("analyze saga_instance")
            await connection.execute(LOOKING)
            yield connection
        finally:
            await connection.close()


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[OverseeingBench]:
    bench = OverseeingBench(database)
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        async with bench.view:
            yield bench


class TestPostgresOverseeing(OverseeingContract):
    pass


async def test_a_role_that_may_only_read_sees_everything(bench: OverseeingBench) -> None:
    role = f"reader_{uuid4().hex[:8]}"
    connection = await asyncpg.connect(bench.url)
    try:
        await connection.execute(f"create role {role} login; grant select on all tables in schema public to {role}")
        url = bench.url.replace("//postgres@", f"//{role}@")
        assert role in url
        async with PostgresOverseeingStore(url, settings=SMALL) as view:
            assert await view.sides() == {Side.COORDINATOR, Side.PARTICIPANT}
            assert (await view.marks())["sent"] == "0/0"
            await view.backlog()
            await view.census()
            assert await view.lines(SagaQuery()) == []
            assert await view.find_runs("s") == SagaRows()
            assert await view.audits(None) == []
    finally:
        await connection.execute(f"drop owned by {role}; drop role {role}")
        await connection.close()


async def test_nothing_can_be_written_while_looking(bench: OverseeingBench) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await bench.view.look("delete from saga_instance")
