"""Write the saga by hand with care: `python -m tests.benchmarks.programs.tuned`.

As `naive`, but each message costs one statement and one round trip, a service takes sixteen messages at once, what is
committed goes to the relay in memory, and published rows are deleted together. A sweep finds what a process that died
has left. There is still no coordinator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import anyio
import asyncpg
import orjson

from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.by_hand import (
    INBOX,
    LAP,
    OUTBOX,
    RUNNERS,
    Finish,
    Positions,
    consuming,
    create_tables,
    create_topics,
    keep,
    producing,
    topics_of,
)
from tests.benchmarks.serve import serve

RUN = """
with fresh as (
    insert into inbox (service, id) values ($1, $2) on conflict do nothing returning id
), ran as (
    insert into lap (number, runner) select $3, $1 from fresh
)
insert into outbox (topic, key, value) select $4, $5, $6 from fresh returning seq
"""
START = "insert into outbox (topic, key, value) values ($1, $2, $3) returning seq"
DELETE = "delete from outbox where seq = any($1::bigint[])"
SWEEP = """
select seq, topic, key, value from outbox
where created_at < clock_timestamp() - interval '5 seconds' order by seq limit 500
"""

AT_ONCE = 16
STARTS_AT_ONCE = 256
DELETE_PAUSE_SECONDS = 0.05
SWEEP_PAUSE_SECONDS = 1.0

Row = tuple[int, str, bytes, bytes]
"""The row's `seq`, topic, key and value."""


def event(number: int, note: str) -> bytes:
    """Return an event with an ID of its own."""
    return orjson.dumps({"id": str(uuid4()), "number": number, "note": note})


class Relay:
    """Publish rows that are handed over after their commit, and delete them later."""

    def __init__(self, pool: Any, producer: Any) -> None:
        self._pool = pool
        self._producer = producer
        self._queue: list[Row] = []
        self._queued = asyncio.Event()
        self._published: list[int] = []
        self._in_hand: set[int] = set()

    def hand_over(self, rows: Iterable[Row]) -> None:
        """Take committed rows."""
        for row in rows:
            self._in_hand.add(row[0])
            self._queue.append(row)
        self._queued.set()

    async def publish(self) -> None:
        """Publish what is handed over; what comes meanwhile goes out beside it."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._queued.wait()
                self._queued.clear()
                rows, self._queue = self._queue, []
                tasks.start_soon(self._publish, rows)

    async def _publish(self, rows: Sequence[Row]) -> None:
        sent = [await self._producer.send(topic, value, key) for _, topic, key, value in rows]
        await asyncio.gather(*sent)
        self._published.extend(seq for seq, *_ in rows)

    async def delete(self) -> None:
        """Delete what is published."""
        while True:
            await asyncio.sleep(DELETE_PAUSE_SECONDS)
            if seqs := self._published:
                self._published = []
                await self._pool.execute(DELETE, seqs)
                self._in_hand.difference_update(seqs)

    async def sweep(self) -> None:
        """Hand over what another process has left."""
        while True:
            await asyncio.sleep(SWEEP_PAUSE_SECONDS)
            rows = await self._pool.fetch(SWEEP)
            self.hand_over(tuple(row) for row in rows if row["seq"] not in self._in_hand)


class TunedRace:
    """Start sagas and hear of their end."""

    def __init__(self, pool: Any, relay: Relay, first_topic: str, note: str) -> None:
        self._pool = pool
        self._relay = relay
        self._first_topic = first_topic
        self._note = note
        self.finish = Finish()

    async def one(self, number: int) -> None:
        """Start a saga and wait for its last event."""
        ended = self.finish.expect(number)
        await self._start(number)
        await ended

    async def many(self, numbers: Sequence[int]) -> None:
        """Start sagas from several tasks and wait for the last event of the last."""
        ended = self.finish.expect_all(numbers)
        left = iter(numbers)

        async def customer() -> None:
            for number in left:
                await self._start(number)

        async with anyio.create_task_group() as tasks:
            for _ in range(STARTS_AT_ONCE):
                tasks.start_soon(customer)
        await ended.wait()

    async def _start(self, number: int) -> None:
        key, value = str(number).encode(), event(number, self._note)
        seq = await self._pool.fetchval(START, self._first_topic, key, value)
        self._relay.hand_over([(seq, self._first_topic, key, value)])


class Runner:
    """Be one service: up to sixteen messages at once, each one statement; positions are committed behind."""

    def __init__(self, pool: Any, relay: Relay, runner: str, topic_after: str) -> None:
        self._pool = pool
        self._relay = relay
        self._runner = runner
        self._topic_after = topic_after

    async def serve(self, consumer: Any) -> None:
        """Take the events before and write those after."""
        positions = Positions(consumer)
        async with anyio.create_task_group() as beside:
            beside.start_soon(positions.commit)
            while True:
                polled = await consumer.getmany(timeout_ms=1000)
                messages = [message for some in polled.values() for message in some]
                left = iter(messages)
                async with anyio.create_task_group() as tasks:
                    for _ in range(min(AT_ONCE, len(messages))):
                        tasks.start_soon(self._work, left)
                positions.handled(polled)

    async def _work(self, left: Iterable[Any]) -> None:
        for message in left:
            taken = orjson.loads(message.value)
            number, value = taken["number"], event(taken["number"], taken["note"])
            seq = await self._pool.fetchval(
                RUN, self._runner, UUID(taken["id"]), number, self._topic_after, message.key, value
            )
            if seq is not None:
                self._relay.hand_over([(seq, self._topic_after, message.key, value)])


async def hear_ends(consumer: Any, finish: Finish) -> None:
    """Tell of each last event."""
    while True:
        polled = await consumer.getmany(timeout_ms=1000)
        for messages in polled.values():
            for message in messages:
                finish.arrived(orjson.loads(message.value)["number"])
        if polled:
            await consumer.commit()


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[TunedRace]:
    """Run the services, the relay and the starter in this process."""
    place, shape = sitting.place, sitting.shape
    topics = topics_of(place, shape.steps)
    await create_tables(place.services, LAP, INBOX, OUTBOX)
    await create_topics(place, topics)
    size = AT_ONCE * (shape.steps + 1)
    async with (
        asyncpg.create_pool(place.services, min_size=size, max_size=size, reset=keep) as pool,
        producing(place) as producer,
        consuming(place, topics) as consumers,
        anyio.create_task_group() as tasks,
    ):
        relay = Relay(pool, producer)
        race = TunedRace(pool, relay, topics[0], shape.note)
        for part in (relay.publish, relay.delete, relay.sweep):
            tasks.start_soon(part)
        for runner, consumer, after in zip(RUNNERS, consumers[:-1], topics[1:], strict=False):
            tasks.start_soon(Runner(pool, relay, runner, after).serve, consumer)
        tasks.start_soon(hear_ends, consumers[-1], race.finish)
        yield race
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    serve(open_race)
