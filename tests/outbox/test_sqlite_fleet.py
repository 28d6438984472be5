from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from outbox.clock import SystemClock
from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from tests.contracts.fleet_contract import FleetContract

pytestmark = pytest.mark.anyio


@dataclass
class Bench:
    path: str
    store: SqliteStore = field(init=False)
    coordination: SqliteCoordinationStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SqliteStore(self.path)
        self.coordination = SqliteCoordinationStore(self.path)

    async def now(self) -> datetime:
        return SystemClock().now()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    bench = Bench(str(tmp_path / "one.db"))
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        yield bench


class TestSqliteFleet(FleetContract):
    pass
