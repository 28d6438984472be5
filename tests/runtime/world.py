"""Give runtime tests a small world: three services, a coordinator, SQLite in memory, the memory transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import anyio

from outbox.urls import open_coordination_store, open_store
from saga import (
    NOTHING,
    Dependency,
    Ended,
    Event,
    Purpose,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
)
from saga._core.start import Start
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from saga.ports import Claim, CoordinationStore, Store, Transport
from transports import MemoryTransport, open_transport

_NUMBERS = count(1)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Tell the event loop's time as wall-clock time; on a virtual loop an hour passes at once."""

    def now(self) -> datetime:
        """Return the loop's time."""
        return EPOCH + timedelta(seconds=anyio.current_time())


class Placed(Event, name="order.placed", version=1):
    """Be an order; the fields tell the handlers how to behave."""

    order: str
    reserve: str = "ok"
    capture: str = "ok"
    ship: str = "ok"


class Reserved(Event, name="stock.reserved", version=1):
    """Be a reservation."""

    order: str
    capture: str
    ship: str


class Captured(Event, name="payment.captured", version=1):
    """Be a captured payment."""

    order: str
    ship: str


class Shipped(Event, name="parcel.shipped", version=1):
    """Be a parcel on its way."""

    order: str


class OutOfStock(Refusal, name="stock.out", version=1):
    """Say that there is none left."""

    order: str


class Declined(Refusal, name="payment.declined", version=1):
    """Say that the card was declined."""

    order: str


QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)


@dataclass
class World:
    """Hold the declarations and what the handlers have seen."""

    timeout: timedelta = timedelta(minutes=1)
    forward_window: timedelta = timedelta(days=7)
    undo_retry: Retry | None = None
    ship_retry: Retry = QUICK
    seen: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    endings: list[Ended] = field(default_factory=list[Ended])
    behaviour: dict[str, Callable[[Run], Any]] = field(default_factory=dict[str, Callable[[Run], Any]])
    services: list[Service] = field(init=False)
    place: Start[Placed] = field(init=False)

    def __post_init__(self) -> None:  # noqa: C901 - one function for each step
        """Declare orders -> inventory -> payment (external pivot) -> shipping."""
        saga = Saga("checkout", version=1, timeout=self.timeout, forward_window=self.forward_window)
        orders, inventory, payment, shipping = map(Service, ("orders", "inventory", "payment", "shipping"))
        self.services = [orders, inventory, payment, shipping]
        self.place = orders.starts(saga, Placed)
        seconds = timedelta(seconds=5)

        @inventory.step(saga, timeout=seconds, retry=QUICK)
        async def reserve(order: Placed, run: Run) -> Reserved | OutOfStock:
            await self._behave("reserve", order.reserve, run)
            if order.reserve == "refuse":
                return OutOfStock(order=order.order)
            await run.db.execute("insert into effect (run, name) values ($1, 'reserve')", run.saga_id)
            if order.reserve == "odd":
                return Shipped(order=order.order)  # type: ignore[return-value]
            if order.reserve == "refuse after write":
                return OutOfStock(order=order.order)
            return Reserved(order=order.order, capture=order.capture, ship=order.ship)

        @reserve.compensation(retry=self.undo_retry)
        async def release(reserved: Reserved, run: Run) -> None:
            await self._behave("release", reserved.order, run)
            await run.db.execute("delete from effect where run = $1 and name = 'reserve'", run.saga_id)

        @payment.pivot(saga, timeout=seconds, retry=QUICK, calls=Dependency("gateway"))
        async def capture(reserved: Reserved, run: Run) -> Captured | Declined:
            await self._behave("capture", reserved.capture, run)
            if reserved.capture == "refuse" or (reserved.capture == "doubt" and run.purpose is Purpose.RESOLVE):
                return Declined(order=reserved.order)
            if reserved.capture == "doubt":
                msg = "the gateway does not answer"
                raise ConnectionError(msg)
            return Captured(order=reserved.order, ship=reserved.ship)

        @shipping.retriable(saga, timeout=seconds, retry=self.ship_retry)
        async def ship(captured: Captured, run: Run) -> Shipped:
            await self._behave("ship", captured.ship, run)
            await run.db.execute("insert into effect (run, name) values ($1, 'ship')", run.saga_id)
            return Shipped(order=captured.order)

        @orders.on_end(saga)
        async def settle(end: Ended, run: Run) -> None:
            await run.db.execute("insert into ended (run, ending) values ($1, $2)", run.saga_id, end.ending.value)
            self.endings.append(end)

    async def _behave(self, step: str, how: str, run: Run) -> None:
        self.seen.append((step, run.saga_id))
        if how.startswith("fail"):
            tries = int(how.removeprefix("fail").strip() or 99)
            if run.attempt <= tries:
                msg = f"{step} fails on attempt {run.attempt}"
                raise RuntimeError(msg)
        if step in self.behaviour:
            found = self.behaviour[step](run)
            if found is not None:
                await found


@dataclass
class Running:
    """Be a world whose app is up."""

    world: World
    app: App
    store: Store
    transport: Transport

    async def rows(self, sql: str, *args: object) -> list[Any]:
        """Read rows of any table."""
        async with self.store.unit(Claim(service="orders", sagas=())) as unit:
            return list(await unit.db.fetch(sql, *args))


TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)


async def make_tables(store: Store) -> None:
    """Create the tables the handlers write."""
    async with store.unit(Claim(service="orders", sagas=())) as unit:
        await unit.db.execute("create table effect (run text, name text, primary key (run, name))")
        await unit.db.execute("create table ended (run text, ending text)")


@asynccontextmanager
async def running(
    world: World, *, tuning: Tuning = TUNING, coordinating: CoordinatorTuning | None = None
) -> AsyncGenerator[Running]:
    """Run a world on SQLite in memory and the memory transport: services and coordinator in one app."""
    address = f"sqlite:///:memory:?name=w{next(_NUMBERS)}"
    clock = VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        yield await stack.enter_async_context(up(world, store, coordination, transport, tuning, coordinating))


@asynccontextmanager
async def running_for_real(world: World, database: str, bootstrap: str) -> AsyncGenerator[Running]:
    """Run a world on PostgreSQL and Kafka."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        coordination = await stack.enter_async_context(open_coordination_store(database))
        # Tests share a broker, and the names of services: each has a fleet of its own.
        url = f"kafka://{bootstrap}?prefix={uuid4().hex[:8]}."
        transport = await stack.enter_async_context(open_transport(url))
        yield await stack.enter_async_context(up(world, store, coordination, transport, Tuning()))


@asynccontextmanager
async def up(
    world: World,
    store: Store,
    coordination: CoordinationStore,
    transport: Transport,
    tuning: Tuning,
    coordinating: CoordinatorTuning | None = None,
) -> AsyncGenerator[Running]:
    """Run a world on open adapters."""
    await store.migrate()
    await make_tables(store)
    coordinator = Coordinator(store=coordination, tuning=coordinating)
    app = App(world.services, coordinator=coordinator, store=store, transport=transport, tuning=tuning)
    async with app:
        yield Running(world=world, app=app, store=store, transport=transport)


__all__ = ["NOTHING", "Declined", "OutOfStock", "Placed", "Running", "World", "running", "running_for_real"]
