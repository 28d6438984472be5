"""Start sagas in the ways a case asks for, and tell how long they took."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import quantiles
from typing import Protocol, assert_never

import anyio

from tests.benchmarks.place import Kind, Load

SEED = 11
BEHIND_SECONDS = 4


class Race(Protocol):
    """Be a running program that can run sagas; every number is used once."""

    async def one(self, number: int) -> None:
        """Start a saga and return once its end is known where it was started."""
        ...

    async def many(self, numbers: Sequence[int]) -> None:
        """Start sagas as fast as possible and return once all have ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Tell how many sagas ran in how long; `latencies` in seconds, empty where only the whole was timed."""

    sagas: int
    seconds: float
    latencies: Sequence[float] = ()
    gave_up_after_seconds: float | None = None

    def numbers(self) -> dict[str, float]:
        """Return what to print."""
        found = {"sagas": self.sagas, "sagas_per_second": round(self.sagas / self.seconds, 1)}
        if len(self.latencies) > 1:
            cuts = quantiles(self.latencies, n=100, method="inclusive")
            found |= {"latency_p50_ms": round(cuts[49] * 1000, 2), "latency_p99_ms": round(cuts[98] * 1000, 2)}
        if self.gave_up_after_seconds is not None:
            found["gave_up_after_seconds"] = round(self.gave_up_after_seconds, 1)
        return found


async def run_load(race: Race, load: Load, numbers: Iterator[int]) -> Taken:
    """Run one load."""
    match load.kind:
        case Kind.CLOSED:
            return await closed(race, load.open, load.seconds, numbers)
        case Kind.FLOOD:
            return await flood(race, list(islice(numbers, load.sagas)))
        case Kind.POISSON:
            return await poisson(race, load.per_second, load.seconds, numbers)
        case _:
            assert_never(load.kind)


async def closed(race: Race, at_once: int, seconds: float, numbers: Iterator[int]) -> Taken:
    """Keep so many sagas open for the time."""
    latencies: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def customer() -> None:
        while (start := time.perf_counter()) < until:
            await race.one(next(numbers))
            latencies.append(time.perf_counter() - start)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(customer)
    return Taken(sagas=len(latencies), seconds=time.perf_counter() - began, latencies=latencies)


async def flood(race: Race, numbers: Sequence[int]) -> Taken:
    """Start them all; the time ends with the last."""
    began = time.perf_counter()
    await race.many(numbers)
    return Taken(sagas=len(numbers), seconds=time.perf_counter() - began)


async def poisson(race: Race, per_second: float, seconds: float, numbers: Iterator[int]) -> Taken:
    """Start sagas at times drawn beforehand; one that is started late has been waiting since its own time.

    A program that falls far behind is not made to catch up with all of them: the load ends there.
    """
    drawn = random.Random(SEED)
    latencies: list[float] = []
    gave_up: float | None = None
    open_sagas = 0
    began = time.perf_counter()

    async def customer(due: float) -> None:
        nonlocal open_sagas
        await race.one(next(numbers))
        latencies.append(time.perf_counter() - due)
        open_sagas -= 1

    due = began
    async with anyio.create_task_group() as tasks:
        while (due := due + drawn.expovariate(per_second)) <= began + seconds:
            if (ahead := due - time.perf_counter()) > 0:
                await anyio.sleep(ahead)
            if open_sagas > BEHIND_SECONDS * per_second:
                gave_up = time.perf_counter() - began
                break
            open_sagas += 1
            tasks.start_soon(customer, due)
    taken = time.perf_counter() - began
    return Taken(sagas=len(latencies), seconds=taken, latencies=latencies, gave_up_after_seconds=gave_up)
