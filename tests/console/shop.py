"""Run two sagas until there is one in every state: real services, a coordinator, SQLite files, the memory transport."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio

from outbox.urls import open_operating_store
from saga import NOTHING, PII, Dependency, Event, Purpose, Receive, Refusal, Retry, Run, Saga, Service, Start
from saga._core.inspecting import InstanceFilter
from saga._core.words import UndoStatus
from saga.app import App, Coordinator, CoordinatorTuning, Tuning
from saga.ports import Message, OperatingStore
from transports import MemoryTransport

SAGAS = "sagas.json"
CANARY = "canary@example.org"
HOSTILE = "<script>alert('x')</script>\"'&"


class OrderPlaced(Event, name="order.placed", version=1):
    order: str
    customer: Annotated[str, PII] = CANARY
    stock: str = "ok"
    card: str = "ok"
    parcel: str = "ok"


class StockReserved(Event, name="stock.reserved", version=1):
    order: str
    card: str
    parcel: str


class Captured(Event, name="payment.captured", version=1):
    order: str
    parcel: str


class Shipped(Event, name="parcel.shipped", version=1):
    order: str


class OutOfStock(Refusal, name="stock.out", version=1):
    sku: str


class Declined(Refusal, name="card.declined", version=1):
    order: str


class ParcelsOrdered(Event, name="parcels.ordered", version=1):
    parcels: int = 3
    trouble: str = ""


class Packed(Event, name="parcel.packed", version=1):
    number: int
    trouble: str


class Weighed(Event, name="parcel.weighed", version=1):
    number: int
    grams: int


class TooHeavy(Refusal, name="parcel.too-heavy", version=1):
    number: int


class Loaded(Event, name="truck.loaded", version=1):
    grams: int


class Approved(Event, name="delivery.approved", version=1):
    by: str


class Left(Event, name="truck.left", version=1):
    by: str


SLOWLY = Retry(attempts=50, base_seconds=1800, cap_seconds=3600)
QUICKLY = Retry(attempts=3, base_seconds=0.05, cap_seconds=0.1)


@dataclass
class Shop:
    """Declare the sagas; the fields of an order say what goes wrong with it."""

    pause_seconds: float = 0.02
    mended: bool = False
    services: list[Service] = field(init=False)
    place: Start[OrderPlaced] = field(init=False)
    order_parcels: Start[ParcelsOrdered] = field(init=False)
    approve: Receive[Approved] = field(init=False)

    def __post_init__(self) -> None:
        checkout = Saga("checkout", version=1, timeout=timedelta(minutes=5))
        delivery = Saga("delivery", version=1, timeout=timedelta(hours=2))
        orders, inventory, payment, shipping = map(Service, ("orders", "inventory", "payment", "shipping"))
        depot, office = map(Service, ("depot", "office"))
        self.services = [orders, inventory, payment, shipping, depot, office]
        self._declare_checkout(checkout, orders, inventory, payment, shipping)
        self._declare_delivery(delivery, orders, depot, office)

    def _declare_checkout(
        self, checkout: Saga, orders: Service, inventory: Service, payment: Service, shipping: Service
    ) -> None:
        gateway = Dependency("gateway", max_in_flight=timedelta(seconds=1), key_ttl=timedelta(seconds=2))
        self.place = orders.starts(checkout, OrderPlaced)
        seconds = timedelta(seconds=5)

        @inventory.step(checkout, timeout=seconds, retry=SLOWLY)
        async def reserve(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
            await self._work(order.stock, "the warehouse does not answer")
            if order.stock == "refuse":
                return OutOfStock(sku=HOSTILE)
            return StockReserved(order=order.order, card=order.card, parcel=order.parcel)

        @reserve.compensation
        async def release(reserved: StockReserved, run: Run) -> None:
            if reserved.parcel == "stubborn":
                await self._work("fail", f"the shelf is locked {HOSTILE}")

        @payment.pivot(checkout, timeout=timedelta(seconds=1), retry=QUICKLY, calls=gateway)
        async def capture(reserved: StockReserved, run: Run) -> Captured | Declined:
            if reserved.card == "doubt":
                raise ConnectionError(f"the gateway does not answer {HOSTILE}")
            await self._work(reserved.card)
            if reserved.card == "refuse" or run.purpose is Purpose.RESOLVE:
                return Declined(order=reserved.order)
            return Captured(order=reserved.order, parcel=reserved.parcel)

        @shipping.retriable(checkout, timeout=seconds, retry=SLOWLY)
        async def ship(captured: Captured, run: Run) -> Shipped:
            await self._work(captured.parcel, "no truck today")
            return Shipped(order=captured.order)

    def _declare_delivery(self, delivery: Saga, orders: Service, depot: Service, office: Service) -> None:
        self.order_parcels = orders.starts(delivery, ParcelsOrdered)
        self.approve = office.receives(delivery, Approved)

        @depot.step(delivery, compensation=NOTHING)
        async def pack(order: ParcelsOrdered, run: Run) -> list[Packed]:
            await self._work("ok")
            return [Packed(number=number, trouble=order.trouble) for number in range(1, order.parcels + 1)]

        @office.step(delivery, retry=QUICKLY)
        async def weigh(packed: Packed, run: Run) -> Weighed | TooHeavy:
            await self._work("ok")
            if packed.trouble == "late" and run.attempt < 3:
                raise TimeoutError(f"the scales are busy {HOSTILE}")
            if packed.trouble == "stuck" and packed.number == 2:
                return TooHeavy(number=packed.number)
            return Weighed(number=packed.number, grams=100 * packed.number)

        @weigh.compensation(retry=Retry(attempts=1))
        async def unweigh(packed: Packed, run: Run) -> None:
            if packed.trouble == "stuck" and not self.mended:
                raise RuntimeError(f"the scales are broken {HOSTILE}")

        @depot.join(delivery, compensation=NOTHING)
        async def load(parcels: list[Weighed], run: Run) -> Loaded:
            await self._work("ok")
            return Loaded(grams=sum(parcel.grams for parcel in parcels))

        @office.join(delivery, compensation=NOTHING)
        async def leave(loaded: Loaded, approved: Approved, run: Run) -> Left:
            return Left(by=approved.by)

    async def _work(self, how: str, trouble: str = "") -> None:
        await anyio.sleep(self.pause_seconds)
        if how == "fail" and not self.mended:
            raise RuntimeError(trouble)


TUNING = Tuning(fetch_timeout_seconds=0.1, commit_every_seconds=0.0, waiting_poll_seconds=0.2, pending_poll_seconds=0.2)
COORDINATING = CoordinatorTuning(tick_seconds=0.1)


@dataclass
class Town:
    """Be a shop that runs; `sagas` are IDs by the name of what they are an example of."""

    shop: Shop
    app: App
    url: str
    transport: MemoryTransport
    store: OperatingStore
    sagas: dict[str, str] = field(default_factory=dict[str, str])

    async def phase(self, name: str) -> str:
        """Return what the coordinator says of a saga."""
        found = await self.store.find(InstanceFilter(), limit=1000)
        return next((row.phase for row in found if row.saga_id == self.sagas[name]), "")

    async def runs(self, name: str) -> set[tuple[str, str]]:
        """Return steps and their states as the services keep them."""
        rows = await self.store.find_runs(self.sagas[name])
        return {(row.step, row.status.value) for row in rows.runs}


@asynccontextmanager
async def town(folder: Path, *, pause_seconds: float = 0.02) -> AsyncGenerator[Town]:
    """Run the shop on files in a folder; nothing has happened yet."""
    shop = Shop(pause_seconds=pause_seconds)
    url = f"sqlite:///{folder / 'shop.db'}"
    async with MemoryTransport() as transport:
        app = App(
            shop.services,
            coordinator=Coordinator(tuning=COORDINATING),
            store=url,
            transport=transport,
            tuning=TUNING,
        )
        async with app, open_operating_store(url) as store:
            yield Town(shop=shop, app=app, url=url, transport=transport, store=store)


@asynccontextmanager
async def town_of(folder: Path) -> AsyncGenerator[Town]:
    """Run the shop again that `make_busy` has left in a folder."""
    async with town(folder) as there:
        there.sagas |= json.loads((folder / SAGAS).read_text())
        yield there


async def make_busy(folder: Path, pause_seconds: float = 0.02) -> None:
    """Run the shop through everything and leave its files in a folder."""
    async with town(folder, pause_seconds=pause_seconds) as there:
        await live_through_everything(there)
        (folder / SAGAS).write_text(json.dumps(there.sagas))


async def live_through_everything(there: Town) -> None:
    """Make a saga of every state, and dead letters; returns once every one of them is there."""
    shop = there.shop
    ways = {
        "completed": OrderPlaced(order="1001"),
        "second": OrderPlaced(order="1002"),
        "refused": OrderPlaced(order="1003", stock="refuse"),
        "compensated": OrderPlaced(order="1004", card="refuse"),
        "waiting": OrderPlaced(order="1005", stock="fail"),
        "committed": OrderPlaced(order="1006", parcel="fail"),
        "closing": OrderPlaced(order="1007", card="refuse", parcel="stubborn"),
        "doubt": OrderPlaced(order="1008", card="doubt"),
    }
    for name, order in ways.items():
        there.sagas[name] = (await shop.place(order, key=f"order-{order.order}")).saga_id
    parcels = {
        "fan-out": ParcelsOrdered(parcels=4, trouble="late"),
        "running": ParcelsOrdered(parcels=2),
        "held": ParcelsOrdered(parcels=2),
        "stuck": ParcelsOrdered(parcels=3, trouble="stuck"),
    }
    for name, wanted in parcels.items():
        there.sagas[name] = (await shop.order_parcels(wanted, key=f"parcels-{name}")).saga_id
    await shop.approve(Approved(by="ann"), saga_id=there.sagas["fan-out"])
    async with there.app.desk() as desk:
        await until(lambda: is_phase(there, "held", "running"))
        await desk.hold(there.sagas["held"], who="ann", why=f"the customer called {HOSTILE}")
    await spoil(there)
    phases = {
        "completed": "completed",
        "second": "completed",
        "refused": "compensated",
        "compensated": "compensated",
        "committed": "committed",
        "closing": "closing",
        "fan-out": "completed",
        "stuck": "stuck",
        "doubt": "stuck",
    }
    for name, phase in phases.items():
        await until(partial(is_phase, there, name, phase), f"{name}: {phase}")
    await until(lambda: _undo_fails(there), "closing: its undo fails")


async def spoil(there: Town, number: int = 3) -> None:
    """Publish what nobody can read."""
    async with there.transport.publisher() as publisher:
        await publisher.publish(
            [Message(topic="orders.events", key=b"k", value=f"{HOSTILE} {n}".encode()) for n in range(number)]
        )
    await until(lambda: _dead(there, number))


async def _dead(there: Town, number: int) -> bool:
    return sum(group.letters for group in await there.store.group_dead()) >= number


async def is_phase(there: Town, name: str, phase: str) -> bool:
    """Return whether the coordinator says so of a saga."""
    return await there.phase(name) == phase


async def _undo_fails(there: Town) -> bool:
    rows = await there.store.find_runs(there.sagas["closing"])
    return any(run.undo in (UndoStatus.WANTED, UndoStatus.INTENT) and run.error for run in rows.runs)


async def until(is_so: Callable[[], Awaitable[bool]], what: str = "", timeout_seconds: float = 60.0) -> None:
    """Wait until something is so; raises TimeoutError with what it was."""
    with anyio.move_on_after(timeout_seconds):
        while not await is_so():  # noqa: ASYNC110 - another process could have changed it
            await anyio.sleep(0.05)
        return
    raise TimeoutError(what)
