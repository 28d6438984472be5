"""Run a race of another shape with this project: `python -m tests.benchmarks.programs.product_legs`.

Options: `hot_rows` (a runner updates one of so many rows instead of inserting its lap), `batch_cap`, `refusing`
(never, before, after), `delay_seconds` (before the last lap), `timeout_seconds` (of a saga), `tracing` (off, idle, or
the share of sagas that is recorded), `store` (sqlite: everything in this process, without servers).
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from saga import Ending
from saga.app import App, Coordinator, SagaHandle, Tuning
from tests.benchmarks.place import Shape, Sitting
from tests.benchmarks.programs import legs
from tests.benchmarks.programs.by_hand import LAP, RUNNERS, create_tables
from tests.benchmarks.serve import serve
from tests.benchmarks.tracing import tracer_of

OUTCOME_SECONDS = 600.0
STARTS_AT_ONCE = 256


class LegsRace:
    """Start sagas and wait for their outcomes; `ended` counts these."""

    def __init__(self, race: legs.Race, note: str) -> None:
        self._race = race
        self._note = note
        self.ended: dict[Ending, int] = {}

    async def one(self, number: int) -> None:
        """Start a saga and wait for its outcome."""
        await self.end(await self.start(number))

    async def many(self, numbers: Sequence[int]) -> None:
        """Start sagas from several tasks and wait for all outcomes."""
        left = iter(numbers)

        async def customer() -> None:
            for number in left:
                tasks.start_soon(self.end, await self.start(number))

        async with anyio.create_task_group() as tasks:
            for _ in range(STARTS_AT_ONCE):
                tasks.start_soon(customer)

    async def start(self, number: int) -> SagaHandle:
        """Start a saga."""
        handle: SagaHandle = await self._race.start(self._race.started(number=number, note=self._note))
        return handle

    async def end(self, handle: SagaHandle) -> None:
        """Wait for its outcome."""
        ended = await handle.outcome(timeout_seconds=OUTCOME_SECONDS)
        assert ended.ending is not Ending.STUCK, ended
        self.ended[ended.ending] = self.ended.get(ended.ending, 0) + 1


def race_of(sitting: Sitting) -> legs.Race:
    """Declare the race that a sitting asks for."""
    options = sitting.options
    return legs.race_of(
        sitting.shape,
        hot_rows=int(options.get("hot_rows", "0")),
        refusing=legs.Refusing(options.get("refusing", "never")),
        delay_seconds=float(options.get("delay_seconds", "0")),
        timeout_seconds=float(options.get("timeout_seconds", "300")),
    )


def tuning_of(sitting: Sitting) -> Tuning:
    """Return the numbers to run with."""
    cap = sitting.options.get("batch_cap")
    return Tuning(batch_cap=int(cap)) if cap else Tuning()


async def create_user_tables(url: str, shape: Shape, hot_rows: int) -> None:
    """Create what the runners write to."""
    await create_tables(url, LAP, legs.HOT)
    if hot_rows:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(legs.FILL_HOT, list(RUNNERS[: shape.steps]), hot_rows)
        finally:
            await connection.close()


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[LegsRace]:
    """Run everything in this process."""
    place, race = sitting.place, race_of(sitting)
    more: dict[str, Any] = {"tuning": tuning_of(sitting), "tracer": tracer_of(sitting.options.get("tracing", "idle"))}
    async with AsyncExitStack() as stack:
        if sitting.options.get("store") == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saga-bench-")))
            with closing(sqlite3.connect(folder / "services.db")) as connection:
                connection.execute(LAP)
            store, transport = f"sqlite:///{folder}/services.db", "memory://"
            coordinator = Coordinator(store=f"sqlite:///{folder}/coordinator.db")
        else:
            await create_user_tables(place.services, sitting.shape, int(sitting.options.get("hot_rows", "0")))
            store, transport = place.services, f"kafka://{place.kafka}?prefix={place.prefix}"
            coordinator = Coordinator(store=place.coordinator)
        app = App(race.services, store=store, transport=transport, coordinator=coordinator, **more)
        await stack.enter_async_context(app)
        yield LegsRace(race, sitting.shape.note)


if __name__ == "__main__":
    serve(open_race)
