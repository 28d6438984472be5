# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace

import anyio
import asyncpg
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore, schema
from outbox.schema import Standing
from outbox.script import script
from outbox.sql import MIGRATION_LOCK, Component, Dialect, Migration, Phase, migrations
from saga._core.rows import Changes, CoordinatorChanges
from saga.errors import Contended, SchemaMismatch
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.fleet_contract import FleetContract
from tests.contracts.locks_contract import LocksContract
from tests.contracts.operating_contract import OperatingContract
from tests.contracts.store_contract import StoreContract, give_prune
from tests.contracts.store_rows import gate, instance, outgoing, put, run, saga_id
from tests.outbox.next_version import remembered, upgrade_postgres
from tests.outbox.test_postgres import CoordinationBench, PostgresBench
from tests.outbox.test_postgres_fleet import Bench as FleetBench
from tests.outbox.test_postgres_operating import OperatingBench

__all__ = ["give_prune"]

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)


async def execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


# --- this version's code on the tables of the next ---------------------------------------------------------------


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    async with bench.store, bench.other:
        await bench.store.migrate()
        await upgrade_postgres(database)
        await bench.store.check_schema()
        yield bench


class TestStoreOnTheNextVersion(StoreContract):
    pass


class TestLocksOnTheNextVersion(LocksContract):
    pass


