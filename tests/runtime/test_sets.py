"""Run steps that take a whole batch."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from outbox import open_coordination_store, open_store
from saga import NOTHING, Batch, Ending, Event, Refusal, Retry, Run, Runs, Saga, Service, Start
from saga._core.envelope import Delivery
from saga._core.rows import DeliveryRow
from saga.app import App, Coordinator
from saga.ports import Claim, Store
from tests.runtime.world import TUNING, VirtualClock
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio

QUICK = Retry(attempts=2, base_seconds=0.01, cap_seconds=0.02)


@pytest.fixture
def anyio_backend() -> Any:
    return ("trio", {"clock": autojump()})


def autojump() -> Any:
    from trio.testing import MockClock

    return MockClock(autojump_threshold=0)


class Ordered(Event, name="set.ordered", version=1):
    number: int


class Reserved(Event, name="set.reserved", version=1):
    number: int


class Sent(Event, name="set.sent", version=1):
    number: int


class SoldOut(Refusal, name="set.sold-out", version=1):
    number: int


@dataclass
class Shop:
    """Reserve for whole batches; what is sent afterwards goes out one by one."""

    free: int = 1000
    poison: int = -1
    short: bool = False
    sizes: list[int] = field(default_factory=list[int])
    place: Start[Ordered] = field(init=False)
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:
        saga = Saga("set-shop", version=1, timeout=timedelta(minutes=5))
        orders, stock = Service("orders"), Service("stock")
        self.services = [orders, stock]
        self.place = orders.starts(saga, Ordered)

        @stock.step(saga, retry=QUICK)
        async def reserve(events: Batch[Ordered], runs: Runs) -> Batch[Reserved | SoldOut]:
            assert len(events) == len(runs)
            self.sizes.append(len(events))
            rows = await runs.db.fetch("select count(*) as taken from effect")
            room = self.free - int(rows[0]["taken"])
            for event, run in list(zip(events, runs, strict=True))[: max(0, room)]:
                await runs.db.execute("insert into effect (run, name) values ($1, $2)", run.saga_id, str(event.number))
            if any(event.number == self.poison for event in events):
                msg = "one of these is poison"
                raise RuntimeError(msg)
            results = [
                Reserved(number=event.number) if place < room else SoldOut(number=event.number)
                for place, event in enumerate(events)
            ]
            return Batch(results[1:] if self.short else results)

        @reserve.compensation
        async def release(reserved: Reserved, run: Run) -> None:
            await run.db.execute("delete from effect where run = $1 and name = $2", run.saga_id, str(reserved.number))

        @orders.step(saga, compensation=NOTHING)
        async def send(reserved: Reserved, run: Run) -> Sent:
            return Sent(number=reserved.number)


@dataclass
class Open:
    """Be a shop whose app is up."""

    app: App
    store: Store

    async def effects(self) -> list[str]:
        """Return what is reserved."""
        async with self.store.unit(Claim(service="stock", sagas=())) as unit:
            return sorted(str(row["name"]) for row in await unit.db.fetch("select name from effect"))


@asynccontextmanager
async def opened(shop: Shop) -> AsyncGenerator[Open]:
    clock = VirtualClock()
    address = f"sqlite:///:memory:?name=sets-{id(shop)}"
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
        MemoryTransport() as transport,
    ):
        await store.migrate()
        async with store.unit(Claim(service="stock", sagas=())) as unit:
            await unit.db.execute("create table effect (run text, name text, primary key (run, name))")
        coordinator = Coordinator(store=coordination)
        app = App(shop.services, coordinator=coordinator, store=store, transport=transport, tuning=TUNING)
        async with app:
            yield Open(app=app, store=store)


async def test_one_call_serves_many_sagas_and_refuses_some_of_them() -> None:
    shop = Shop(free=12)
    async with opened(shop) as up:
        handles = [await shop.place(Ordered(number=number)) for number in range(20)]
        endings = [(await handle.outcome(120)).ending for handle in handles]
        assert endings.count(Ending.COMPLETED) == 12
        assert endings.count(Ending.COMPENSATED) == 8
        assert len(await up.effects()) == 12
    assert sum(shop.sizes) == 20, "no refusal made anything run again"
    assert len(shop.sizes) < 20, "several at once"


async def test_one_that_fails_does_not_take_the_others_with_it() -> None:
    shop = Shop(poison=7)
    async with opened(shop) as up:
        handles = [await shop.place(Ordered(number=number)) for number in range(16)]
        endings = [(await handle.outcome(120)).ending for handle in handles]
        assert [number for number, ending in enumerate(endings) if ending is Ending.COMPENSATED] == [7]
        assert await up.effects() == sorted(str(number) for number in range(16) if number != 7)


async def test_the_same_delivery_twice_in_one_batch_runs_once() -> None:
    shop = Shop()
    async with opened(shop) as up:
        assert up.app._crew is not None
        for participant in up.app._crew.participants:

            async def twice(
                deliveries: list[tuple[Delivery, DeliveryRow | None]], handle: Any = participant.handle
            ) -> None:
                await handle([*deliveries, *deliveries])

            participant.handle = twice  # type: ignore[assignment]
        handles = [await shop.place(Ordered(number=number)) for number in range(8)]
        assert {(await handle.outcome(120)).ending for handle in handles} == {Ending.COMPLETED}
        assert len(await up.effects()) == 8
    assert sum(shop.sizes) == 8


async def test_a_batch_that_comes_back_too_short_fails_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="saga")
    shop = Shop(short=True)
    async with opened(shop) as up:
        handle = await shop.place(Ordered(number=1))
        ended = await handle.outcome(120)
        assert ended.ending is Ending.COMPENSATED
        assert await up.effects() == []
    assert "was given 1 events and returned 0 results; return one for each, in order" in caplog.text
