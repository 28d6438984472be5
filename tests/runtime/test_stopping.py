"""Stop an app in the middle of a handler: it is finished within the budget, or nothing of it is left."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from outbox.urls import open_coordination_store, open_store
from saga import NOTHING, Ending, Event, Run, Saga, Service, Start
from saga.app import App, Coordinator
from saga.ports import Claim
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Asked(Event, name="answer.asked", version=1):
    pass


@dataclass
class Desk:
    """Declare one step that takes its time, the first time."""

    takes_seconds: float
    services: list[Service] = field(init=False)
    ask: Start[Asked] = field(init=False)
    began: anyio.Event = field(default_factory=anyio.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        saga, desk, office = Saga("answers", version=1), Service("desk"), Service("office")
        self.services = [desk, office]
        self.ask = desk.starts(saga, Asked)

        @office.step(saga, compensation=NOTHING)
        async def answer(asked: Asked, run: Run) -> None:
            self.calls += 1
            self.began.set()
            await run.db.execute("insert into answered (saga) values ($1)", run.saga_id)
            await anyio.sleep(self.takes_seconds if self.calls == 1 else 0)


@pytest.mark.parametrize(("takes_seconds", "left", "calls"), [(8, 1, 1), (15, 0, 2)])
async def test_a_stop_finishes_what_is_in_hand_or_leaves_nothing_of_it(
    takes_seconds: float, left: int, calls: int
) -> None:
    desk, clock, address = Desk(takes_seconds), VirtualClock(), "sqlite:///:memory:?name=stopping"
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())

        def app() -> App:
            coordinator = Coordinator(store=coordination)
            return App(desk.services, store=store, transport=transport, coordinator=coordinator, drain_seconds=10)

        async def rows(table: str) -> int:
            async with store.unit(Claim(service="office", sagas=())) as unit:
                return len(await unit.db.fetch(f"select * from {table}"))

        await store.migrate()
        async with store.unit(Claim(service="office", sagas=())) as unit:
            await unit.db.execute("create table answered (saga text primary key)")
        async with app():
            handle = await desk.ask(Asked())
            await desk.began.wait()
        assert (await rows("answered"), await rows("saga_run"), await rows("saga_delivery")) == (left, left + 1, 0)
        async with app() as again:
            ended = await again.handle(desk.ask, handle.saga_id).outcome(60)
        assert (ended.ending, desk.calls, await rows("answered")) == (Ending.COMPLETED, calls, 1)
