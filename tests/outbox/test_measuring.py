from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from outbox.postgres import PostgresStore
from tests.contracts.measuring_contract import CoordinatorMeasuringContract, MeasuringContract
from tests.outbox.test_postgres import CoordinationBench as PostgresCoordinationBench
from tests.outbox.test_postgres import PostgresBench, ask
from tests.outbox.test_sqlite import CoordinationBench, SqliteBench

pytestmark = pytest.mark.anyio


class TestSqlite(MeasuringContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[SqliteBench]:
        bench = SqliteBench(str(tmp_path / "one.db"))
        async with bench.store, bench.other:
            await bench.store.migrate()
            yield bench


class TestSqliteCoordinator(CoordinatorMeasuringContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(str(tmp_path / "one.db"))
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            yield bench


@pytest.mark.postgres
class TestPostgres(MeasuringContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[PostgresBench]:
        bench = PostgresBench(database)
        async with bench.store, bench.other:
            await bench.store.migrate()
            yield bench


@pytest.mark.postgres
class TestPostgresCoordinator(CoordinatorMeasuringContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[PostgresCoordinationBench]:
        bench = PostgresCoordinationBench(database)
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            yield bench


@pytest.mark.postgres
async def test_another_schema_is_counted_too(database: str) -> None:
    await ask(database, "create schema elsewhere")
    async with PostgresStore(f"{database}?schema=elsewhere") as store:
        await store.migrate()
        assert (await store.measure()).outbox == ()
