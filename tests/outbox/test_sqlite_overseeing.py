from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from outbox.overseeing import count_sql, list_sql, sources_of
from outbox.sql import Dialect, queries
from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from outbox.sqlite.overseeing import SqliteOverseeingStore, asked, own
from saga._core.inspecting import InstancePlace
from saga._core.sagas import SagaQuery
from tests.contracts.overseeing_contract import OverseeingContract
from tests.outbox.test_sqlite_operating import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class OverseeingBench:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.folder = folder
        path = str(folder / "one.db")
        self.store = SqliteStore(path, clock=self.clock)
        self.coordination = SqliteCoordinationStore(path, clock=self.clock)
        self.view = SqliteOverseeingStore(path, clock=self.clock)

    async def on_a_service(self) -> SqliteOverseeingStore:
        path = str(self.folder / "service.db")
        async with SqliteStore(path) as store:
            await store.migrate()
        return SqliteOverseeingStore(path)

    async def explained(self, query: SagaQuery, after: InstancePlace | None = None) -> Sequence[str]:
        known = queries(Dialect.SQLITE)
        sources = sources_of(query)
        sql, more = count_sql(known, own(sources), 10_001)
        statements = [(list_sql(known, one, 50), (*asked(query, after), *one.args)) for one in own(sources)]
        with closing(sqlite3.connect(self.folder / "one.db")) as connection:
            return [
                "\n".join(row[3] for row in connection.execute(f"explain query plan {text}", args))
                for text, args in [*statements, (sql, (*asked(query, None), *more))]
            ]

    async def others_explained(self) -> Mapping[str, str]:
        known = queries(Dialect.SQLITE)
        asked: dict[str, tuple[object, ...]] = {
            "open_census": (),
            "count_minutes": ("[1, 2]", 1000),
            "oversee_cursors": (),
            "oversee_instance": ("s",),
            "saga_of_trace": ("t", 100),
            "revision_of_instance": ("s",),
        }
        with closing(sqlite3.connect(self.folder / "one.db")) as connection:
            return {
                name: "\n".join(row[3] for row in connection.execute(f"explain query plan {known[name]}", args))
                for name, args in asked.items()
            }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[OverseeingBench]:
    bench = OverseeingBench(tmp_path)
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        async with bench.view:
            yield bench


class TestSqliteOverseeing(OverseeingContract):
    pass
