"""Measure sagas of four local steps over Kafka and PostgreSQL: `python -m tests.benchmarks.four_steps`.

Four services with one step each and the coordinator run in this one process, on one event loop; the
services share a database, the coordinator has its own, and broker and server run on the same machine. A
saga lasts from the call of its start until its outcome is known to the starter: the start's commit, four
steps, the coordinator's decision and the end's commit, with everything durable (fsync on).

`commits_per_saga` is the growth of pg_stat_database.xact_commit of both databases, which counts reads too;
`wal_syncs_per_saga` that of pg_stat_wal.wal_sync. The closed loop keeps `open` sagas open all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from statistics import quantiles
from uuid import uuid4

import anyio
import asyncpg

from saga import NOTHING, Event, Run, Saga, Service
from saga.app import App, Coordinator
from tests.testbed.finding import ThisMachine, find
from tests.testbed.running import open_kafka, open_postgres
from tests.testbed.services import Kafka, Postgres

COMMITS = "select sum(xact_commit) from pg_stat_database where datname = any($1)"
SYNCS = "select wal_sync from pg_stat_wal"
STATISTICS_SECONDS = 1.5
"""A backend reports its numbers at most once a second."""

relay_race = Saga("relay-race", version=1, timeout=timedelta(minutes=5))
first, second, third, fourth = (Service(name) for name in ("first", "second", "third", "fourth"))


class Started(Event, name="race.started", version=1):
    number: int


class One(Event, name="race.one", version=1):
    number: int


class Two(Event, name="race.two", version=1):
    number: int


class Three(Event, name="race.three", version=1):
    number: int


class Four(Event, name="race.four", version=1):
    number: int


start = first.starts(relay_race, Started)
INSERT = "insert into lap (number, runner) values ($1, $2)"
TABLE = "create table lap (number bigint, runner text, primary key (number, runner))"


@first.step(relay_race, compensation=NOTHING)
async def run_one(event: Started, run: Run) -> One:
    await run.db.execute(INSERT, event.number, "one")
    return One(number=event.number)


@second.step(relay_race, compensation=NOTHING)
async def run_two(event: One, run: Run) -> Two:
    await run.db.execute(INSERT, event.number, "two")
    return Two(number=event.number)


@third.step(relay_race, compensation=NOTHING)
async def run_three(event: Two, run: Run) -> Three:
    await run.db.execute(INSERT, event.number, "three")
    return Three(number=event.number)


@fourth.step(relay_race, compensation=NOTHING)
async def run_four(event: Three, run: Run) -> Four:
    await run.db.execute(INSERT, event.number, "four")
    return Four(number=event.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Read the server's counters for some databases."""

    url: str
    databases: Sequence[str]

    async def read(self) -> tuple[int, int]:
        """Return commits and WAL syncs so far."""
        await anyio.sleep(STATISTICS_SECONDS)
        connection = await asyncpg.connect(self.url)
        try:
            return int(await connection.fetchval(COMMITS, self.databases)), int(await connection.fetchval(SYNCS))
        finally:
            await connection.close()


@asynccontextmanager
async def running(kafka: Kafka, postgres: Postgres) -> AsyncGenerator[Meter]:
    """Run everything; the user's table is there."""
    urls = [await postgres.create_database(name) for name in ("services", "coordinator")]
    connection = await asyncpg.connect(urls[0])
    await connection.execute(TABLE)
    await connection.close()
    app = App(
        [first, second, third, fourth],
        store=urls[0],
        transport=f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}.",
        coordinator=Coordinator(store=urls[1]),
    )
    async with app:
        yield Meter(url=postgres.url, databases=[url.rsplit("/", 1)[1] for url in urls])


numbers = count(1)


async def one_saga() -> float:
    """Run one saga to its outcome and return its seconds."""
    began = time.perf_counter()
    handle = await start(Started(number=next(numbers)))
    ended = await handle.outcome(timeout_seconds=120.0)
    assert ended.ending.value == "completed", ended
    return time.perf_counter() - began


async def closed_loop(at_once: int, seconds: float) -> list[float]:
    """Keep so many sagas open for the time and return the seconds each took."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def customer() -> None:
        while time.perf_counter() < until:
            taken.append(await one_saga())

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(customer)
    return taken


async def measured(meter: Meter, at_once: int, seconds: float) -> dict[str, object]:
    """Return one case's numbers."""
    commits, syncs = await meter.read()
    began = time.perf_counter()
    taken = await closed_loop(at_once, seconds)
    lasted = time.perf_counter() - began
    commits_after, syncs_after = await meter.read()
    cuts = quantiles(taken, n=100, method="inclusive")
    return {
        "case": "one saga alone" if at_once == 1 else "closed loop",
        "open": at_once,
        "sagas": len(taken),
        "seconds": round(lasted, 1),
        "sagas_per_second": round(len(taken) / lasted, 1),
        "latency_p50_ms": round(cuts[49] * 1000, 1),
        "latency_p99_ms": round(cuts[98] * 1000, 1),
        "commits_per_saga": round((commits_after - commits) / len(taken), 2),
        "wal_syncs_per_saga": round((syncs_after - syncs) / len(taken), 2),
    }


async def run_all(kafka: Kafka, postgres: Postgres, cases: Sequence[int], seconds: float, warm_seconds: float) -> None:
    """Measure every case after a warm-up."""
    async with running(kafka, postgres) as meter:
        await closed_loop(8, warm_seconds)
        for at_once in cases:
            line = await measured(meter, at_once, seconds)
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Start the servers and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.four_steps", description=__doc__)
    parser.add_argument("--open", type=int, nargs="+", default=[1, 16, 128], help="how many sagas are open at once")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each case lasts")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of warming up")
    given = parser.parse_args()
    with (
        closing(open_kafka(find("kafka", os.environ, ThisMachine()))) as kafka,
        closing(open_postgres(find("postgres", os.environ, ThisMachine()))) as postgres,
    ):
        anyio.run(run_all, kafka, postgres, given.open, given.seconds, given.warm)


if __name__ == "__main__":
    main()
