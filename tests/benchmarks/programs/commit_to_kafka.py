"""Tell how long after its commit an event can be read: `python -m tests.benchmarks.programs.commit_to_kafka`.

One saga is started after another; a consumer of its own sees the first event. The commit is taken to be the moment at
which the start returns, so an event that is read sooner has taken no time. Option: `sagas`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import anyio

from tests.benchmarks.loads import Taken
from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs.by_hand import consuming
from tests.benchmarks.programs.product_legs import open_race
from tests.benchmarks.serve import quiet, say


async def see_events(consumer: Any, seen: dict[str, float]) -> None:
    """Take note of when each saga's first event has come."""
    while True:
        polled = await consumer.getmany(timeout_ms=1000)
        now = time.perf_counter()
        for messages in polled.values():
            for message in messages:
                seen.setdefault(message.key.decode(), now)


async def measure(sitting: Sitting) -> None:
    """Start sagas and compare."""
    began = time.perf_counter()
    committed: dict[str, float] = {}
    seen: dict[str, float] = {}
    topic = f"{sitting.place.prefix}one.events"
    async with (
        open_race(sitting) as race,
        consuming(sitting.place, [topic]) as (consumer,),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(see_events, consumer, seen)
        for number in range(1, int(sitting.options["sagas"]) + 1):
            handle = await race.start(number)
            committed[handle.saga_id] = time.perf_counter()
            await race.end(handle)
        tasks.cancel_scope.cancel()
    late = [max(0.0, seen[saga_id] - at) for saga_id, at in committed.items()]
    taken = Taken(sagas=len(late), seconds=time.perf_counter() - began, latencies=late)
    say({"case": "commit-to-kafka", **{name: value for name, value in taken.numbers().items() if "latency" in name}})


if __name__ == "__main__":
    quiet()
    anyio.run(measure, SITTING.validate_json(sys.argv[1]))
