# ruff: noqa: PT012 - a unit of work is left by the error
# pyright: reportPrivateUsage=false
from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.postgres.participant import begin_statement, lock_key
from outbox.postgres.parts import Part
from outbox.sql import Dialect, queries
from saga._core.rows import Changes, CoordinatorChanges
from saga.errors import CommitUnknown, Conflict, Contended, SettingsError, StoreError, StoreUnavailable
from saga.ports import Lock
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.loading import loaded
from tests.contracts.store_contract import LONG_SECONDS, StoreContract, give_prune
from tests.contracts.store_rows import claim, gate, instance, outgoing, put, run, saga_id, stored
from tests.outbox.proxy import Cut, Proxy
from tests.testbed.services import Postgres

__all__ = ["give_prune"]

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)
AGE = """
    update saga_outbox set created_at = created_at - $1::float8 * interval '1 second';
    update saga_lease set until = until - $1::float8 * interval '1 second';
    update saga_delivery set due_at = due_at - $1::float8 * interval '1 second';
    update saga_run set pending_at = pending_at - $1::float8 * interval '1 second'
"""


async def ask(url: str, sql: str, *args: object) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


async def until(url: str, sql: str, wanted: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        with anyio.fail_after(LONG_SECONDS):
            while await connection.fetchval(sql) != wanted:  # noqa: ASYNC110 - the server does not tell
                await anyio.sleep(0.005)
    finally:
        await connection.close()


class PostgresCaller:
    def __init__(self, connection: Any) -> None:
        self.raw: Any = connection

    async def execute(self, sql: str) -> None:
        await self.raw.execute(sql)

    async def close(self) -> None:
        await self.raw.close()


class PostgresBench:
    def __init__(self, url: str) -> None:
        self.url = url
        self.store = PostgresStore(url, settings=SMALL)
        self.other = PostgresStore(url, settings=SMALL)

    async def pass_time(self, seconds: float) -> None:
        for statement in AGE.split(";"):
            await ask(self.url, statement, seconds)

    async def now(self) -> datetime:
        now: datetime = await ask(self.url, "select clock_timestamp()")
        return now

    async def caller(self) -> PostgresCaller:
        return PostgresCaller(await asyncpg.connect(self.url))

    async def until_somebody_waits(self) -> None:
        await until(self.url, "select exists (select from pg_locks where not granted)", wanted=True)


@pytest.fixture
async def bench(database: str) -> AsyncGenerator[PostgresBench]:
    bench = PostgresBench(database)
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestPostgresStore(StoreContract):
    pass


class CoordinationBench:
    def __init__(self, url: str) -> None:
        self.url = url
        self.store = PostgresCoordinationStore(url, settings=SMALL)
        self.other = PostgresCoordinationStore(url, settings=SMALL)
        self.participant = PostgresStore(url, settings=SMALL)

    async def pass_time(self, seconds: float) -> None:
        await ask(self.url, "update saga_outbox set created_at = created_at - $1 * interval '1 second'", float(seconds))

    async def dead(self) -> int:
        return int(await ask(self.url, "select count(*) from saga_delivery where reason = 'dead'"))


class TestPostgresCoordination(CoordinationContract):
    @pytest.fixture
    async def bench(self, database: str) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(database)
        async with bench.store, bench.other, bench.participant:
            async with anyio.create_task_group() as tasks:
                for store in (bench.store, bench.participant, bench.other):
                    tasks.start_soon(store.migrate)
            yield bench


# --- locks ----------------------------------------------------------------------------------------------------


def test_a_lock_is_the_same_number_for_ever() -> None:
    assert lock_key("stock", "a") == 1758765034668978880
    assert len({lock_key("stock", "a"), lock_key("stock", "b"), lock_key("stoc", "ka")}) == 3


def test_locks_are_taken_sorted_and_once_in_the_statement_that_begins() -> None:
    sagas = [f"saga-{n}" for n in range(2500)]
    sql = begin_statement(claim(*sagas, *sagas, timeout=0.01))
    keys = [int(key) for key in re.findall(r"pg_advisory_xact_lock_shared\((-?\d+)\)", sql)]
    assert keys == sorted({lock_key("stock", saga) for saga in sagas})
    assert sql.startswith("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 10; SELECT pg_adv")
    assert begin_statement(claim()) == "BEGIN ISOLATION LEVEL READ COMMITTED"


async def test_runs_of_one_saga_and_closes_of_two_do_not_wait(bench: PostgresBench) -> None:
    one, two = saga_id(), saga_id()
    with anyio.fail_after(LONG_SECONDS):
        async with bench.store.unit(claim(one)), bench.other.unit(claim(one)):
            pass
        async with bench.store.unit(claim(one, lock=Lock.EXCLUSIVE)), bench.other.unit(claim(two, lock=Lock.EXCLUSIVE)):
            pass
        async with (
            bench.store.unit(claim(one, lock=Lock.EXCLUSIVE)),
            bench.other.unit(claim(one, service="payment", lock=Lock.EXCLUSIVE)),
        ):
            pass


async def test_a_lock_timeout_is_contention(bench: PostgresBench) -> None:
    saga = saga_id()
    async with bench.store.unit(claim(saga, lock=Lock.EXCLUSIVE)):
        with pytest.raises(Contended):
            async with bench.other.unit(claim(saga, timeout=0.01)):
                pytest.fail("the lock is taken")
    await put(bench.other, Changes(insert_runs=(run(saga),)), saga)


async def test_a_deadlock_over_the_users_rows_is_contention_for_one_and_a_commit_for_the_other(
    bench: PostgresBench,
) -> None:
    async with bench.store.unit(claim()) as unit:
        await unit.db.execute("create table goods (sku text primary key, free integer)")
        await unit.db.execute("insert into goods values ('a', 1), ('b', 1)")
    results: list[str] = []
    here = {"a": anyio.Event(), "b": anyio.Event()}

    async def take(store: PostgresStore, first: str, second: str) -> None:
        try:
            async with store.unit(claim()) as unit:
                await unit.db.execute("update goods set free = 0 where sku = $1", first)
                here[first].set()
                await here[second].wait()
                await unit.db.execute("update goods set free = 0 where sku = $1", second)
            results.append("committed")
        except Contended:
            results.append("contended")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, bench.store, "a", "b")
        tasks.start_soon(take, bench.other, "b", "a")
    assert sorted(results) == ["committed", "contended"]