class TestCoordinationOnTheNextVersion(CoordinationContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(database)
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            await upgrade_postgres(database)
            yield bench


class TestOperatingOnTheNextVersion(OperatingContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[OperatingBench]:
        bench = OperatingBench(database)
        async with bench.store, bench.coordination:
            await bench.store.migrate()
            await bench.coordination.migrate()
            await upgrade_postgres(database)
            async with bench.desk, bench.other:
                yield bench


class TestFleetOnTheNextVersion(FleetContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[FleetBench]:
        bench = FleetBench(database)
        async with bench.store, bench.coordination:
            await bench.store.migrate()
            await bench.coordination.migrate()
            await upgrade_postgres(database)
            yield bench


async def test_the_tables_may_grow_while_the_code_works(database: str) -> None:
    async with PostgresStore(database, settings=SMALL) as store, PostgresCoordinationStore(database) as coordination:
        await store.migrate()
        await coordination.migrate()
        one = run(saga_id())
        for grown in (False, True):
            if grown:
                await upgrade_postgres(database)
            row = replace(one, saga_id=saga_id())
            seqs = await put(store, Changes(insert_runs=(row,), outbox=(outgoing(),)), row.saga_id)
            assert len(seqs) == 1
            assert [found.saga_id for found in await store.load_runs([(row.saga_id, row.step, "")])] == [row.saga_id]
            known = instance(saga_id())
            await coordination.write(CoordinatorChanges(instances=(known,)))
            assert known.saga_id in await coordination.load([known.saga_id])


# --- migrating -----------------------------------------------------------------------------------------------------


async def test_an_app_that_does_not_migrate_says_the_command(database: str) -> None:
    async with PostgresStore(database) as store:
        with pytest.raises(SchemaMismatch, match=r"lack shared 0001_tables .*saga db upgrade .* --for participant"):
            await store.check_schema()
        await store.migrate()
        await store.check_schema()
    async with PostgresCoordinationStore(database) as coordination:
        with pytest.raises(SchemaMismatch, match="lack coordinator 0001_tables"):
            await coordination.check_schema()


async def test_where_nothing_is_pending_nothing_is_locked(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        connection = await asyncpg.connect(database)
        try:
            async with connection.transaction():
                await connection.execute("lock saga_run, saga_outbox in access exclusive mode")
                with anyio.fail_after(5):
                    await store.migrate()
        finally:
            await connection.close()


async def test_an_edited_migration_is_noticed(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        await execute(database, "update saga_migration set checksum = 'other' where component = 'participant'")
        for call in (store.check_schema, store.migrate):
            with pytest.raises(SchemaMismatch, match=r"participant 0001_tables \(before\) was edited"):
                await call()
        states = {str(state): state.standing for state in await store.migrations()}
        assert states["participant 0001_tables (before)"] is Standing.EDITED
    async with PostgresCoordinationStore(database) as coordination:
        await coordination.migrate()  # another component's trouble is not its own


async def test_what_a_newer_version_has_removed_is_refused_at_start(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        await execute(database, remembered("participant", "after"))
        for call in (store.check_schema, store.migrate):
            with pytest.raises(SchemaMismatch, match=r"newer version .* participant 9001_later \(after\)"):
                await call()


async def test_after_comes_behind_before(database: str) -> None:
    async with PostgresStore(database) as store:
        with pytest.raises(SchemaMismatch, match="still pending"):
            await store.migrate(Phase.AFTER)
        await store.migrate()
        await store.migrate(Phase.AFTER)


async def test_a_table_in_use_is_waited_for_and_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(schema, "PAUSE_SECONDS", 0.01)
    begin = schema._BEGIN_MIGRATION.replace("'20s'", "'50ms'").replace("'5s'", "'50ms'")
    monkeypatch.setattr(schema, "_BEGIN_MIGRATION", begin)
    connection = await asyncpg.connect(database)
    async with PostgresStore(database) as store:
        try:
            async with connection.transaction():
                await connection.execute(f"select pg_advisory_xact_lock({MIGRATION_LOCK})")
                with pytest.raises(Contended, match="nothing was changed, try again"):
                    await store.migrate()
        finally:
            await connection.close()
        await store.migrate()


async def test_a_migration_goes_on_once_the_other_has_ended(database: str) -> None:
    connection = await asyncpg.connect(database)
    async with PostgresStore(database) as store, anyio.create_task_group() as tasks:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"select pg_advisory_xact_lock({MIGRATION_LOCK})")
        tasks.start_soon(store.migrate)
        with anyio.fail_after(20):
            while not await connection.fetchval("select exists (select from pg_locks where not granted)"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        await transaction.commit()
        await connection.close()
    async with PostgresStore(database) as store:
        await store.check_schema()


# --- a deploy ------------------------------------------------------------------------------------------------------

ADDS = "alter table saga_gate add column later text"
REMOVES = "alter table saga_gate drop column later"


def step(number: int, phase: Phase, sql: str) -> Migration:
    return Migration(
        component=Component.PARTICIPANT, number=number, name=phase.value, phase=phase, sql=sql, checksum=sql
    )


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Be the next version, until its context is undone: it adds a column before its deploy and removes it after."""
    real = migrations

    def more(dialect: Dialect, component: Component, name: str | None = None) -> tuple[Migration, ...]:
        known = real(dialect, component, name)
        steps = (step(9001, Phase.BEFORE, ADDS), step(9002, Phase.AFTER, REMOVES))
        return (*known, *steps) if component is Component.PARTICIPANT else known

    with monkeypatch.context() as version:
        version.setattr(schema, "migrations", more)
        yield version


async def test_a_deploy_adds_before_and_removes_after(database: str, next_version: pytest.MonkeyPatch) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        standing = {state.number: state.standing for state in await store.migrations()}
        assert (standing[9001], standing[9002]) == (Standing.APPLIED, Standing.PENDING)
        await store.check_schema()
        await store.migrate()
        await put(store, Changes(gates=(gate(saga_id()),)))
        await store.migrate(Phase.AFTER)
        await store.migrate(Phase.AFTER)
        assert {state.standing for state in await store.migrations()} == {Standing.APPLIED}
        next_version.undo()
        with pytest.raises(SchemaMismatch, match=r"newer version .* 9002_after \(after\)"):
            await store.check_schema()


async def test_the_version_before_works_between_the_two(database: str, next_version: pytest.MonkeyPatch) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        next_version.undo()
        await store.check_schema()
        await store.migrate()
        await put(store, Changes(gates=(gate(saga_id()),)))


async def test_a_migration_does_not_hold_up_who_is_at_work(database: str, next_version: pytest.MonkeyPatch) -> None:
    next_version.setattr(schema, "PAUSE_SECONDS", 0.01)
    next_version.setattr(schema, "_BEGIN_MIGRATION", schema._BEGIN_MIGRATION.replace("'5s'", "'20ms'"))
    turns: list[int] = []
    real = PostgresStore._migrate

    async def counted(self: PostgresStore, phase: Phase) -> None:
        turns.append(1)
        await real(self, phase)

    connection = await asyncpg.connect(database)
    async with PostgresStore(database) as store:
        with pytest.MonkeyPatch.context() as before:
            before.setattr(schema, "migrations", migrations)
            await store.migrate()
        next_version.setattr(PostgresStore, "_migrate", counted)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select from saga_gate")  # a report that takes its time
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.migrate)
            with anyio.fail_after(20):
                while len(turns) < 3:
                    await put(store, Changes(gates=(gate(saga_id()),)))
                await transaction.commit()
    await connection.close()
    async with PostgresStore(database) as store:
        await store.check_schema()


# --- by hand -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "shop"])
async def test_the_script_makes_the_same_tables_and_remembers_them(database: str, name: str | None) -> None:
    text = script(Dialect.POSTGRES, tuple(Component), schema=name, number=1, phase=None)
    await execute(database, text)
    settings = PostgresSettings(schema=name, pool_size=2)
    async with (
        PostgresStore(database, settings=settings) as store,
        PostgresCoordinationStore(database, settings=settings) as coordination,
    ):
        await store.check_schema()
        await coordination.check_schema()
        assert {state.standing for state in await coordination.migrations()} == {Standing.APPLIED}
        await put(store, Changes(insert_runs=(run(saga_id()),)))
