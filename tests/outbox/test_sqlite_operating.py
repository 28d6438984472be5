from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from outbox.sqlite import SqliteCoordinationStore, SqliteOperatingStore, SqliteStore
from saga._core.letters import LetterFilter
from saga._core.rows import Changes
from saga.errors import SettingsError
from tests.contracts.operating_contract import OperatingContract, dead
from tests.contracts.store_rows import NOW, put

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class ManualClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


class OperatingBench:
    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.folder = folder
        path = str(folder / "one.db")
        self.store = SqliteStore(path, clock=self.clock)
        self.coordination = SqliteCoordinationStore(path, clock=self.clock)
        self.desk = SqliteOperatingStore(path, clock=self.clock)
        self.other = SqliteOperatingStore(path, clock=self.clock)

    async def now(self) -> datetime:
        return self.clock.now()

    async def pass_time(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def on_nothing(self) -> SqliteOperatingStore:
        path = self.folder / "nothing.db"
        path.touch()
        return SqliteOperatingStore(str(path))

    async def on_a_service(self) -> SqliteOperatingStore:
        path = str(self.folder / "service.db")
        async with SqliteStore(path) as store:
            await store.migrate()
        return SqliteOperatingStore(path)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[OperatingBench]:
    bench = OperatingBench(tmp_path)
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        async with bench.desk, bench.other:
            yield bench


class TestSqliteOperating(OperatingContract):
    pass


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "typo.db"
    with pytest.raises(SettingsError, match="no file"):
        await SqliteOperatingStore(str(path)).__aenter__()
    assert not path.exists()


async def test_a_database_in_memory_is_found_by_its_name() -> None:
    async with SqliteStore(":memory:", name="desk") as store:
        await store.migrate()
        await put(store, Changes(insert_deliveries=(dead(1),)))
        async with SqliteOperatingStore(":memory:", name="desk") as desk:
            assert len(await desk.list_dead(LetterFilter())) == 1
    with pytest.raises(SettingsError, match="no tables"):
        await SqliteOperatingStore(":memory:", name="desk").__aenter__()