async def test_the_statement_timeout_is_contention_for_us_and_the_drivers_error_for_the_user(database: str) -> None:
    settings = PostgresSettings(statement_timeout_seconds=0.1)
    saga = saga_id()
    async with PostgresStore(database, settings=settings) as store:
        with pytest.raises(asyncpg.QueryCanceledError):
            async with store.unit(claim()) as unit:
                await unit.db.fetch("select pg_sleep(10)")
        async with store.unit(claim(saga, lock=Lock.EXCLUSIVE)):
            with pytest.raises(Contended):
                async with store.unit(claim(saga)):
                    pytest.fail("the lock is taken")


# --- connections ----------------------------------------------------------------------------------------------


async def one_batch(store: PostgresStore, proxy: Proxy, size: int) -> None:
    sagas = [saga_id() for _ in range(size)]
    proxy.sent = 0
    async with store.unit(claim(*sagas, timeout=0.01)) as unit:
        await unit.read(sagas, [(saga, "stock.reserve", "") for saga in sagas])
        await unit.write(Changes(insert_runs=tuple(run(saga) for saga in sagas), outbox=(outgoing(),)))


async def test_four_round_trips_for_a_batch_and_one_for_the_rest(bench: PostgresBench) -> None:
    async with Proxy(bench.url).serve() as proxy, PostgresStore(proxy.url, settings=SMALL) as store:
        for size in (1, 64, 1, 64):  # the first time prepares the statements
            await one_batch(store, proxy, size)
        assert proxy.sent == 4
        for _ in range(2):
            proxy.sent = 0
            await loaded(store, (saga_id(), "stock.reserve", ""))
        assert proxy.sent == 1


async def test_cancelled_and_broken_connections_are_never_used_again(bench: PostgresBench) -> None:
    async def hang() -> None:
        async with bench.store.unit(claim()) as unit:
            await unit.db.fetch("select pg_sleep(60)")

    pids: set[int] = set()
    for _ in range(6):  # more than the pool has
        async with bench.store.unit(claim()) as unit:
            row = await unit.db.fetch_one("select pg_backend_pid() as pid")
            assert row is not None
            assert row["pid"] not in pids
            pids.add(row["pid"])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hang)
            await until(bench.url, "select count(*) from pg_stat_activity where query ~ '^select pg_sleep'", 1)
            tasks.cancel_scope.cancel()
        await until(
            bench.url, "select count(*) from pg_stat_activity where query ~ '^select pg_sleep' and state <> 'idle'", 0
        )


