# pyright: reportPrivateUsage=false
"""Give tests of plain events a small world: a service that subscribes, one that publishes, and foreign messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import anyio

from outbox.urls import open_store
from saga import Event, Retry, Run, Service
from saga._core.envelope import Delivery, Message
from saga._core.rows import OutboxRow
from saga._runtime.context import HandOver
from saga.app import App
from saga.ports import Claim, Store, Transport
from tests.runtime.world import EPOCH, TUNING, VirtualClock
from transports import MemoryTransport

_NUMBERS = count(1)
TOPIC = "customers.events"
QUICK = Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02)


class CustomerMoved(Event, name="customer.moved", version=1):
    """Be a customer's new address."""

    customer: str
    city: str = "Graz"


class AddressChanged(Event, name="billing.address_changed", version=1):
    """Be what billing makes of it."""

    customer: str


@dataclass
class Customs:
    """Hold a service with two subscribers of one event, and what they have seen."""

    billing: Service = field(default_factory=lambda: Service("billing"))
    seen: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    runs: list[Run] = field(default_factory=list[Run])
    behave: dict[str, Callable[[Run], Awaitable[Any]]] = field(
        default_factory=dict[str, Callable[[Run], Awaitable[Any]]]
    )

    def __post_init__(self) -> None:
        """Declare the subscribers."""

        @self.billing.on(CustomerMoved, source="customers", retry=QUICK, timeout=timedelta(seconds=5))
        async def bill(event: CustomerMoved, run: Run) -> None:
            await self._do("bill", event, run)

        @self.billing.on(CustomerMoved, source="customers", retry=QUICK, timeout=timedelta(seconds=5))
        async def greet(event: CustomerMoved, run: Run) -> None:
            await self._do("greet", event, run)

    async def _do(self, name: str, event: CustomerMoved, run: Run) -> None:
        self.seen.append((name, event.customer, run.attempt))
        self.runs.append(run)
        await run.db.execute("insert into address (customer, by) values ($1, $2)", event.customer, name)
        if name in self.behave:
            await self.behave[name](run)


def moved(
    number: int = 1,
    *,
    at: datetime | None = None,
    customer: str = "ann",
    value: bytes | None = None,
    kind: str = "customer.moved.v1",
    headers: tuple[tuple[str, bytes], ...] = (),
    source: str = "/customers",
) -> Message:
    """Return a foreign event, as somebody without saga sends it."""
    sent = at if at is not None else EPOCH
    own = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"m{number}".encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_time", sent.isoformat().encode()),
    )
    payload = CustomerMoved(customer=customer).model_dump_json().encode() if value is None else value
    return Message(topic=TOPIC, key=customer.encode(), value=payload, headers=(*own, *headers))


def delivered(message: Message, offset: int = 0) -> Delivery:
    """Return a message as it comes out of the log."""
    return Delivery(
        topic=message.topic,
        partition=0,
        offset=offset,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )


class LaterClock(VirtualClock):
    """Tell a time that can be moved on without the loop's noticing."""

    later = timedelta()

    def now(self) -> datetime:
        """Return the loop's time and what it has been moved on by."""
        return super().now() + self.later


@dataclass
class Counter:
    """Be a running app, and the ways to look at it."""

    customs: Customs
    app: App
    store: Store
    transport: Transport
    clock: LaterClock

    @asynccontextmanager
    async def another(self) -> AsyncGenerator[Counter]:
        """Run the same service in another process, on the same log and database."""
        app = App([self.customs.billing], store=self.store, transport=self.transport, tuning=TUNING)
        async with app:
            yield replace(self, app=app)

    @property
    def participant(self) -> Any:
        """Return the participant of the subscribing service."""
        assert self.app._crew is not None
        return next(p for p in self.app._crew.participants if p.group.name == "billing")

    async def send(self, *messages: Message) -> None:
        """Put messages on the log."""
        async with self.transport.publisher() as publisher:
            assert [error for error in await publisher.publish(messages) if error is not None] == []

    async def hand(self, *messages: Message) -> None:
        """Hand messages to the service as one batch, as if they had been fetched."""
        await self.participant.handle([(delivered(message, at), None) for at, message in enumerate(messages)])

    async def work(self) -> None:
        """Handle what is due until nothing is."""
        while rows := await self.store.take_deliveries("billing", 10, 60):
            await self.participant.handle([(row.raw, row) for row in rows])

    async def rows(self, sql: str, *args: object) -> list[Any]:
        """Read rows of any table."""
        async with self.store.unit(Claim(service="billing", sagas=())) as unit:
            return list(await unit.db.fetch(sql, *args))

    async def billed(self) -> list[tuple[str, str]]:
        """Return the effects of the subscribers."""
        return [(row["customer"], row["by"]) for row in await self.rows("select * from address order by customer, by")]

    async def waiting(self) -> list[Any]:
        """Return the rows that wait or are dead."""
        return await self.rows("select * from saga_delivery order by id")


async def make_tables(store: Store) -> None:
    """Create the table the subscribers write; nothing keeps them from writing twice."""
    async with store.unit(Claim(service="billing", sagas=())) as unit:
        await unit.db.execute("create table address (customer text, by text)")


@asynccontextmanager
async def ground(customs: Customs | None = None, name: str = "") -> AsyncGenerator[Counter]:
    """Open a log and a database for the subscribing service, which does not run yet."""
    customs = customs or Customs()
    clock = LaterClock()
    async with AsyncExitStack() as stack:
        address = f"sqlite:///:memory:?name={name or f'plain{next(_NUMBERS)}'}"
        store = await stack.enter_async_context(open_store(address, clock=clock))
        await store.migrate()
        await make_tables(store)
        transport = await stack.enter_async_context(MemoryTransport())
        app = App([customs.billing], store=store, transport=transport, tuning=TUNING)
        yield Counter(customs=customs, app=app, store=store, transport=transport, clock=clock)


@asynccontextmanager
async def counter(customs: Customs | None = None, name: str = "") -> AsyncGenerator[Counter]:
    """Run the subscribing service alone: no plan, no coordinator, nothing but plain events."""
    async with ground(customs, name) as there, there.app:
        yield there


def listening(heard: list[Any], hand_over: HandOver) -> HandOver:
    """Return a way to the relay on which every committed row is heard."""

    def listen(rows: Sequence[OutboxRow]) -> None:
        heard.extend(rows)
        hand_over(rows)

    return listen


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait in virtual time until something is so."""
    with anyio.fail_after(60):
        while not await condition():  # noqa: ASYNC110 - rows do not tell
            await anyio.sleep(0.05)
