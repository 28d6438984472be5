from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.contracts.inbox_contract import InboxContract
from tests.outbox.test_sqlite import SqliteBench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[SqliteBench]:
    bench = SqliteBench(str(tmp_path / "one.db"))
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestSqliteInbox(InboxContract):
    pass
