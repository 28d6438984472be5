"""Hold what the programs written by hand share: tables, topics, clients, and the finishing line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import aiokafka.admin
import asyncpg

from tests.benchmarks.place import Place

KAFKA: Any = aiokafka
ADMIN: Any = aiokafka.admin

RUNNERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
PARTITIONS = 8
COMMIT_PAUSE_SECONDS = 0.1

LAP = "create table lap (number bigint, runner text, primary key (number, runner))"
INBOX = "create table inbox (service text, id uuid, primary key (service, id))"
OUTBOX = """
create table outbox (
    seq bigint generated always as identity primary key,
    topic text not null,
    key bytea not null,
    value bytea not null,
    created_at timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000)
"""


async def create_tables(url: str, *statements: str) -> None:
    """Create the tables of a program in an empty database."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def create_topics(place: Place, topics: Iterable[str]) -> None:
    """Create topics that do not exist yet."""
    admin = ADMIN.AIOKafkaAdminClient(bootstrap_servers=place.kafka)
    await admin.start()
    try:
        await admin.create_topics([ADMIN.NewTopic(topic, PARTITIONS, 1) for topic in topics])
    finally:
        await admin.close()


@asynccontextmanager
async def producing(place: Place) -> AsyncGenerator[Any]:
    """Open an idempotent producer."""
    producer = KAFKA.AIOKafkaProducer(bootstrap_servers=place.kafka, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def consuming(place: Place, topics: Sequence[str]) -> AsyncGenerator[list[Any]]:
    """Open a consumer for each topic, in a group of its own; positions are committed by hand."""
    consumers = [
        KAFKA.AIOKafkaConsumer(
            topic,
            bootstrap_servers=place.kafka,
            group_id=topic,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        for topic in topics
    ]
    try:
        await asyncio.gather(*(consumer.start() for consumer in consumers))
        # Answered only once the broker has made the partitions of a new topic.
        await asyncio.gather(*(consumer.end_offsets(consumer.assignment()) for consumer in consumers))
        yield consumers
    finally:
        await asyncio.gather(*(consumer.stop() for consumer in consumers))


class Positions:
    """Commit what has been handled from time to time, beside the work."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._handled: dict[Any, int] = {}

    def handled(self, polled: Mapping[Any, Sequence[Any]]) -> None:
        """Take note of messages that have taken effect."""
        self._handled |= {partition: messages[-1].offset + 1 for partition, messages in polled.items()}

    async def commit(self) -> None:
        """Commit until cancelled."""
        while True:
            await asyncio.sleep(COMMIT_PAUSE_SECONDS)
            if handled := self._handled:
                self._handled = {}
                await self._consumer.commit(handled)


class Finish:
    """Tell those who started sagas that these have ended."""

    def __init__(self) -> None:
        self._one: dict[int, asyncio.Future[None]] = {}
        self._many: set[int] = set()
        self._all = asyncio.Event()

    def expect(self, number: int) -> asyncio.Future[None]:
        """Return what is done once the saga has ended."""
        future = self._one[number] = asyncio.get_running_loop().create_future()
        return future

    def expect_all(self, numbers: Sequence[int]) -> asyncio.Event:
        """Return what is set once all these have ended."""
        self._many = set(numbers)
        self._all = asyncio.Event()
        return self._all

    def arrived(self, number: int) -> None:
        """Take note of an end; another time changes nothing."""
        future = self._one.pop(number, None)
        if future is not None and not future.done():
            future.set_result(None)
        if number in self._many:
            self._many.remove(number)
            if not self._many:
                self._all.set()


async def keep(_connection: Any) -> None:
    """Give a connection back as it is: no statement here leaves anything behind that would have to be reset."""


def topics_of(place: Place, steps: int) -> list[str]:
    """Return the topic each runner listens to, and the one of the end."""
    return [f"{place.prefix}{name}" for name in ("started", *RUNNERS[:steps])]
