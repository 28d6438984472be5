"""Give tests of sealed payloads a world in which every kind of row and message carries a canary."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import anyio

from saga import NOTHING, PII, Dependency, Ended, Event, Permanent, Refusal, Retry, Run, Saga, Service, Transient
from saga._core.envelope import Message
from saga.app import App, Coordinator, Tuning
from saga.ports import CoordinationStore, Publisher, Store, Transport
from saga.sealing import AesGcm, ClaimCheck, Keys
from tests.runtime.world import TUNING
from transports import MemoryTransport

CANARY = "canary-7f3a9c"
QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)
SLOW = Retry(attempts=1000, base_seconds=5, cap_seconds=5)


class Ordered(Event, name="shop.ordered", version=1, subject="customer"):
    """Be an order; `how` says what becomes of it."""

    customer: Annotated[str, PII]
    note: str
    how: str = "well"


class Picked(Event, name="shop.picked", version=1, subject="customer"):
    """Be what was picked for an order."""

    customer: str
    note: str
    how: str


class Billed(Event, name="shop.billed", version=1, subject="customer"):
    """Be the bill of an order."""

    customer: str
    note: str


class Parcel(Event, name="shop.parcel", version=1, subject="customer"):
    """Be one parcel of an order."""

    customer: str
    note: str
    how: str


class Sent(Event, name="shop.sent", version=1, subject="customer"):
    """Be a parcel on its way."""

    customer: str
    note: str


class Weighed(Event, name="shop.weighed", version=1, subject="customer"):
    """Be what an outside scale says."""

    customer: str
    note: str


class Told(Event, name="shop.told", version=1, subject="customer"):
    """Be a plain event about a customer."""

    customer: str
    note: str


class NotToday(Refusal, name="shop.not_today", version=1, subject="customer"):
    """Say no, and to whom."""

    customer: str
    note: str


@dataclass
class Shop:
    """Declare pick and bill after an order, a join over both that fans out, and a subscriber of plain events."""

    timeout: timedelta = timedelta(minutes=1)
    undone: list[str] = field(default_factory=list[str])
    heard: list[str] = field(default_factory=list[str])
    endings: list[Ended] = field(default_factory=list[Ended])
    open: set[str] = field(default_factory=set[str])
    services: list[Service] = field(init=False)

    def __post_init__(self) -> None:  # noqa: C901 - one function for each step
        """Declare it."""
        saga = Saga("shopping", version=1, timeout=self.timeout)
        shop, stock, office = Service("shop"), Service("stock"), Service("office")
        self.services = [shop, stock, office]
        self.place = shop.starts(saga, Ordered)
        seconds = timedelta(seconds=5)

        @stock.step(saga, retry=QUICK, timeout=seconds)
        async def pick(order: Ordered, run: Run) -> Picked | NotToday:
            if order.how == "refuse":
                return NotToday(customer=order.customer, note=order.note[:100])
            await run.publish(Told(customer=order.customer, note=order.note), key="k")
            return Picked(customer=order.customer, note=order.note, how=order.how)

        @pick.compensation
        async def put_back(order: Ordered, picked: Picked, run: Run) -> None:
            assert order.note == picked.note
            self.undone.append(picked.customer)

        @office.step(saga, retry=SLOW, timeout=seconds)
        async def bill(order: Ordered, run: Run) -> Billed:
            if order.how == "wait" and "bill" not in self.open:
                raise ConnectionError("the printer is away")
            return Billed(customer=order.customer, note=order.note)

        @bill.compensation
        async def void(billed: Billed, run: Run) -> None:
            self.undone.append(billed.customer)

        @stock.join(saga)
        async def pack(picked: Picked, billed: Billed, run: Run) -> list[Parcel]:
            assert picked.note == billed.note
            return [Parcel(customer=picked.customer, note=picked.note, how=picked.how)] * 2

        @pack.compensation
        async def unpack(parcels: list[Parcel], run: Run) -> None:
            self.undone.append(f"{len(parcels)} parcels")

        @office.step(saga, retry=QUICK, timeout=seconds)
        async def send(parcel: Parcel, run: Run) -> Sent | NotToday:
            if parcel.how == "undo":
                return NotToday(customer=parcel.customer, note=parcel.note[:100])
            return Sent(customer=parcel.customer, note=parcel.note)

        @office.step(saga, retry=QUICK, timeout=seconds, calls=Dependency("scale"), compensation=NOTHING)
        async def weigh(order: Ordered, run: Run) -> Weighed:
            if order.how == "weigh" and "weigh" not in self.open:
                raise Transient("the scale is away", retry_after_seconds=30)
            return Weighed(customer=order.customer, note=order.note)

        @send.compensation
        async def call_back(sent: Sent, run: Run) -> None:
            self.undone.append(sent.customer)

        @shop.on_end(saga)
        async def ended(end: Ended, run: Run) -> None:
            self.endings.append(end)

        @shop.on(Told, source="stock", retry=QUICK, timeout=seconds)
        async def listen(told: Told, run: Run) -> None:
            self.heard.append(told.note)

        @shop.on(Told, source="stock", retry=QUICK, timeout=seconds)
        async def choke(told: Told, run: Run) -> None:
            raise Permanent("nobody wants to hear that")


class Recording(MemoryTransport):
    """Be a memory transport that remembers everything published."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Message] = []

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[Any]:
        """Open a publisher that remembers."""
        async with super().publisher() as inner:
            yield _Recorder(inner, self.published)


class _Recorder:
    def __init__(self, inner: Publisher, published: list[Message]) -> None:
        self._inner = inner
        self._published = published

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        self._published += messages
        return await self._inner.publish(messages)


async def until(there: Callable[[], Awaitable[object]], tries: int = 600, seconds: float = 1.0) -> None:
    """Return once something is there; raises TimeoutError."""
    for _ in range(tries):
        if await there():
            return
        await anyio.sleep(seconds)
    raise TimeoutError("it is not there")


@asynccontextmanager
async def open_shop(
    shop: Shop,
    store: Store,
    coordination: CoordinationStore,
    transport: Transport,
    *,
    keys: Keys | None,
    claim_check: ClaimCheck | None = None,
    tuning: Tuning = TUNING,
) -> AsyncGenerator[App]:
    """Run a shop on open adapters, sealed if there are keys."""
    app = App(
        shop.services,
        coordinator=Coordinator(store=coordination),
        store=store,
        transport=transport,
        tuning=tuning,
        codec=AesGcm(keys) if keys is not None else None,
        claim_check=claim_check,
    )
    async with app:
        yield app


def messages_text(messages: Sequence[Message]) -> bytes:
    """Return everything in messages in one piece."""
    parts: list[bytes] = []
    for message in messages:
        parts += [message.key, message.value or b"", *(value for _, value in message.headers)]
    return b"\n".join(parts)