async def test_a_clean_rollback_keeps_the_connection(bench: PostgresBench) -> None:
    seen: set[int] = set()
    for _ in range(5):
        with pytest.raises(asyncpg.UndefinedTableError):
            async with bench.store.unit(claim()) as unit:
                row = await unit.db.fetch_one("select pg_backend_pid() as pid")
                assert row is not None
                seen.add(row["pid"])
                await unit.db.fetch("select * from nowhere")
    assert len(seen) == 1


async def test_a_full_pool_is_waited_for_with_a_bound(database: str) -> None:
    settings = PostgresSettings(pool_size=1, acquire_timeout_seconds=0.05)
    async with PostgresStore(database, settings=settings) as store, store.unit(claim()):
        with pytest.raises(StoreUnavailable, match="raise pool_size"):
            async with store.unit(claim()):
                pytest.fail("there is one connection")


async def test_a_swallowed_error_is_not_committed_over(bench: PostgresBench) -> None:
    for further in (True, False):
        with pytest.raises(StoreError, match=r"handler went on|swallowed"):
            async with bench.store.unit(claim()) as unit:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await unit.db.fetch("select * from nowhere")
                assert isinstance(getattr(unit, "failure"), asyncpg.UndefinedTableError)  # noqa: B009 - not in the port
                if further:
                    await unit.write(Changes(outbox=(outgoing(),)))
    assert (await bench.store.pending())[0] == 0


async def test_an_error_on_the_raw_connection_is_judged_when_it_leaves(bench: PostgresBench) -> None:
    saga = saga_id()
    async with bench.store.unit(claim(saga, lock=Lock.EXCLUSIVE)):
        with pytest.raises(Contended):
            async with bench.other.unit(claim()) as unit:
                await unit.connection.execute("set local lock_timeout = 10")
                await unit.connection.execute(f"select pg_advisory_xact_lock({lock_key('stock', saga)})")


async def test_a_restart_is_unavailable_and_then_works_again(postgres: Postgres) -> None:
    if not postgres.controlled:
        pytest.skip("the server was given as an address")
    url = await postgres.create_database(uuid4().hex[:12])
    async with PostgresStore(url, settings=SMALL) as store:
        await store.migrate()
        saga = saga_id()
        await put(store, Changes(insert_runs=(run(saga),)), saga)
        with pytest.raises(StoreUnavailable):
            async with store.unit(claim(saga)) as unit:
                await unit.read([saga], [])
                await anyio.to_thread.run_sync(postgres.stop_immediate)
                await unit.write(Changes(gates=(gate(saga),)))
        with pytest.raises(StoreUnavailable):
            await loaded(store, (saga, "stock.reserve", ""))
        await anyio.to_thread.run_sync(postgres.start)
        assert await loaded(store, (saga, "stock.reserve", "")) == stored(run(saga))
        async with store.unit(claim(saga)) as unit:
            assert not (await unit.read([saga], [])).gates
    await postgres.drop_database(url)


async def test_a_goodbye_outside_of_any_statement_is_unavailable(bench: PostgresBench) -> None:
    fields = b"SFATAL\x00C57P05\x00Midle for too long\x00\x00"
    goodbye = b"E" + (len(fields) + 4).to_bytes(4) + fields
    saga = saga_id()
    async with Proxy(bench.url).serve() as proxy, PostgresStore(proxy.url, settings=SMALL) as store:
        with pytest.raises(StoreUnavailable):
            async with store.unit(claim(saga)) as unit:
                await unit.read([saga], [])
                await proxy.say(goodbye)
                await anyio.wait_all_tasks_blocked()
                await unit.write(Changes(insert_runs=(run(saga),)))
        await put(store, Changes(insert_runs=(run(saga),)), saga)


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_connection_lost_in_commit_is_unknown_and_the_row_tells(bench: PostgresBench, cut: Cut) -> None:
    saga = saga_id()
    async with Proxy(bench.url).serve() as proxy, PostgresStore(proxy.url, settings=SMALL) as store:
        proxy.cut = cut
        with pytest.raises(CommitUnknown):
            await put(store, Changes(insert_runs=(run(saga),), outbox=(outgoing(),)), saga)
        proxy.cut = Cut.NEVER
        if cut is Cut.BEFORE:
            await put(store, Changes(insert_runs=(run(saga),), outbox=(outgoing(),)), saga)
        assert await loaded(store, (saga, "stock.reserve", "")) == stored(run(saga))
        assert (await store.pending())[0] == 1


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_connection_lost_in_the_one_statement_of_a_write_is_unknown_and_the_row_tells(
    database: str, cut: Cut
) -> None:
    row = instance(saga_id())
    changes = CoordinatorChanges(instances=(row,), outbox=(outgoing(),))
    async with Proxy(database).serve() as proxy, PostgresCoordinationStore(proxy.url, settings=SMALL) as store:
        await store.migrate()
        proxy.at, proxy.cut = row.saga_id.encode(), cut
        with pytest.raises(CommitUnknown):
            await store.write(changes)
        proxy.cut = Cut.NEVER
        if cut is Cut.BEFORE:
            await store.write(changes)
        with pytest.raises(Conflict):
            await store.write(changes)
        assert list(await store.load([row.saga_id])) == [row.saga_id]
        assert (await store.pending())[0] == 1


