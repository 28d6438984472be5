"""Leave many sagas open and look at the memory: `python -m tests.benchmarks.programs.open_sagas`.

The services run here, the coordinator in a process of its own; the last lap begins an hour later. Option: `sagas`.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence
from itertools import count

import anyio
import asyncpg

from tests.benchmarks.meters import children_of, memory_bytes
from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs.product_legs import LegsRace
from tests.benchmarks.programs.product_processes import open_race
from tests.benchmarks.serve import quiet, say

FIRST = 1_000
STARTS_AT_ONCE = 256
LOOK_SECONDS = 0.5
WAITING = "select count(*) from saga_delivery"


async def start_all(race: LegsRace, numbers: Sequence[int]) -> None:
    """Start sagas and wait for none of them."""
    left = iter(numbers)

    async def customer() -> None:
        for number in left:
            await race.start(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(STARTS_AT_ONCE):
            tasks.start_soon(customer)


async def wait_until_waiting(url: str, sagas: int) -> None:
    """Wait until the last step of so many sagas waits for its time."""
    connection = await asyncpg.connect(url)
    try:
        for _ in count():
            if await connection.fetchval(WAITING) >= sagas:
                return
            await anyio.sleep(LOOK_SECONDS)
    finally:
        await connection.close()


async def measure(sitting: Sitting) -> None:
    """Open a few sagas, then all the others, and compare."""
    sagas, url = int(sitting.options["sagas"]), sitting.place.services
    async with open_race(sitting) as race:
        (coordinator,) = children_of(os.getpid())
        await start_all(race, range(1, FIRST + 1))
        await wait_until_waiting(url, FIRST)
        gc.collect()
        before = memory_bytes(os.getpid()), memory_bytes(coordinator)
        began = time.perf_counter()
        await start_all(race, range(FIRST + 1, FIRST + sagas + 1))
        await wait_until_waiting(url, FIRST + sagas)
        taken = time.perf_counter() - began
        gc.collect()
        after = memory_bytes(os.getpid()), memory_bytes(coordinator)
    say(
        {
            "case": "open-sagas",
            "sagas": sagas,
            "sagas_per_second": round(sagas / taken, 1),
            "services_bytes_per_saga": round((after[0] - before[0]) / sagas),
            "coordinator_bytes_per_saga": round((after[1] - before[1]) / sagas),
            "services_mb": round(after[0] / 1e6, 1),
            "coordinator_mb": round(after[1] / 1e6, 1),
        }
    )


if __name__ == "__main__":
    quiet()
    anyio.run(measure, SITTING.validate_json(sys.argv[1]))
