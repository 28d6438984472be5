"""Let one relay publish what is in an outbox: `python -m tests.benchmarks.programs.relay_alone`.

Options: `rows`, and `way`: `handed` (a process hands its rows over after their commit, as room for them comes) or
`swept` (a process that died has left them). Each row is one event of 300 bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count

import anyio
import asyncpg

from outbox.relay import Relay
from outbox.urls import open_store
from saga._core.rows import Changes, OutboxRow
from saga.ports import Claim, Store
from tests.benchmarks.meters import Meter, Reading, cost, memory_bytes
from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs.by_hand import create_topics
from tests.benchmarks.programs.cloning import clone
from tests.benchmarks.serve import quiet, say
from transports.urls import open_transport

TOPIC = "one.events"
LOOK_SECONDS = 0.02
ROOM = 8_000
LATER_SECONDS = 3600
TIMES = {"swept": "clock_timestamp() - interval '1 minute'", "handed": "clock_timestamp() + interval '1 hour'"}
"""The sweep does not come for what is in the hand of whoever has written it."""
EMPTY = "select not exists (select from saga_outbox)"


async def fill(store: Store, url: str, rows: int, at: str) -> None:
    """Write the rows, as if at that time."""
    row = OutboxRow(
        id="00000000-0000-4000-8000-000000000000",
        aggregatetype=TOPIC,
        aggregateid="key",
        type="race.one.v1",
        payload=b'{"note":"' + b"x" * 289 + b'"}',
        headers=tuple((f"ce_{name}", b"x" * 20) for name in ("id", "source", "type", "time", "sagaid", "sagaplan")),
        service="one",
    )
    async with store.unit(Claim(service="one", sagas=("fill",))) as unit:
        await unit.write(Changes(outbox=(row,)))
    connection = await asyncpg.connect(url)
    await clone(connection, "saga_outbox", rows - 1, aggregateid="'key' || n", id="md5('' || n)::uuid", created_at=at)
    await connection.execute(f"update saga_outbox set created_at = {at} where aggregateid = 'key'")
    await connection.execute("vacuum analyze saga_outbox")
    await connection.close()


async def rows_of(store: Store, limit: int) -> list[OutboxRow]:
    """Read the rows as whoever has written them has them in memory."""
    return list(
        await store.sweep(
            "bench", older_than_seconds=-2 * LATER_SECONDS, limit=limit, in_hand=frozenset(), lease_seconds=0.001
        )
    )


async def hand_over(relay: Relay, rows: list[OutboxRow]) -> None:
    """Hand rows over as there is room for them, then wait until the last is deleted."""
    at = 0
    while at < len(rows) or relay.in_hand:
        room = max(0, min(1000, ROOM - relay.in_hand))
        relay.hand_over(rows[at : at + room])
        at += room
        await anyio.sleep(0.002)


async def wait_until_empty(url: str, look: Callable[[], None]) -> None:
    """Wait until the table is."""
    connection = await asyncpg.connect(url)
    try:
        for _ in count():
            look()
            if await connection.fetchval(EMPTY):
                return
            await anyio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def measure(sitting: Sitting) -> None:
    """Fill the outbox and see how fast it gets empty."""
    place, rows, way = sitting.place, int(sitting.options["rows"]), sitting.options["way"]
    await create_topics(place, [f"{place.prefix}{TOPIC}"])
    meter = Meter(place.services, postgres_pid=place.postgres_pid, kafka_pid=place.kafka_pid)
    most = [memory_bytes(os.getpid())] * 2
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(place.services))
        await store.migrate()
        await fill(store, place.services, rows, TIMES[way])
        transport = await stack.enter_async_context(open_transport(f"kafka://{place.kafka}?prefix={place.prefix}"))
        relay = Relay(store, await stack.enter_async_context(transport.publisher()))
        taken = await rows_of(store, rows) if way == "handed" else []
        tasks = await stack.enter_async_context(anyio.create_task_group())
        before = await meter.read()
        tasks.start_soon(relay.run)
        if way == "handed":
            await hand_over(relay, taken)
            most.append(memory_bytes(os.getpid()))
        else:
            await wait_until_empty(place.services, lambda: most.append(memory_bytes(os.getpid())))
        say(numbers(sitting, before, await meter.read(), rows) | {"memory_mb_more": mb(max(most) - most[0])})
        tasks.cancel_scope.cancel()


def mb(size: int) -> float:
    """Return bytes as megabytes."""
    return round(size / 1e6, 1)


def numbers(sitting: Sitting, before: Reading, after: Reading, rows: int) -> dict[str, object]:
    """Return what to print."""
    spent = cost(before, after, rows)
    return {
        "case": sitting.options["case"],
        "events": rows,
        "events_per_second": round(rows / (after.at - before.at), 1),
        "python_us_per_event": round(spent.python_ms_per_saga * 1000, 1),
        "postgres_us_per_event": round(spent.postgres_ms_per_saga * 1000, 1),
    }


if __name__ == "__main__":
    quiet()
    anyio.run(measure, SITTING.validate_json(sys.argv[1]))
