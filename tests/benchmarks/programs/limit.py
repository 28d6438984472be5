"""Move rows and records and nothing else: `python -m tests.benchmarks.programs.limit`.

The same rows, records and commits as in `product`, in batches, with next to no Python between them: what this machine
can do at most. Each service writes inbox, laps and outbox of a whole batch in one statement and publishes event and run
record from memory. A coordinator of one statement counts the records and publishes the end. Nothing is checked,
decoded, locked, timed, traced, retried or undone, and nothing sweeps what a process that died has left in the outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import asyncpg

from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.by_hand import (
    LAP,
    PARTITIONS,
    RUNNERS,
    Finish,
    Positions,
    consuming,
    create_tables,
    create_topics,
    producing,
    topics_of,
)
from tests.benchmarks.serve import serve

INBOX = "create table inbox (service text, number bigint, primary key (service, number))"
OUTBOX = """
create table outbox (
    seq bigint generated always as identity primary key, topic text not null, number bigint not null,
    value bytea not null, record bytea not null
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000)
"""
INSTANCE = "create table instance (number bigint primary key, seen integer not null) with (fillfactor = 70)"

RUN = """
with fresh as (
    insert into inbox (service, number) select $1, n from unnest($2::bigint[]) n on conflict do nothing returning number
), ran as (
    insert into lap (number, runner) select number, $1 from fresh
)
insert into outbox (topic, number, value, record) select $3, number, $4, $5 from fresh returning seq, number
"""
START = """
insert into outbox (topic, number, value, record) select $2, n, $3, $4 from unnest($1::bigint[]) n returning seq
"""
COUNT = """
insert into instance as i (number, seen) select * from unnest($1::bigint[], $2::integer[])
on conflict (number) do update set seen = i.seen | excluded.seen returning number, seen
"""
DELETE = "delete from outbox where seq = any($1::bigint[])"

BATCH = 2000
DELETE_PAUSE_SECONDS = 0.05

Shares = Mapping[int, Sequence[int]]
"""The numbers of each partition."""


def by_partition(numbers: Iterable[int]) -> dict[int, list[int]]:
    """Share numbers out to partitions."""
    shares: dict[int, list[int]] = {}
    for number in numbers:
        shares.setdefault(number % PARTITIONS, []).append(number)
    return shares


def number_of(message: Any) -> int:
    """Return the saga's number."""
    return int.from_bytes(message.key, "big")


