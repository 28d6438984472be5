"""Write the saga with this project: `python -m tests.benchmarks.programs.product`.

The four services and the coordinator run in this process; the services share a database, the coordinator has its own.
A saga has ended when its outcome is known to the starter.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio

from saga import NOTHING, Event, Run, Saga, Service, Start
from saga.app import App, Coordinator, SagaHandle
from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.by_hand import LAP, create_tables
from tests.benchmarks.serve import serve

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
RUN = "insert into lap (number, runner) values ($1, $2)"
OUTCOME_SECONDS = 300.0
STARTS_AT_ONCE = 256


@first.step(relay_race, compensation=NOTHING)
async def run_one(event: Started, run: Run) -> One:
    await run.db.execute(RUN, event.number, "one")
    return One(number=event.number)


@second.step(relay_race, compensation=NOTHING)
async def run_two(event: One, run: Run) -> Two:
    await run.db.execute(RUN, event.number, "two")
    return Two(number=event.number)


@third.step(relay_race, compensation=NOTHING)
async def run_three(event: Two, run: Run) -> Three:
    await run.db.execute(RUN, event.number, "three")
    return Three(number=event.number)


@fourth.step(relay_race, compensation=NOTHING)
async def run_four(event: Three, run: Run) -> Four:
    await run.db.execute(RUN, event.number, "four")
    return Four(number=event.number)


class ProductRace:
    """Start sagas and wait for their outcomes."""

    def __init__(self, begin: Start[Started] = start) -> None:
        self._begin = begin

    async def one(self, number: int) -> None:
        """Start a saga and wait for its outcome."""
        await self._end(await self._begin(Started(number=number)))

    async def _end(self, handle: SagaHandle) -> None:
        ended = await handle.outcome(timeout_seconds=OUTCOME_SECONDS)
        assert ended.ending.value == "completed", ended

    async def many(self, numbers: Sequence[int]) -> None:
        """Start sagas from several tasks and wait for all outcomes."""
        left = iter(numbers)

        async def customer() -> None:
            for number in left:
                tasks.start_soon(self._end, await self._begin(Started(number=number)))

        async with anyio.create_task_group() as tasks:
            for _ in range(STARTS_AT_ONCE):
                tasks.start_soon(customer)


def app_at(sitting: Sitting, services: Sequence[Service], **more: Any) -> App:
    """Return an app of these services and the coordinator at the sitting's place."""
    place = sitting.place
    return App(
        services,
        store=place.services,
        transport=f"kafka://{place.kafka}?prefix={place.prefix}",
        coordinator=Coordinator(store=place.coordinator),
        **more,
    )


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[ProductRace]:
    """Run everything in this process."""
    await create_tables(sitting.place.services, LAP)
    async with app_at(sitting, [first, second, third, fourth]):
        yield ProductRace()


if __name__ == "__main__":
    serve(open_race)
