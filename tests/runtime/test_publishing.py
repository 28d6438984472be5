"""Handlers publish plain events in their transactions, and the subscribers of other services get each once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import (
    NOTHING,
    Dependency,
    Ended,
    Event,
    NotRunning,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
    SettingsError,
    Start,
    TooLarge,
)
from saga.app import App, Coordinator
from saga.ports import Claim, Store
from tests.runtime.plain_world import listening, until
from tests.runtime.world import TUNING, VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)
SECONDS = timedelta(seconds=5)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Asked(Event, name="desk.asked", version=1):
    """Be a question; `how` tells the handlers what to do."""

    how: str = "ok"


class Opened(Event, name="desk.opened", version=1):
    """Be a file opened for it."""

    how: str


class Called(Event, name="desk.called", version=1):
    """Be a call made."""

    how: str


class Trip(Event, name="trip.wanted", version=1):
    """Be what a child saga starts with."""

    how: str


class Busy(Refusal, name="desk.busy", version=1):
    """Say no."""


class Noted(Event, name="desk.noted", version=1):
    """Be a plain event: which handler has published it."""

    by: str


@dataclass
class Desk:
    """Declare a saga whose every handler publishes, its child, and a service that only listens."""

    notes: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    met: list[BaseException] = field(default_factory=list[BaseException])
    services: list[Service] = field(init=False)
    ask: Start[Asked] = field(init=False)

    def __post_init__(self) -> None:  # noqa: C901 - one function for each handler
        """Declare orders -> desk (step, child, external pivot)."""
        saga, trip = Saga("question", version=1, timeout=SECONDS), Saga("trip", version=1, timeout=SECONDS)
        orders, desk, notes = map(Service, ("orders", "desk", "notes"))
        self.services = [orders, desk, notes]
        self.ask = orders.starts(saga, Asked)
        wanted = desk.starts(trip, Trip)

        async def publish(by: str, run: Run) -> None:
            await run.publish(Noted(by=by), key=None)

        @desk.step(saga, timeout=SECONDS, retry=QUICK)
        async def open_file(asked: Asked, run: Run) -> Opened | Busy:
            await publish("step", run)
            if asked.how == "refuse":
                return Busy()
            if asked.how == "fail once" and run.attempt == 1:
                raise RuntimeError
            return Opened(how=asked.how)

        @open_file.compensation
        async def close_file(opened: Opened, run: Run) -> None:
            await publish("compensation", run)

        @desk.child(saga, wanted, timeout=SECONDS)
        async def travel(opened: Opened, run: Run) -> Trip:
            await publish("child", run)
            return Trip(how=opened.how)

        @travel.completed
        async def travelled(ended: Ended, run: Run) -> None:
            await publish("completed", run)

        @desk.retriable(trip, timeout=SECONDS, compensation=NOTHING)
        async def go(trip: Trip, run: Run) -> None:
            await publish("travelling", run)

        @desk.step(saga, timeout=SECONDS, retry=QUICK, calls=Dependency("gateway"), compensation=NOTHING)
        async def call_out(opened: Opened, run: Run) -> Called | Busy:
            try:
                await publish("external", run)
            except NotRunning as error:
                self.met.append(error)
            return Busy() if opened.how == "refuse late" else Called(how=opened.how)

        @call_out.recorded
        async def record(called: Called, run: Run) -> None:
            await publish("recorded", run)

        @orders.on_end(saga)
        async def settle(ended: Ended, run: Run) -> None:
            await publish(f"on_end {ended.ending}", run)

        @notes.on(Noted, source=desk)
        async def note(noted: Noted, run: Run) -> None:
            await self._note(noted, run)

        @notes.on(Noted, source="orders")
        async def note_end(noted: Noted, run: Run) -> None:
            await self._note(noted, run)

    async def _note(self, noted: Noted, run: Run) -> None:
        self.notes.append((noted.by, run.step, run.tenant))
        await run.db.execute("insert into note (by, tenant) values ($1, $2)", noted.by, run.tenant)


@asynccontextmanager
async def office(desk: Desk) -> AsyncGenerator[tuple[App, Store]]:
    """Run the desk."""
    address = f"sqlite:///:memory:?name=publishing{next(_NUMBERS)}"
    clock = VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        await store.migrate()
        async with store.unit(Claim(service="notes", sagas=())) as unit:
            await unit.db.execute("create table note (by text, tenant text)")
        app = App(
            desk.services,
            coordinator=Coordinator(store=coordination),
            store=store,
            transport=transport,
            tuning=TUNING,
        )
        yield await stack.enter_async_context(app), store


async def played(desk: Desk, how: str, *, at_end: int) -> list[str]:
    """Play one saga and return what was published, sorted, once `at_end` events have been noted."""
    async with office(desk) as (_, store):
        handle = await desk.ask(Asked(how=how), key="1", tenant="acme")
        await handle.outcome(60)

        async def rows() -> list[Any]:
            async with store.unit(Claim(service="notes", sagas=())) as unit:
                return list(await unit.db.fetch("select by, tenant from note order by by"))

        async def all_noted() -> bool:
            return len(await rows()) >= at_end

        await until(all_noted)
        found = await rows()
        assert {row["tenant"] for row in found} == {"acme"}
        return [row["by"] for row in found]


async def test_every_handler_with_a_transaction_publishes() -> None:
    desk = Desk()
    noted = await played(desk, "ok", at_end=6)
    assert noted == ["child", "completed", "on_end completed", "recorded", "step", "travelling"]
    assert [type(error) for error in desk.met] == [NotRunning]
    assert "desk.call_out: run.publish has no open transaction here" in str(desk.met[0])
    assert {step for by, step, _ in desk.notes if by.startswith("on_end")} == {"notes.note_end"}


async def test_what_a_refusing_step_has_published_is_never_sent() -> None:
    assert await played(Desk(), "refuse", at_end=1) == ["on_end compensated"]


async def test_an_attempt_that_raises_has_published_nothing_and_the_next_one_publishes_once() -> None:
    assert (await played(Desk(), "fail once", at_end=6)).count("step") == 1


async def test_a_compensation_publishes() -> None:
    noted = await played(Desk(), "refuse late", at_end=6)
    assert "compensation" in noted
    assert "on_end compensated" in noted
    assert "recorded" not in noted


async def test_what_cannot_be_sent_is_said_in_the_handler_and_nothing_else_is_lost() -> None:
    orders, shop = Service("orders"), Service("shop")
    saga = Saga("one", version=1)
    begin = orders.starts(saga, Asked)
    met: list[BaseException] = []

    @shop.retriable(saga, compensation=NOTHING)
    async def sell(asked: Asked, run: Run) -> None:
        for event, key, topic in (
            (Noted(by="x" * 2_000_000), None, None),
            (Noted(by="x"), "", None),
            (Noted(by="x"), "k", "no topic"),
        ):
            try:
                await run.publish(event, key=key, topic=topic)
            except (TooLarge, SettingsError) as error:
                met.append(error)
        await run.publish(Noted(by="in the end"), key="k")

    desk = Desk()
    desk.services = [orders, shop]
    async with office(desk) as (app, _):
        sent: list[Any] = []
        context = app.context("shop")
        context.hand_over = listening(sent, context.hand_over)
        await (await begin(Asked(), key="1")).outcome(60)
    assert [type(error) for error in met] == [TooLarge, SettingsError, SettingsError]
    assert [row.payload for row in sent if row.type == "desk.noted.v1"] == [b'{"by":"in the end"}']
    assert sent[0].shard is not None
