"""Write the saga with steps that take a whole batch: `python -m tests.benchmarks.programs.product_sets`.

Everything else is as in `product`; each step writes the rows of its batch in one statement.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from saga import NOTHING, Batch, Runs, Saga, Service
from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.by_hand import LAP, create_tables
from tests.benchmarks.programs.product import Four, One, ProductRace, Started, Three, Two, app_at
from tests.benchmarks.serve import serve

MISSING = ""

relay_race = Saga("relay-race", version=1, timeout=timedelta(minutes=5))
first, second, third, fourth = (Service(name) for name in ("first", "second", "third", "fourth"))
start = first.starts(relay_race, Started)
RUN = "insert into lap (number, runner) select number, $2 from unnest($1::bigint[]) as number"


@first.step(relay_race, compensation=NOTHING)
async def run_one(events: Batch[Started], runs: Runs) -> Batch[One]:
    await runs.db.execute(RUN, [event.number for event in events], "one")
    return Batch(One(number=event.number) for event in events)


@second.step(relay_race, compensation=NOTHING)
async def run_two(events: Batch[One], runs: Runs) -> Batch[Two]:
    await runs.db.execute(RUN, [event.number for event in events], "two")
    return Batch(Two(number=event.number) for event in events)


@third.step(relay_race, compensation=NOTHING)
async def run_three(events: Batch[Two], runs: Runs) -> Batch[Three]:
    await runs.db.execute(RUN, [event.number for event in events], "three")
    return Batch(Three(number=event.number) for event in events)


@fourth.step(relay_race, compensation=NOTHING)
async def run_four(events: Batch[Three], runs: Runs) -> Batch[Four]:
    await runs.db.execute(RUN, [event.number for event in events], "four")
    return Batch(Four(number=event.number) for event in events)


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[ProductRace]:
    """Run everything in this process."""
    await create_tables(sitting.place.services, LAP)
    async with app_at(sitting, [first, second, third, fourth]):
        yield ProductRace(start)


if __name__ == "__main__":
    serve(open_race)
