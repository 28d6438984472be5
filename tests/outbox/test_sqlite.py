# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from saga._core.rows import Changes
from saga.errors import Contended, StoreUnavailable
from tests.contracts.coordination_contract import CoordinationContract
from tests.contracts.loading import loaded
from tests.contracts.store_contract import StoreContract, give_prune
from tests.contracts.store_rows import NOW, claim, outgoing, put, run, saga_id

__all__ = ["give_prune"]

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class ManualClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


class SqliteCaller:
    def __init__(self, path: str) -> None:
        self.raw: Any = sqlite3.connect(path)

    async def execute(self, sql: str) -> None:
        self.raw.execute(sql)

    async def close(self) -> None:
        self.raw.close()


class SqliteBench:
    def __init__(self, path: str) -> None:
        self.clock = ManualClock()
        self.path = path
        self.store = SqliteStore(path, clock=self.clock, busy_seconds=5)
        self.other = SqliteStore(path, clock=self.clock, busy_seconds=5)

    async def pass_time(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    async def now(self) -> datetime:
        return self.clock.now()

    async def caller(self) -> SqliteCaller:
        return SqliteCaller(self.path)

    async def until_somebody_waits(self) -> None:
        with anyio.fail_after(10):
            while not self.store._database._lock.statistics().tasks_waiting:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.001)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[SqliteBench]:
    bench = SqliteBench(str(tmp_path / "one.db"))
    async with bench.store, bench.other:
        await bench.store.migrate()
        yield bench


class TestSqliteStore(StoreContract):
    pass


class CoordinationBench:
    def __init__(self, path: str) -> None:
        self.clock = ManualClock()
        self.store = SqliteCoordinationStore(path, clock=self.clock)
        self.other = SqliteCoordinationStore(path, clock=self.clock)
        self.participant = SqliteStore(path, clock=self.clock)

    async def pass_time(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    async def dead(self) -> int:
        async with self.participant.unit(claim()) as unit:
            return len(await unit.db.fetch("select 1 as one from saga_delivery where reason = 'dead'"))


class TestSqliteCoordination(CoordinationContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncGenerator[CoordinationBench]:
        bench = CoordinationBench(str(tmp_path / "one.db"))
        async with bench.store, bench.other, bench.participant:
            await bench.store.migrate()
            await bench.participant.migrate()
            yield bench


async def test_stores_of_one_process_share_the_file_and_the_last_one_closes_it(tmp_path: Path) -> None:
    path = str(tmp_path / "one.db")
    async with SqliteStore(path) as store:
        async with SqliteCoordinationStore(path) as coordination:
            assert store._database is coordination._database
        await store.migrate()
    async with SqliteStore(path) as store:
        assert await store.pending() == (0, 0.0)


async def test_a_store_can_join_while_another_one_is_in_a_transaction(tmp_path: Path) -> None:
    path = str(tmp_path / "one.db")
    async with SqliteStore(path) as one:
        await one.migrate()
        async with one.unit(claim("saga-1")) as unit:
            await unit.db.execute("create table busy (number integer)")
            async with SqliteStore(path) as other:
                assert await other.pending() == (0, 0.0)


async def test_a_database_in_memory_is_shared_by_name() -> None:
    async with SqliteStore(":memory:", name="a") as one, SqliteStore(":memory:", name="a") as two:
        await one.migrate()
        await put(one, Changes(outbox=(outgoing(),)))
        assert (await two.pending())[0] == 1
        async with SqliteStore(":memory:") as alone:
            await alone.migrate()
            assert (await alone.pending())[0] == 0
    async with SqliteStore(":memory:", name="a") as again:
        await again.migrate()
        assert (await again.pending())[0] == 0


async def test_another_process_at_the_file_is_waited_for_without_blocking_the_loop(bench: SqliteBench) -> None:
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as foreign:
        foreign.execute("begin immediate")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while ticks < 10:
                ticks += 1
                await anyio.sleep(0.001)
            foreign.execute("commit")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await put(bench.store, Changes(outbox=(outgoing(),)))
        assert ticks == 10


async def test_another_process_that_keeps_the_file_is_contention(tmp_path: Path) -> None:
    path = str(tmp_path / "one.db")
    async with SqliteStore(path, busy_seconds=0.05) as store:
        await store.migrate()
        with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
            foreign.execute("begin immediate")
            with pytest.raises(Contended):
                await put(store, Changes(outbox=(outgoing(),)))
            assert await loaded(store, ("a", "b", "c")) is None  # readers do not mind
        await put(store, Changes(outbox=(outgoing(),)))


async def test_a_transaction_inside_a_transaction_is_told_apart_from_a_hang(tmp_path: Path) -> None:
    async with SqliteStore(str(tmp_path / "one.db"), busy_seconds=0.05) as store:
        await store.migrate()
        async with store.unit(claim()):
            with pytest.raises(RuntimeError, match="one at a time"):
                async with store.unit(claim()):
                    pass

            async def another_task() -> None:
                with pytest.raises(Contended, match=r"held the database for 0\.05 s"):
                    await put(store, Changes())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(another_task)
        assert await store.pending() == (0, 0.0)


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "missing" / "one.db"))
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        await store.__aenter__()


