from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.contracts.keeping_contract import CoordinatorKeepingContract, KeepingContract
from tests.outbox.test_sqlite import CoordinationBench, SqliteBench

pytestmark = pytest.mark.anyio


class TestSqliteKeeping(KeepingContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[SqliteBench]:
        bench = SqliteBench(str(tmp_path / "one.db"))
        async with bench.store, bench.other:
            await bench.store.migrate()
            yield bench


class TestSqliteCoordinatorKeeping(CoordinatorKeepingContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(str(tmp_path / "one.db"))
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            yield bench