async def test_a_write_is_heard_of_although_it_is_cancelled(database: str) -> None:
    row = instance(saga_id())
    seqs: list[int] = []
    async with PostgresCoordinationStore(database, settings=SMALL) as store:
        await store.migrate()
        await store.write(CoordinatorChanges(instances=(row,)))
        changes = CoordinatorChanges(instances=(replace(row, revision=1),), outbox=(outgoing(),))

        async def write() -> None:
            seqs.extend(await store.write(changes))

        blocking = await asyncpg.connect(database)
        try:
            await blocking.execute("begin; update saga_instance set revision = revision")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                await until(database, "select exists (select from pg_locks where not granted)", wanted=True)
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await blocking.execute("rollback")
        finally:
            await blocking.close()
        assert len(seqs) == 1
        assert (await store.load([row.saga_id]))[row.saga_id].revision == 2


async def test_what_waiting_will_not_mend_is_a_wrong_setting(postgres: Postgres) -> None:
    url = urlunsplit(urlsplit(postgres.url)._replace(path="/nowhere"))
    with pytest.raises(SettingsError, match="nowhere"):
        await PostgresStore(url).__aenter__()


async def test_a_parameter_that_cannot_be_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="sslmode") as caught:
        await PostgresStore("postgresql://me:hunter2@h/db?sslmode=perhaps").__aenter__()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_server_that_is_not_there_is_unavailable_and_no_password_is_told() -> None:
    store = PostgresStore("postgresql://me:hunter2@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        await store.__aenter__()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {store!r} {store._pool!r}"


# --- statements -----------------------------------------------------------------------------------------------


async def test_a_schema_of_its_own(database: str) -> None:
    settings = PostgresSettings(schema="saga_tables", pool_size=2)
    saga = saga_id()
    async with (
        PostgresStore(database, settings=settings) as store,
        PostgresCoordinationStore(database, settings=settings) as coordination,
    ):
        await store.migrate()
        await coordination.migrate()
        await put(store, Changes(insert_runs=(run(saga),), gates=(gate(saga),), outbox=(outgoing(),)), saga)
        await put(store, Changes(update_runs=(stored(run(saga)),), release=(saga,)), saga)
        assert (await coordination.pending())[0] == 1
        assert await store.take_runs("stock", "me", 1, 1.0) == []
    where = "select string_agg(distinct schemaname, ' ') from pg_tables where tablename like 'saga\\_%'"
    assert await ask(database, where) == "saga_tables"


@pytest.mark.parametrize("schema", ["", "Saga", "a b", 'a"; drop', "1a", "x" * 64])
def test_a_schema_that_cannot_stand_in_sql_is_refused(schema: str) -> None:
    with pytest.raises(SettingsError, match="schema"):
        PostgresStore("postgresql://h/db", settings=PostgresSettings(schema=schema))


async def test_statements_on_empty_tables_are_planned_for_full_ones(bench: PostgresBench) -> None:
    """A kept plan that scans a table was fine when the table was empty."""
    composer = bench.store._composer
    reads = [composer.read([Part(name, ())])[0] for name in ("read_gates", "read_runs", "read_sagas")]
    sql = queries(Dialect.POSTGRES)
    names = ("update_runs", "update_outcomes", "delete_outbox", "load_runs")
    connection = await asyncpg.connect(bench.url)
    try:
        await connection.execute("set plan_cache_mode = force_generic_plan")
        for number, text in enumerate([*reads, *(sql[name] for name in names)]):
            await connection.execute(f"prepare s{number} as {text}")
            count = max(int(parameter) for parameter in re.findall(r"\$(\d+)", text))
            nulls = ", ".join(["null"] * count)
            plan = "\n".join(row[0] for row in await connection.fetch(f"explain execute s{number} ({nulls})"))
            assert "Seq Scan on saga_" not in plan, f"{text}\n{plan}"
    finally:
        await connection.close()
