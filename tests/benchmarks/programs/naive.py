"""Write the saga by hand, as most would today: `python -m tests.benchmarks.programs.naive`.

Each service takes one message after another: a transaction of an insert into the inbox, the lap, an insert into the
outbox. A relay looks into the outbox every 20 ms, or at once while there is more. There is no coordinator: nobody would
notice a saga that stands still, and nothing is undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
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
    consuming,
    create_tables,
    create_topics,
    keep,
    producing,
    topics_of,
)
from tests.benchmarks.serve import serve

TAKE = "insert into inbox (service, id) values ($1, $2) on conflict do nothing"
RUN = "insert into lap (number, runner) values ($1, $2)"
SEND = "insert into outbox (topic, key, value) values ($1, $2, $3)"
PAGE = "select seq, topic, key, value from outbox order by seq limit 500"
DELETE = "delete from outbox where seq = any($1)"

PAUSE_SECONDS = 0.02
STARTS_AT_ONCE = 256


def event(number: int, note: str) -> bytes:
    """Return an event with an ID of its own."""
    return orjson.dumps({"id": str(uuid4()), "number": number, "note": note})


class NaiveRace:
    """Start sagas and hear of their end."""

    def __init__(self, pool: Any, first_topic: str, note: str) -> None:
        self._pool = pool
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
        await self._pool.execute(SEND, self._first_topic, str(number).encode(), event(number, self._note))


async def serve_runner(connection: Any, consumer: Any, runner: str, topic_after: str) -> None:
    """Be one service: take the event before, run, write the event after."""
    while True:
        polled = await consumer.getmany(timeout_ms=1000)
        for messages in polled.values():
            for message in messages:
                taken = orjson.loads(message.value)
                async with connection.transaction():
                    if await connection.execute(TAKE, runner, UUID(taken["id"])) == "INSERT 0 1":
                        await connection.execute(RUN, taken["number"], runner)
                        after = event(taken["number"], taken["note"])
                        await connection.execute(SEND, topic_after, message.key, after)
        if polled:
            await consumer.commit()


async def relay(pool: Any, producer: Any) -> None:
    """Publish what is in the outbox and delete it."""
    while True:
        rows = await pool.fetch(PAGE)
        if not rows:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        sent = [await producer.send(row["topic"], row["value"], row["key"]) for row in rows]
        await asyncio.gather(*sent)
        await pool.execute(DELETE, [row["seq"] for row in rows])


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
async def open_race(sitting: Sitting) -> AsyncGenerator[NaiveRace]:
    """Run the services, the relay and the starter in this process."""
    place, shape = sitting.place, sitting.shape
    topics = topics_of(place, shape.steps)
    await create_tables(place.services, LAP, INBOX, OUTBOX)
    await create_topics(place, topics)
    async with (
        asyncpg.create_pool(place.services, min_size=8, max_size=shape.steps + 16, reset=keep) as pool,
        producing(place) as producer,
        consuming(place, topics) as consumers,
        anyio.create_task_group() as tasks,
    ):
        race = NaiveRace(pool, topics[0], shape.note)
        tasks.start_soon(relay, pool, producer)
        for runner, consumer, after in zip(RUNNERS, consumers[:-1], topics[1:], strict=False):
            tasks.start_soon(serve_runner, await pool.acquire(), consumer, runner, after)
        tasks.start_soon(hear_ends, consumers[-1], race.finish)
        yield race
        tasks.cancel_scope.cancel()
        pool.terminate()


if __name__ == "__main__":
    serve(open_race)
