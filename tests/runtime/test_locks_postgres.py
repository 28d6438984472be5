"""Let two replicas on PostgreSQL fight over few entities: at no time do two open sagas have one."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta

import anyio
import pytest

from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from saga import NOTHING, Ending, Event, Otherwise, Refusal, Run, Saga, Service
from saga.app import App, Coordinator, Tuning
from saga.ports import Claim
from transports import MemoryTransport

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SMALL = PostgresSettings(pool_size=4)
# Nobody looks again unasked: whoever is not woken is not done in time.
TUNING = Tuning(waiting_poll_seconds=0.2, lock_poll_seconds=3600)
SAGAS = 40


class Placed(Event, name="order.placed", version=1):
    number: int


class Reserved(Event, name="stock.reserved", version=1):
    number: int


class Paid(Event, name="order.paid", version=1):
    number: int


class Declined(Refusal, name="card.declined", version=1):
    number: int


class Shop:
    """Keep who has an entity in a table that allows one, from the step that takes it to the saga's last."""

    def __init__(self) -> None:
        saga = Saga("checkout", version=1, timeout=timedelta(minutes=5))
        orders, inventory, payment = map(Service, ("orders", "inventory", "payment"))
        self.services = (orders, inventory, payment)
        self.place = orders.starts(saga, Placed)
        sku = inventory.lock("sku")

        @inventory.step(saga)
        async def reserve(order: Placed, run: Run) -> Reserved:
            if order.number % 3:
                await run.db.execute("insert into seen (number) values ($1)", order.number)
            otherwise = (Otherwise.WAIT, Otherwise.QUEUE)[order.number % 2]
            names = {str(order.number % 3), str(order.number % 4)}
            for name in names if order.number % 5 else sorted(names, reverse=True):
                await run.lock(sku, name, otherwise=otherwise)
                await run.db.execute("insert into busy (sku, saga) values ($1, $2)", name, run.saga_id)
            return Reserved(number=order.number)

        @reserve.compensation
        async def release(reserved: Reserved, run: Run) -> None:
            await run.db.execute("delete from busy where saga = $1", run.saga_id)

        @payment.step(saga, compensation=NOTHING)
        async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
            return Declined(number=reserved.number) if reserved.number % 7 == 0 else Paid(number=reserved.number)

        @inventory.step(saga, compensation=NOTHING)
        async def pack(paid: Paid, run: Run) -> None:
            await run.db.execute("delete from busy where saga = $1", run.saga_id)


async def test_replicas_never_give_one_entity_to_two_open_sagas(database: str) -> None:
    shop = Shop()
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(MemoryTransport())
        stores = [await stack.enter_async_context(PostgresStore(database, settings=SMALL)) for _ in range(2)]
        coordination = await stack.enter_async_context(PostgresCoordinationStore(database, settings=SMALL))
        await stores[0].migrate()
        async with stores[0].unit(Claim(service="inventory", sagas=())) as unit:
            await unit.db.execute("create table busy (sku text primary key, saga text)")
            await unit.db.execute("create table seen (number integer primary key)")
        for slot, store in enumerate(stores):
            coordinator = Coordinator(store=coordination) if slot == 0 else None
            app = App(
                shop.services,
                coordinator=coordinator,
                store=store,
                transport=transport,
                slot=str(slot),
                tuning=TUNING,
            )
            await stack.enter_async_context(app)
        handles = [await shop.place(Placed(number=number), key=str(number)) for number in range(SAGAS)]
        with anyio.fail_after(60):
            ends = [await handle.outcome(60) for handle in handles]
            found = [Ending.COMPENSATED if number % 7 == 0 else Ending.COMPLETED for number in range(SAGAS)]
            assert [end.ending for end in ends] == found
            while True:
                async with stores[0].unit(Claim(service="inventory", sagas=())) as unit:
                    left = await unit.db.fetch("select 1 from saga_lock where saga_id <> ''")
                    queue = await unit.db.fetch("select 1 from saga_lock_queue")
                    failed = await unit.db.fetch("select step, attempt, error from saga_run where attempt > 1")
                assert not failed
                if not left and not queue:
                    break
                await anyio.sleep(0.05)
