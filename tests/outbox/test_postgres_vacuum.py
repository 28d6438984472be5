"""Look at what keeps the hot tables small: how they are vacuumed, and that updates stay on their page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from saga._core.rows import Changes, CoordinatorChanges, Cursor
from saga.ports import UnitOfWork
from tests.contracts.store_rows import NOW, claim, instance, put, run, saga_id, stored

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=2)
HOT = "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relname = $1"


async def test_the_hot_tables_are_vacuumed_after_few_dead_rows(database: str) -> None:
    async with PostgresStore(database) as store, PostgresCoordinationStore(database) as coordination:
        await store.migrate()
        await coordination.migrate()
    connection = await asyncpg.connect(database)
    rows = await connection.fetch("select relname, reloptions from pg_class where relname like 'saga\\_%'")
    await connection.close()
    options: dict[str, dict[str, str]] = {
        row["relname"]: dict(option.split("=") for option in row["reloptions"] or ()) for row in rows
    }
    for table in ("saga_outbox", "saga_delivery", "saga_run", "saga_gate", "saga_instance"):
        assert float(options[table]["autovacuum_vacuum_scale_factor"]) <= 0.05, table
    for table in ("saga_run", "saga_gate", "saga_instance", "saga_lease", "saga_cursor"):
        assert int(options[table]["fillfactor"]) <= 90, table


async def test_the_end_of_a_run_stays_on_its_page(database: str) -> None:
    async with PostgresStore(database, settings=SMALL) as store:
        await store.migrate()
        runs = [run(saga_id()) for _ in range(20)]
        await put(store, Changes(insert_runs=tuple(runs)), *(row.saga_id for row in runs))
        ended = tuple(replace(stored(row), outcome=b'{"ending":"completed"}', done_at=NOW) for row in runs)
        async with store.unit(claim(*(row.saga_id for row in runs))) as unit:
            await unit.write(Changes(update_runs=ended))
            assert await _hot(unit, "saga_run") == {"n_tup_upd": 20, "n_tup_hot_upd": 20}


async def _hot(unit: UnitOfWork, table: str) -> Any:
    return await unit.db.fetch_one(HOT, table)


async def test_the_next_state_of_a_saga_stays_on_its_page(database: str) -> None:
    async with PostgresCoordinationStore(database, settings=SMALL) as store:
        await store.migrate()
        rows = [instance(saga_id()) for _ in range(20)]
        cursor = Cursor(partition=0, position=1)
        await store.write(CoordinatorChanges(instances=tuple(rows), cursors=((None, cursor),)))
        connection = await asyncpg.connect(database)
        before = await _places(connection)
        found = await store.load([row.saga_id for row in rows])
        moved = replace(cursor, position=2)
        changes = CoordinatorChanges(instances=tuple(found.values()), cursors=((cursor, moved),))
        await store.write(changes)
        after = await _places(connection)
        await connection.close()
    assert {saga: page for saga, (page, _) in before.items()} == {saga: page for saga, (page, _) in after.items()}
    assert before != after


async def _places(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, tuple[int, int]]:
    """Return page and line of each saga's row."""
    return {row["saga_id"]: row["ctid"] for row in await connection.fetch("select saga_id, ctid from saga_instance")}
