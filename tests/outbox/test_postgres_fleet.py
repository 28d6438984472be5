from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from tests.contracts.fleet_contract import FleetContract

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@dataclass
class Bench:
    url: str
    store: PostgresStore = field(init=False)
    coordination: PostgresCoordinationStore = field(init=False)

    def __post_init__(self) -> None:
        settings = PostgresSettings(pool_size=2)
        self.store = PostgresStore(self.url, settings=settings)
        self.coordination = PostgresCoordinationStore(self.url, settings=settings)

    async def now(self) -> datetime:
        return await self.coordination.now()


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[Bench]:
    bench = Bench(database)
    async with bench.store, bench.coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        yield bench


class TestPostgresFleet(FleetContract):
    pass
