from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from outbox.schema import Applied, SchemaStore, Standing, check_start, check_upgrade, compare, pending
from outbox.script import script
from outbox.sql import Component, Dialect, Migration, Phase, migrations
from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from saga.app import App, Coordinator
from saga.errors import SchemaMismatch, SettingsError
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.fleet_contract import FleetContract
from tests.contracts.locks_contract import LocksContract
from tests.contracts.operating_contract import OperatingContract
from tests.contracts.store_contract import StoreContract, give_prune
from tests.contracts.store_rows import NOW
from tests.outbox.next_version import remembered, upgrade_sqlite
from tests.outbox.test_sqlite import CoordinationBench, SqliteBench
from tests.outbox.test_sqlite_fleet import Bench as FleetBench
from tests.outbox.test_sqlite_operating import OperatingBench

__all__ = ["give_prune"]

pytestmark = pytest.mark.anyio


def migration(number: int, phase: Phase = Phase.BEFORE, checksum: str = "a") -> Migration:
    return Migration(
        component=Component.SHARED, number=number, name=f"m{number}", phase=phase, sql="", checksum=checksum
    )


def applied(number: int, phase: Phase = Phase.BEFORE, checksum: str = "a") -> Applied:
    return Applied(
        component=Component.SHARED,
        number=number,
        name=f"m{number}",
        phase=phase,
        checksum=checksum,
        applied_at=NOW,
    )


def test_every_migration_stands_somehow() -> None:
    known = [migration(1), migration(2), migration(3, Phase.AFTER)]
    states = compare(known, [applied(1), applied(2, checksum="b"), applied(4)])
    assert [(state.number, state.standing) for state in states] == [
        (1, Standing.APPLIED),
        (2, Standing.EDITED),
        (3, Standing.PENDING),
        (4, Standing.NEWER),
    ]
    assert [state.applied_at for state in states] == [NOW, NOW, None, NOW]
    assert [state.number for state in pending(states, Phase.AFTER)] == [3]
    assert pending(states, Phase.BEFORE) == []


def test_what_is_to_be_removed_may_wait_and_what_a_newer_version_added_does_no_harm() -> None:
    states = compare([migration(1), migration(2, Phase.AFTER)], [applied(1), applied(9)])
    check_start(states, Component.PARTICIPANT, "here")
    check_upgrade(states, Phase.AFTER, "here")
    with pytest.raises(SchemaMismatch, match=r"here: a newer version of saga has applied shared 0009_m9 \(after\)"):
        check_start(compare([], [applied(9, Phase.AFTER)]), Component.PARTICIPANT, "here")


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_checksum_is_of_the_statements_not_of_comments_and_schema(dialect: Dialect) -> None:
    for component in Component:
        for one, other in zip(migrations(dialect, component), migrations(dialect, component, "shop"), strict=True):
            assert one.checksum == other.checksum
            assert len(one.checksum) == 16
    assert len({one.checksum for name in Component for one in migrations(dialect, name)}) >= len(Component)


# --- this version's code on the tables of the next ---------------------------------------------------------------


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[SqliteBench]:
    bench = SqliteBench(str(tmp_path / "one.db"))
    async with bench.store, bench.other:
        await bench.store.migrate()
        upgrade_sqlite(bench.path)
        await bench.store.check_schema()
        yield bench


class TestStoreOnTheNextVersion(StoreContract):
    pass


class TestLocksOnTheNextVersion(LocksContract):
    pass


class TestCoordinationOnTheNextVersion(CoordinationContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[CoordinationBench]:
        path = str(tmp_path / "one.db")
        bench = CoordinationBench(path)
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            upgrade_sqlite(path)
            yield bench


class TestOperatingOnTheNextVersion(OperatingContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[OperatingBench]:
        bench = OperatingBench(tmp_path)
        async with bench.store, bench.coordination:
            await bench.store.migrate()
            await bench.coordination.migrate()
            upgrade_sqlite(str(tmp_path / "one.db"))
            async with bench.desk, bench.other:
                yield bench


class TestFleetOnTheNextVersion(FleetContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[FleetBench]:
        path = str(tmp_path / "one.db")
        bench = FleetBench(path)
        async with bench.store, bench.coordination:
            await bench.store.migrate()
            await bench.coordination.migrate()
            upgrade_sqlite(path)
            yield bench


# --- migrating -----------------------------------------------------------------------------------------------------


async def test_an_app_that_does_not_migrate_says_the_command(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    app = App(transport="memory://", store=None, coordinator=Coordinator(store=f"sqlite:///{path}"), migrate=False)
    with pytest.raises(SchemaMismatch, match=r"saga db upgrade --store sqlite:///.*one\.db --for coordinator"):
        async with app:
            pass
    async with SqliteCoordinationStore(str(path)) as store:
        await store.migrate()
    async with app:
        pass


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("update saga_migration set checksum = 'other'", "was edited after it had been applied"),
        (remembered("participant", "after", ", applied_at", ", 1"), "removed what this version needs"),
    ],
)
async def test_tables_that_are_not_ours_are_refused(tmp_path: Path, sql: str, sentence: str) -> None:
    path = str(tmp_path / "one.db")
    async with SqliteStore(path) as store:
        assert isinstance(store, SchemaStore)
        await store.migrate()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(sql)
        for call in (store.check_schema, store.migrate):
            with pytest.raises(SchemaMismatch, match=sentence):
                await call()


async def test_the_script_makes_the_same_tables_and_remembers_them(tmp_path: Path) -> None:
    path = str(tmp_path / "one.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script(Dialect.SQLITE, tuple(Component), schema=None, number=1, phase=None))
    async with SqliteStore(path) as store, SqliteCoordinationStore(path) as coordination:
        await store.check_schema()
        await coordination.check_schema()
        assert {state.standing for state in await store.migrations()} == {Standing.APPLIED}
        assert all(state.applied_at is not None for state in await store.migrations())


def test_a_script_can_begin_later_and_takes_no_schema_for_sqlite() -> None:
    text = script(Dialect.POSTGRES, tuple(Component), schema="shop", number=9000, phase=Phase.AFTER)
    assert 'create table if not exists "shop".saga_migration' in text
    assert "saga_run" not in text
    with pytest.raises(SettingsError, match="belongs to PostgreSQL"):
        script(Dialect.SQLITE, tuple(Component), schema="shop", number=1, phase=None)
