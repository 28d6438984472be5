"""Feed one coordinator with prepared run records: `python -m tests.benchmarks.programs.coordinator_alone`.

The records of one real saga are copied under other IDs, `sagas` times, and published before the coordinator comes up.
Every saga completes, so an instance is inserted and updated and an outcome published. Option: `sagas`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice
from typing import Any
from uuid import UUID

import anyio
import asyncpg

from saga._core.envelope import Delivery, Message
from saga.app import App, Coordinator
from saga.ports import Transport
from tests.benchmarks.meters import Meter, Reading, cost
from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs.by_hand import consuming
from tests.benchmarks.programs.product_legs import LegsRace, create_user_tables, race_of
from tests.benchmarks.programs.product_processes import COORDINATOR, app_of, write_plan
from tests.benchmarks.serve import quiet, say
from transports.urls import open_transport

RUNS = "saga.runs"
POSITION = "select coalesce(sum(position), 0)::bigint from saga_cursor"
LOOK_SECONDS = 0.05
PAGE = 5_000


async def records_of_one_saga(sitting: Sitting, plans: str) -> list[Delivery]:
    """Run one saga and return its run records."""
    race = race_of(sitting)
    write_plan(race, plans)
    await create_user_tables(sitting.place.services, sitting.shape, 0)
    part = (*(service.name for service in race.services), COORDINATOR)
    async with app_of(sitting, race, part, plans):
        handle = await LegsRace(race, "").start(1)
        await handle.outcome()
        async with consuming(sitting.place, [f"{sitting.place.prefix}{RUNS}"]) as (consumer,):
            found: list[Any] = []
            while len(found) <= sitting.shape.steps:
                for messages in (await consumer.getmany(timeout_ms=1000)).values():
                    found += messages
    return [
        Delivery(topic=RUNS, partition=0, offset=0, key=m.key, value=m.value, headers=tuple(m.headers)) for m in found
    ]


def copies(records: Sequence[Delivery], sagas: int) -> Iterator[Message]:
    """Return the records of so many sagas like that one, each with all of its own in order."""
    first = (records[0].key or b"").decode()
    for number in range(1, sagas + 1):
        old, new = first.encode(), str(UUID(int=number)).encode()
        for record in records:
            yield Message(
                topic=RUNS,
                key=new,
                value=(record.value or b"").replace(old, new),
                headers=tuple((name, value.replace(old, new)) for name, value in record.headers),
            )


async def publish(transport: Transport, messages: Iterator[Message]) -> None:
    """Publish everything, a page at a time."""
    async with transport.publisher() as publisher:
        while page := list(islice(messages, PAGE)):
            failed = [result for result in await publisher.publish(page) if result is not None]
            assert not failed, failed[0]


@asynccontextmanager
async def coordinating(sitting: Sitting, plans: str) -> AsyncGenerator[None]:
    """Run a coordinator and nothing else."""
    place = sitting.place
    transport = f"kafka://{place.kafka}?prefix={place.prefix}"
    async with App(transport=transport, coordinator=Coordinator(plans=plans, store=place.coordinator)):
        yield


async def measure(sitting: Sitting) -> None:
    """Prepare the records, then see how fast they are taken."""
    place, sagas = sitting.place, int(sitting.options["sagas"])
    meter = Meter(place.services, postgres_pid=place.postgres_pid, kafka_pid=place.kafka_pid)
    with tempfile.TemporaryDirectory(prefix="saga-bench-") as plans:
        records = await records_of_one_saga(sitting, plans)
        async with open_transport(f"kafka://{place.kafka}?prefix={place.prefix}") as transport:
            await publish(transport, copies(records, sagas))
        connection = await asyncpg.connect(place.coordinator)
        began: tuple[int, Reading] | None = None
        before = await connection.fetchval(POSITION)
        async with coordinating(sitting, plans):
            for _ in count():
                at = await connection.fetchval(POSITION)
                if began is None and at > before:
                    began = at, await meter.read()
                if at >= before + sagas * len(records):
                    break
                await anyio.sleep(LOOK_SECONDS)
            ended = await meter.read()
        assert began is not None
        taken = before + sagas * len(records) - began[0]
        completed = await connection.fetchval("select count(*) from saga_instance where ended_at is not null")
        await connection.close()
    spent = cost(began[1], ended, max(1, taken))
    say(
        {
            "case": "coordinator-alone",
            "runs": taken,
            "runs_per_second": round(taken / (ended.at - began[1].at), 1),
            "python_us_per_run": round(spent.python_ms_per_saga * 1000, 1),
            "postgres_us_per_run": round(spent.postgres_ms_per_saga * 1000, 1),
            "completed": completed,
        }
    )


if __name__ == "__main__":
    quiet()
    anyio.run(measure, SITTING.validate_json(sys.argv[1]))
