"""Run a race in databases that have seen better days: `python -m tests.benchmarks.programs.product_aged`.

Options: `finished` (so many finished sagas lie in the tables), `pinned` (somebody has left a transaction open, so that
no dead row can be cleaned away).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.cloning import SAGA_ID, clone
from tests.benchmarks.programs.product_legs import LegsRace, open_race
from tests.benchmarks.serve import serve

FIRST = -1
"""A number that no load uses."""


async def fill(url: str, table: str, sagas: int) -> None:
    """Copy the rows of the one saga there is."""
    connection = await asyncpg.connect(url)
    try:
        await clone(connection, table, sagas, saga_id=SAGA_ID)
        await connection.execute(f"vacuum analyze {table}", timeout=600)
        await connection.execute("checkpoint", timeout=600)
    finally:
        await connection.close()


@asynccontextmanager
async def pinned(url: str) -> AsyncGenerator[None]:
    """Hold a snapshot as it is now."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("select pg_current_xact_id()")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def open_aged(sitting: Sitting) -> AsyncGenerator[LegsRace]:
    """Run everything in this process, in aged databases."""
    place, sagas = sitting.place, int(sitting.options.get("finished", "0"))
    async with AsyncExitStack() as stack:
        race = await stack.enter_async_context(open_race(sitting))
        if sagas:
            await race.one(FIRST)
            await fill(place.services, "saga_run", sagas)
            await fill(place.coordinator, "saga_instance", sagas)
        if sitting.options.get("pinned") == "yes":
            await stack.enter_async_context(pinned(place.services))
            await stack.enter_async_context(pinned(place.coordinator))
        yield race


if __name__ == "__main__":
    serve(open_aged)
