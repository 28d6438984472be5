from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.contracts.inbox_contract import InboxContract
from tests.outbox.test_sqlalchemy import SqlAlchemyBench, engine_of

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[SqlAlchemyBench]:
    engine, other = engine_of(database), engine_of(database)
    bench = SqlAlchemyBench(database, engine, other)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench
    await engine.dispose()
    await other.dispose()


class TestSqlAlchemyInbox(InboxContract):
    pass
