from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import asyncpg
import pytest

from outbox.pruner import Pruner
from saga._core.keeping import Aging, Retention
from saga._core.rows import Changes
from tests.contracts.keeping_contract import CoordinatorKeepingContract, KeepingContract
from tests.contracts.store_rows import put, run, saga_id
from tests.outbox.test_postgres import CoordinationBench, PostgresBench, ask

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestPostgresKeeping(KeepingContract):
    pass


class TestPostgresCoordinatorKeeping(CoordinatorKeepingContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(database)
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            yield bench


async def test_a_row_that_somebody_works_on_is_left_for_the_next_time(bench: PostgresBench) -> None:
    old = await bench.now() - timedelta(days=3)
    rows = tuple(replace(run(saga_id()), expires_at=old) for _ in range(3))
    await put(bench.store, Changes(insert_runs=rows))
    connection = await asyncpg.connect(bench.url)
    try:
        async with connection.transaction():
            await connection.execute("select from saga_run where saga_id = $1 for update", rows[0].saga_id)
            with anyio.fail_after(5):
                assert await bench.store.prune(Aging.RUNS, 10, 86_400.0) == 2
    finally:
        await connection.close()
    assert await Pruner(bench.store).prune() == 1


PLANS = {
    "prune_runs": "saga_run_expires",
    "prune_gates": "saga_gate_expires",
    "prune_letters": "saga_delivery_died",
    "prune_records": "saga_delivery_died",
    "prune_audits": "saga_audit_pkey",
    "prune_instances": "saga_instance_started",
    "prune_captured": "saga_outbox_cdc_pkey",
}


@pytest.mark.parametrize("name", PLANS)
async def test_old_rows_are_found_by_an_index(database: str, name: str) -> None:
    """A table of any size is entered by the index that puts the oldest first."""
    bench = CoordinationBench(database)
    async with bench.store, bench.participant:
        await bench.store.migrate()
        await bench.participant.migrate()
        sql: Any = bench.participant._sql[name]  # pyright: ignore[reportPrivateUsage]
        await ask(database, "select 1")
        connection = await asyncpg.connect(database)
        try:
            await connection.execute("set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off")
            told = await connection.fetch(f"explain {sql}", 1000, Retention().ages[Aging.RUNS])
        finally:
            await connection.close()
    plan = "\n".join(row[0] for row in told)
    assert PLANS[name] in plan, plan