class Publishing:
    """Publish the same value for many sagas; `published` holds the `seq` of rows the broker has acknowledged."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.published: list[int] = []

    async def publish(self, topic: str, value: bytes, shares: Shares) -> None:
        """Publish a batch for each partition and wait for the broker."""
        sent: list[Any] = []
        for partition, numbers in shares.items():
            batch = self._producer.create_batch()
            for number in numbers:
                key = number.to_bytes(8, "big")
                if batch.append(timestamp=None, key=key, value=value) is None:
                    sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                    batch = self._producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value)
            sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)

    async def hand_over(self, seqs: Iterable[int], messages: Mapping[str, bytes], shares: Shares) -> None:
        """Publish what committed rows hold, for each topic its value."""
        await asyncio.gather(*(self.publish(topic, value, shares) for topic, value in messages.items()))
        self.published.extend(seqs)


async def delete(connection: Any, several: Iterable[Publishing]) -> None:
    """Delete what is published."""
    while True:
        await asyncio.sleep(DELETE_PAUSE_SECONDS)
        if seqs := [seq for publishing in several for seq in publishing.published]:
            for publishing in several:
                publishing.published.clear()
            await connection.execute(DELETE, seqs)


class LimitRace:
    """Start sagas together with all others that wait to be started."""

    def __init__(self) -> None:
        self.finish = Finish()
        self._queue: list[int] = []
        self._queued = asyncio.Event()

    async def one(self, number: int) -> None:
        """Start a saga and wait for its end."""
        ended = self.finish.expect(number)
        self._queue.append(number)
        self._queued.set()
        await ended

    async def many(self, numbers: Sequence[int]) -> None:
        """Start sagas and wait for the end of the last."""
        ended = self.finish.expect_all(numbers)
        self._queue.extend(numbers)
        self._queued.set()
        await ended.wait()

    async def start(self, connection: Any, publishing: Publishing, messages: Mapping[str, bytes]) -> None:
        """Write the starts, a batch a statement."""
        (topic, value), (_, record) = messages.items()
        async with anyio.create_task_group() as tasks:
            while True:
                await self._queued.wait()
                numbers, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                if not self._queue:
                    self._queued.clear()
                rows = await connection.fetch(START, numbers, topic, value, record)
                tasks.start_soon(publishing.hand_over, [row[0] for row in rows], messages, by_partition(numbers))


async def serve_runner(
    connection: Any, consumer: Any, publishing: Publishing, runner: str, messages: Mapping[str, bytes]
) -> None:
    """Be one service: a batch a statement."""
    (topic, value), (_, record) = messages.items()
    positions = Positions(consumer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(positions.commit)
        while True:
            polled = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            if not polled:
                continue
            numbers = [number_of(message) for some in polled.values() for message in some]
            rows = await connection.fetch(RUN, runner, numbers, topic, value, record)
            shares = by_partition([row[1] for row in rows])
            tasks.start_soon(publishing.hand_over, [row[0] for row in rows], messages, shares)
            positions.handled(polled)


async def count_records(connection: Any, consumer: Any, publishing: Publishing, topic: str, steps: int) -> None:
    """Be the coordinator: remember which steps of each saga have run, and publish its end after the last."""
    complete = 2 ** (steps + 1) - 1
    positions = Positions(consumer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(positions.commit)
        while True:
            polled = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            if not polled:
                continue
            seen: dict[int, int] = {}
            for messages in polled.values():
                for message in messages:
                    number = number_of(message)
                    seen[number] = seen.get(number, 0) | 1 << message.value[0]
            rows = await connection.fetch(COUNT, list(seen), list(seen.values()))
            if ended := [number for number, mask in rows if mask == complete]:
                await publishing.publish(topic, b"", by_partition(ended))
            positions.handled(polled)


async def hear_ends(consumer: Any, finish: Finish) -> None:
    """Tell of each end."""
    positions = Positions(consumer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(positions.commit)
        while True:
            polled = await consumer.getmany(timeout_ms=1000)
            for messages in polled.values():
                for message in messages:
                    finish.arrived(number_of(message))
            positions.handled(polled)


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[LimitRace]:
    """Run services, coordinator and starter in this process."""
    place, shape = sitting.place, sitting.shape
    steps = shape.steps
    topics = topics_of(place, steps)
    runs, ends = f"{place.prefix}runs", f"{place.prefix}ends"
    await create_tables(place.services, LAP, INBOX, OUTBOX)
    await create_tables(place.coordinator, INSTANCE)
    await create_topics(place, [*topics, runs, ends])
    value = shape.note.encode()
    after = [{topic: value, runs: bytes([step])} for step, topic in enumerate(topics)]
    async with (
        asyncpg.create_pool(place.services, min_size=steps + 2, max_size=steps + 2) as pool,
        asyncpg.create_pool(place.coordinator, min_size=1, max_size=1) as coordinator_pool,
        consuming(place, [*topics[:-1], runs, ends]) as consumers,
        AsyncExitStack() as producers,
        anyio.create_task_group() as tasks,
    ):
        # One each for the starter, the services and the coordinator: a producer has one request under way at a time.
        several = [Publishing(await producers.enter_async_context(producing(place))) for _ in range(steps + 2)]
        race = LimitRace()
        tasks.start_soon(delete, await pool.acquire(), several)
        tasks.start_soon(race.start, await pool.acquire(), several[0], after[0])
        for runner, consumer, publishing, messages in zip(
            RUNNERS, consumers[:steps], several[1:], after[1:], strict=False
        ):
            tasks.start_soon(serve_runner, await pool.acquire(), consumer, publishing, runner, messages)
        coordinator = await coordinator_pool.acquire()
        tasks.start_soon(count_records, coordinator, consumers[-2], several[-1], ends, steps)
        tasks.start_soon(hear_ends, consumers[-1], race.finish)
        yield race
        tasks.cancel_scope.cancel()
        coordinator_pool.terminate()
        pool.terminate()


if __name__ == "__main__":
    serve(open_race)
