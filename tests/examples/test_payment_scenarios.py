"""Play the payment example in virtual time: a handful of stories, then everything that can go wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from examples.payment import ledger
from examples.payment.events import Declined, OrderPlaced, OutOfStock
from examples.payment.gateway import Gateway
from examples.payment.gateway_doors import LocalGateway
from examples.payment.inventory import inventory, release_stock, reserve_stock
from examples.payment.ledger import read_books
from examples.payment.orders import orders, place
from examples.payment.payment import authorize, capture, payment, use_gateway
from examples.payment.services import SERVICES
from examples.payment.shipping import ship, shipping
from saga import Cause
from saga.app import SagaHandle
from saga.testing import ASYNCIO, COORDINATOR, Moment, Scenario, scenario, simulate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    return ASYNCIO


class Shop:
    """Be the scenario with a gateway beside it, which outlives every process."""

    def __init__(self) -> None:
        self.gateway = Gateway()

    def open(self, s: Scenario) -> None:
        self.gateway.close()
        self.gateway = Gateway()
        use_gateway(LocalGateway(self.gateway, now=s.now))

    async def problems(self, s: Scenario) -> list[str]:
        """Return what does not add up: money, goods, parcels, the gateway's books, the order of the undoing."""
        databases = {service.name: partial(s.rows, service) for service in (orders, inventory, payment, shipping)}
        books = await read_books(databases, self.gateway.ledger(), self.gateway.open_authorizations())
        return ledger.problems(books)


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.gateway.close()


@asynccontextmanager
async def opened(shop: Shop) -> AsyncGenerator[Scenario]:
    async with scenario(*SERVICES) as s:
        shop.open(s)
        yield s
        # Some of what an order brings about, like selling its stock, is not waited for by its end.
        await s.pass_time(minutes=1)
        assert await shop.problems(s) == []


async def order(
    s: Scenario, name: str, *, sku: str = "lamp", card: str = "card-ok", city: str = "Berlin"
) -> SagaHandle:
    placed = OrderPlaced(order_id=name, sku=sku, quantity=2, amount=4_990, card=card, city=city)
    return await s.when(place(placed, key=name))


async def test_an_order_is_paid_and_shipped(shop: Shop) -> None:
    async with opened(shop) as s:
        await s.expect(await order(s, "o-1")).completed()
        s.ran(reserve_stock, authorize, capture, ship)
        s.undone()


async def test_what_is_not_there_is_not_paid(shop: Shop) -> None:
    async with opened(shop) as s:
        await s.expect(await order(s, "o-1", sku="unicorn")).compensated(refusal=OutOfStock(sku="unicorn"))
        assert shop.gateway.ledger() == []


async def test_a_late_no_of_the_bank_undoes_in_reverse_order(shop: Shop) -> None:
    async with opened(shop) as s:
        handle = await order(s, "o-1", card="card-declined-late")
        await s.expect(handle).compensated(refusal=Declined(reason="declined by the bank"))
        s.undone(authorize, release_stock)


async def test_a_lost_answer_is_charged_once(shop: Shop) -> None:
    async with opened(shop) as s:
        await s.expect(await order(s, "o-1", card="card-lost-answer")).completed()
        assert [entry.what for entry in shop.gateway.ledger()] == ["authorized", "captured"]


async def test_the_deadline_passes_while_the_capture_hangs_and_is_declined(shop: Shop) -> None:
    async with opened(shop) as s:
        await s.expect(await order(s, "o-1", card="card-hangs-declined")).compensated()
        s.undone(authorize, reserve_stock)


async def test_payment_dies_with_the_money_taken_and_no_row_written(shop: Shop) -> None:
    async with opened(shop) as s:
        s.crash(capture, moment=Moment.BEFORE_COMMIT, number=2)
        await s.expect(await order(s, "o-1")).completed()
        assert [entry.what for entry in shop.gateway.ledger()] == ["authorized", "captured"]
        assert "FAULT: payment dies before commit" in s.tell()


async def test_an_order_placed_while_the_stock_is_away_is_undone(shop: Shop) -> None:
    async with opened(shop) as s:
        async with s.away(inventory):
            handle = await order(s, "o-1")
            await s.pass_time(seconds=30)
        await s.expect(handle).compensated(cause=Cause.DEADLINE)


async def test_without_a_coordinator_orders_go_forward(shop: Shop) -> None:
    async with opened(shop) as s:
        async with s.away(COORDINATOR):
            handle = await order(s, "o-1", city="Heligoland")
            await s.pass_time(minutes=10)
            s.ran(ship)
        await s.expect(handle).completed()


def test_the_books_add_up_whatever_goes_wrong(shop: Shop) -> None:
    async def start(s: Scenario) -> None:
        shop.open(s)
        await order(s, "all-well")
        await order(s, "declined-late", card="card-declined-late", city="Heligoland")

    async def adds_up(s: Scenario) -> None:
        assert await shop.problems(s) == []

    simulated = simulate(SERVICES, start, invariant=adds_up, schedules=60, seed="books")
    assert sum(simulated.struck.values()) > 60