async def test_a_cancelled_commit_has_happened_or_has_not(bench: SqliteBench) -> None:
    """Whenever cancellation comes, nothing is half done and the connection is usable."""
    committed = 0
    for turns in range(12):
        saga = saga_id()
        done = False
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel(scope: anyio.CancelScope, turns: int) -> None:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tasks.start_soon(cancel, scope, turns)
                await put(bench.store, Changes(insert_runs=(run(saga),), outbox=(outgoing(),)), saga)
                done = True
        stored = await loaded(bench.other, (saga, "stock.reserve", "")) is not None
        committed += stored
        assert stored or not done
        assert (await bench.store.pending())[0] == committed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_commit_whose_task_is_cancelled_the_asyncio_way_is_waited_for(bench: SqliteBench) -> None:
    """`Task.cancel` goes through anyio's shield while the worker thread is in COMMIT."""
    for turns in range(16):
        saga = saga_id()
        task = asyncio.create_task(put(bench.store, Changes(insert_runs=(run(saga),), outbox=(outgoing(),)), saga))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        stored = await loaded(bench.other, (saga, "stock.reserve", "")) is not None
        assert stored or isinstance(result, asyncio.CancelledError)
        await put(bench.store, Changes(insert_runs=(run(saga, "stock.next"),)), saga)


SCRIPT = """
import anyio, sys
from outbox.sqlite import SqliteStore
from saga._core.rows import Changes
from tests.contracts.store_rows import claim, outgoing, run
from tests.contracts.loading import loaded

async def main(path, first):
    async with SqliteStore(path) as store:
        await store.migrate()
        n = int(first)
        while True:
            saga = f"saga-{n}"
            async with store.unit(claim(saga)) as unit:
                (seq,) = await unit.write(Changes(insert_runs=(run(saga),), outbox=(outgoing(saga),)))
            sys.stdout.write(f"{n} {seq}\\n")
            sys.stdout.flush()
            n += 1

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = str(tmp_path / "one.db")
    seqs: list[int] = []
    acknowledged: set[int] = set()
    rng = random.Random(7)
    for round_ in range(4):
        command = [sys.executable, "-c", SCRIPT, path, str(round_ * 1_000_000)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:  # noqa: ASYNC220
            assert child.stdout is not None
            for _ in range(rng.randint(1, 60)):
                number, seq = child.stdout.readline().split()
                acknowledged.add(int(number))
                seqs.append(int(seq))
            child.send_signal(signal.SIGKILL)
            for line in child.stdout.read().splitlines():  # lines are short: a pipe takes them whole
                number, seq = line.split()
                acknowledged.add(int(number))
                seqs.append(int(seq))
    async with SqliteStore(path) as store:
        rows = await store.sweep("me", older_than_seconds=-60, limit=10**6, in_hand=frozenset(), lease_seconds=1)
        # A run and its event are there together or not at all, and no number was used twice.
        assert {row.aggregateid for row in rows} >= {f"saga-{number}" for number in acknowledged}
        for row in rows:
            assert await loaded(store, (row.aggregateid, "stock.reserve", "")) is not None
    assert seqs == sorted(set(seqs))
