"""Give breaker tests a world: an order service, a payment service, and a gateway that can be down."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path

import anyio

from outbox.urls import open_coordination_store, open_store
from saga import Breaker, Cause, Dependency, Ended, Ending, Event, Refusal, Retry, Run, Saga, Service, WhenOpen
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga._core.start import Start
from saga.app import App, Coordinator, Tuning
from saga.ports import CoordinationStore, Store
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

_NUMBERS = count(1)
ANSWER_SECONDS = 0.05
TIMEOUT_SECONDS = 1.0


class Ordered(Event, name="order.placed", version=1):
    order: str


class Paid(Event, name="order.paid", version=1):
    order: str


class Declined(Refusal, name="order.declined", version=1):
    order: str


@dataclass
class Gateway:
    """Answer within 50 ms while it is up; while it is down nobody hears anything."""

    up: bool = True
    refuses: bool = False
    calls: list[float] = field(default_factory=list[float])
    unanswered: Counter[str] = field(default_factory=Counter[str])
    charged: Counter[str] = field(default_factory=Counter[str])
    one_charged: anyio.Event = field(default_factory=anyio.Event)

    async def charge(self, key: str) -> bool:
        self.calls.append(anyio.current_time())
        if not self.up:
            self.unanswered[key] += 1
            await anyio.sleep_forever()
        await anyio.sleep(ANSWER_SECONDS)
        self.charged[key] += 1
        self.one_charged, charged = anyio.Event(), self.one_charged
        charged.set()
        return not self.refuses

    async def has_charged(self, orders: int, within_seconds: float) -> None:
        """Return once that many orders were charged."""
        with anyio.fail_after(within_seconds):
            while len(self.charged) < orders:
                await self.one_charged.wait()

    def per_second(self, start: float, end: float) -> list[int]:
        """Return how many calls began in each second between two times."""
        seconds = Counter(int(at - start) for at in self.calls if start <= at < end)
        return [seconds[second] for second in range(int(end - start))]


@dataclass
class Shop:
    """Be the declarations: orders.start -> payment.pay, which calls the gateway and can be undone."""

    breaker: Breaker | None = field(default_factory=Breaker)
    rate_per_second: float | None = None
    timeout: timedelta = timedelta(minutes=10)
    when_open: WhenOpen = WhenOpen.LET_THROUGH
    retry: Retry = field(default_factory=Retry)
    gateway: Gateway = field(default_factory=Gateway)
    ended: Counter[Ending] = field(default_factory=Counter[Ending])
    causes: Counter[Cause] = field(default_factory=Counter[Cause])
    refunded: list[str] = field(default_factory=list[str])
    one_ended: anyio.Event = field(default_factory=anyio.Event)
    services: list[Service] = field(init=False)
    place: Start[Ordered] = field(init=False)

    def __post_init__(self) -> None:
        shop = Saga("shop", version=1, timeout=self.timeout)
        dependency = Dependency("gateway", rate_per_second=self.rate_per_second, breaker=self.breaker)
        orders, payment = Service("orders"), Service("payment")
        self.services = [orders, payment]
        self.place = orders.starts(shop, Ordered, when_open=self.when_open, hold_seconds=20)

        @payment.step(shop, calls=dependency, timeout=timedelta(seconds=TIMEOUT_SECONDS), retry=self.retry)
        async def pay(order: Ordered, run: Run) -> Paid | Declined:
            taken = await self.gateway.charge(run.idempotency_key)
            return Paid(order=order.order) if taken else Declined(order=order.order)

        @pay.compensation
        async def refund(paid: Paid, run: Run) -> None:
            del run
            self.refunded.append(paid.order)

        @orders.on_end(shop)
        async def settle(end: Ended, run: Run) -> None:
            del run
            self.ended[end.ending] += 1
            self.one_ended, ended = anyio.Event(), self.one_ended
            ended.set()
            if end.cause is not None:
                self.causes[end.cause] += 1

    async def place_steadily(self, per_second: float, seconds: float) -> None:
        """Place orders one after another."""
        began, number = anyio.current_time(), 0
        while number < per_second * seconds:
            await anyio.sleep_until(began + number / per_second)
            await self.place(Ordered(order=str(number)))
            number += 1

    async def all_ended(self, orders: int, within_seconds: float) -> None:
        """Return once that many sagas have ended."""
        with anyio.fail_after(within_seconds):
            while self.ended.total() < orders:
                await self.one_ended.wait()


TUNING = Tuning(fetch_timeout_seconds=1.0, commit_every_seconds=0.0)


@asynccontextmanager
async def databases() -> AsyncGenerator[tuple[Store, CoordinationStore]]:
    """Open a database in memory, in virtual time."""
    address, clock = f"sqlite:///:memory:?name=outage{next(_NUMBERS)}", VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        yield store, coordination


@asynccontextmanager
async def up(shop: Shop) -> AsyncGenerator[App]:
    """Run the shop and its coordinator in one app."""
    async with databases() as (store, coordination), MemoryTransport() as transport:
        app = App(
            shop.services,
            coordinator=Coordinator(store=coordination),
            store=store,
            transport=transport,
            tuning=TUNING,
        )
        async with app:
            yield app


@asynccontextmanager
async def apart(shop: Shop, plans: Path) -> AsyncGenerator[tuple[App, Callable[[], App]]]:
    """Run the shop without a coordinator; yields its app, not yet up, and what makes a coordinator."""
    plan = build_plan("shop", 1, [manifest_of(definition) for definition in resolve_all(shop.services)])
    (plans / "shop.v1.plan.json").write_bytes(plan_to_json(plan))
    async with databases() as (store, coordination), MemoryTransport() as transport:
        yield (
            App(shop.services, store=store, transport=transport, tuning=TUNING),
            lambda: App(coordinator=Coordinator(plans=plans, store=coordination), transport=transport),
        )
