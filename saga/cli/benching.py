"""Declare `saga bench`: how many sagas a second this machine, database and broker carry, and how long one takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from saga._core.declare import Service
from saga._core.definition import Saga
from saga._core.events import Event
from saga._core.run import Run
from saga._core.start import Start
from saga._core.step import NOTHING
from saga._core.words import Ending
from saga._masking import masked_url
from saga._serving import serve
from saga.app import App, Coordinator, MissingSteps
from saga.cli.configuring import Json, warn_of
from saga.cli.running import Store, To, spoken
from saga.cli.saying import Exit, err, fail, out, print_json
from saga.settings import Settings, read_settings

PREFIX, SCHEMA = "saga-bench.", "saga_bench"
WARM_SHARE = 0.2
DONE_SECONDS = 60.0
MILLISECONDS = 1_000

Seconds = Annotated[float, typer.Option("--seconds", min=1.0, max=600.0, help="How long to measure.")]
Open = Annotated[int, typer.Option("--open", min=1, max=1_000, help="How many sagas are open at any time.")]


class Begun(Event, name="bench.begun", version=1):
    """Be the start of a saga that is measured."""

    number: int


class First(Event, name="bench.first", version=1):
    """Say that the first step is done."""

    number: int


class Second(Event, name="bench.second", version=1):
    """Say that the second step is done."""

    number: int


class Third(Event, name="bench.third", version=1):
    """Say that the third step is done."""

    number: int


class Fourth(Event, name="bench.fourth", version=1):
    """Say that the fourth step is done."""

    number: int


def declared() -> tuple[list[Service], Start[Begun]]:
    """Return four services with a step each, and what starts their saga: steps that write nothing of their own."""
    saga = Saga("bench", version=1)
    one, two, three, four = (Service(f"bench-{name}") for name in ("one", "two", "three", "four"))

    @one.step(saga, compensation=NOTHING)
    async def first(event: Begun, run: Run) -> First:
        del run
        return First(number=event.number)

    @two.step(saga, compensation=NOTHING)
    async def second(event: First, run: Run) -> Second:
        del run
        return Second(number=event.number)

    @three.step(saga, compensation=NOTHING)
    async def third(event: Second, run: Run) -> Third:
        del run
        return Third(number=event.number)

    @four.step(saga, compensation=NOTHING)
    async def fourth(event: Third, run: Run) -> Fourth:
        del run
        return Fourth(number=event.number)

    return [one, two, three, four], one.starts(saga, Begun)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Hold what was measured: how long each saga took from its start to its outcome, and how long all of it lasted."""

    seconds: float = 0.0
    took: list[float] = field(default_factory=list[float])
    undone: int = 0

    def percentile(self, share: float) -> float:
        """Return the time within which that share of the sagas had ended, in milliseconds."""
        ordered = sorted(self.took)
        return ordered[ceil(share * len(ordered)) - 1] * MILLISECONDS if ordered else 0.0


def bench(
    store: Store = None,
    transport: To = None,
    seconds: Seconds = 5.0,
    open_: Open = 16,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Run sagas of four steps as fast as they go, all services in this process, and say how many and how quickly.

    The steps write nothing of their own: it is what a saga costs before your own code. Without settings on SQLite and
    in memory; else on the SAGA_STORE and SAGA_TRANSPORT in force, in a schema `saga_bench` and on topics
    `saga-bench.…`, which stay there.
    """
    with spoken(), tempfile.TemporaryDirectory(prefix="saga-bench-") as folder:
        reading = read_settings(given={"store": store, "transport": transport})
        warn_of(reading)
        settings = apart(reading.settings, Path(folder))
        err.print(f"for {seconds:g} s on {masked_url(settings.store)} and {masked_url(settings.transport)}")
        tally = Tally()
        serve(partial(_measure, settings, seconds, open_, tally))
    if not tally.took:
        fail(["no saga has completed: try --seconds 30"], Exit.NOTHING)
    _tell(tally, open_, json=json)


def apart(settings: Settings, folder: Path) -> Settings:
    """Return settings that keep what is measured away from what is there."""
    store = settings.store_url or f"sqlite:///{folder}/bench.db"
    transport = settings.transport or "memory://"
    if store.startswith("postgres") and "schema=" not in store:
        store += f"{'&' if '?' in store else '?'}schema={SCHEMA}"
    if transport.startswith("kafka:") and "prefix=" not in transport:
        transport += f"{'&' if '?' in transport else '?'}prefix={PREFIX}"
    told: dict[str, Any] = {"store": store, "transport": transport, "store_password": "", "coordinator_store": ""}
    return settings.model_copy(update=told | {"plans": "", "migrate": True, "slot": "bench"})


async def _measure(settings: Settings, seconds: float, at_once: int, tally: Tally) -> None:
    services, start = declared()
    app = App.from_env(services, coordinator=Coordinator(), settings=settings, missing_steps=MissingSteps.GO_ON)
    async with app:
        await _load(start, seconds * WARM_SHARE, at_once, Tally())
        await _load(start, seconds, at_once, tally)


async def _load(start: Start[Begun], seconds: float, at_once: int, tally: Tally) -> None:
    """Keep that many sagas open for a time; those open at its end are waited for, and count."""
    began = anyio.current_time()

    async def keep_going(number: int) -> None:
        while anyio.current_time() - began < seconds:
            at = anyio.current_time()
            ended = await (await start(Begun(number=number))).outcome(timeout_seconds=DONE_SECONDS)
            if ended.ending is Ending.COMPLETED:
                tally.took.append(anyio.current_time() - at)
            else:
                tally.undone += 1

    async with anyio.create_task_group() as tasks:
        for number in range(at_once):
            tasks.start_soon(keep_going, number)
    tally.seconds = anyio.current_time() - began


PERCENTILES: Sequence[tuple[str, float]] = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def _tell(tally: Tally, at_once: int, *, json: bool) -> None:
    rate = len(tally.took) / tally.seconds
    times = {f"{name}_ms": round(tally.percentile(share), 1) for name, share in PERCENTILES}
    if json:
        numbers: dict[str, object] = {"sagas": len(tally.took), "undone": tally.undone, "open": at_once}
        print_json(numbers | {"seconds": round(tally.seconds, 3), "sagas_per_second": round(rate, 1)} | times)
        return
    out.print(f"{rate:.0f} sagas/s: {len(tally.took)} of four steps in {tally.seconds:.1f} s, {at_once} open at a time")
    out.print(f"from start to outcome: {', '.join(f'{name[:-3]} {value:g} ms' for name, value in times.items())}")
    if tally.undone:
        out.print(f"{tally.undone} were undone")
