"""Measure what metrics and log lines add to one step, without servers: `python -m tests.benchmarks.metering`.

A real batch of one step is taken out of a running app, made as large as asked, and told again and again, as the runtime
tells it after its commit. A line of JSON for each way and size; the time is this thread's own, the median of rounds.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any

import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from saga import NOTHING, Event, Run, Saga, Service
from saga._core.frozen import replace
from saga._runtime import batch
from saga._runtime.context import ServiceContext
from saga._runtime.items import StepItem
from saga._runtime.metering import NullMeter
from saga._runtime.telling import is_asked, tell_batch
from saga._runtime.timing import Stopwatch
from saga._runtime.writing import Writing
from saga.app import App, Coordinator
from saga.telemetry.metrics import OtelMeter

WAYS = ("off", "metrics", "log off", "log debug")
SIZES = (1, 16, 128)
TOLD, ROUNDS = 12_800, 9


class Placed(Event, name="order.placed", version=1):
    """Be the start."""


class Reserved(Event, name="stock.reserved", version=1):
    """Be what the step makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Be a batch as the runtime tells it."""

    context: ServiceContext
    items: Sequence[StepItem]
    writing: Writing

    def of_size(self, size: int) -> Taken:
        """Return it with so many runs."""
        (item,), (run,) = self.items, self.writing.inserts.values()
        ids = [f"{item.envelope.saga_id[:-4]}{number:04d}" for number in range(size)]
        writing = Writing(now=self.writing.now, timer=self.writing.timer)
        for saga_id in ids:
            writing.put(replace(run, saga_id=saga_id))
        items = [
            replace(item, envelope=replace(item.envelope, saga_id=saga_id), run_id=(saga_id, *item.run_id[1:]))
            for saga_id in ids
        ]
        return Taken(context=self.context, items=items, writing=writing)


async def take_batch() -> Taken:
    """Run one saga and return the batch of its step."""
    race = Saga("race", version=1, timeout=timedelta(minutes=1))
    orders, stock = Service("orders"), Service("stock")
    place = orders.starts(race, Placed)

    @stock.step(race, compensation=NOTHING)
    async def reserve(placed: Placed, run: Run) -> Reserved:
        return Reserved()

    found: list[Taken] = []

    def take(context: ServiceContext, items: Any, writing: Writing, seconds: float | None = None) -> None:
        if context.service == "stock" and writing.inserts:
            found.append(Taken(context=context, items=list(items), writing=writing))
        tell_batch(context, items, writing, seconds)

    batch.tell_batch = take  # type: ignore[attr-defined]  # it is put back
    meter = OtelMeter(MeterProvider(shutdown_on_exit=False))
    app = App(
        [orders, stock], store="sqlite:///:memory:", transport="memory://", coordinator=Coordinator(), meter=meter
    )
    try:
        async with app:
            await (await place(Placed())).outcome(timeout_seconds=30)
    finally:
        batch.tell_batch = tell_batch  # type: ignore[attr-defined]
    return found[0]


def us_per_step(taken: Taken, way: str) -> Iterator[float]:
    """Yield the microseconds of each round."""
    context, size = taken.context, len(taken.items)
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    context.meter = OtelMeter(provider) if way == "metrics" else NullMeter()
    logger = logging.getLogger("saga.transitions")
    logger.propagate = False
    logger.handlers[:] = [logging.NullHandler()]
    logger.setLevel({"log debug": logging.DEBUG, "log off": logging.WARNING}.get(way, logging.WARNING))
    context.stopwatch = Stopwatch()
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(TOLD // size):
            if way == "metrics":
                for _ in range(size):
                    context.stopwatch.took("stock.reserve", 0.001)
            if is_asked(context.meter):
                tell_batch(context, taken.items, taken.writing, 0.01)
        yield 1e6 * (time.thread_time() - began) / (TOLD // size * size)


def main() -> None:
    """Measure all ways, and print a line for each."""
    taken = anyio.run(take_batch)
    for way in WAYS:
        for size in SIZES:
            found = round(median(us_per_step(taken.of_size(size), way)), 3)
            sys.stdout.write(json.dumps({"case": f"telling-{way}-batch-{size}", "us_per_step": found}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
