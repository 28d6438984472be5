from __future__ import annotations

import pytest

from saga import NotRunning, Purpose
from saga._core.ids import idempotency_key
from saga.testing import run_for, unit
from tests.testing.shop import Captured, Declined, OrderPlaced, OutOfStock, Shop, StockReserved

pytestmark = pytest.mark.anyio


async def test_a_step_is_called_as_a_function(shop: Shop) -> None:
    async with unit(shop.inventory) as run:
        assert await shop.reserve_stock(OrderPlaced(order="o-1"), run) == StockReserved(order="o-1")
        assert await run.db.fetch("select free from stock") == [{"free": 2}]
        await run.db.execute("update stock set free = 0")
        assert await shop.reserve_stock(OrderPlaced(order="o-2"), run) == OutOfStock(sku="book")
        await shop.release_stock(OrderPlaced(order="o-1"), run)
        assert await run.db.fetch("select free from stock") == [{"free": 1}]


async def test_every_unit_has_a_database_of_its_own(shop: Shop) -> None:
    for _ in range(2):
        async with unit(shop.inventory) as run:
            assert await run.db.fetch("select free from stock") == [{"free": 3}]
            await run.db.execute("update stock set free = 0")


async def test_the_transaction_ends_with_the_unit(shop: Shop) -> None:
    async with unit(shop.inventory) as run:
        pass
    with pytest.raises(NotRunning):
        await run.db.fetch("select 1")


async def test_a_run_is_that_of_its_step(shop: Shop) -> None:
    async with unit(shop.inventory, saga_id="s-7", tenant="acme") as run:
        made = run_for(shop.reserve_stock, run, attempt=2)
        assert (made.saga_id, made.step, made.attempt, made.tenant) == ("s-7", "inventory.reserve_stock", 2, "acme")
        assert made.idempotency_key == idempotency_key("s-7", "inventory.reserve_stock", "")
        assert await made.db.fetch("select free from stock") == [{"free": 3}]


async def test_a_step_that_calls_outside_has_no_transaction(shop: Shop) -> None:
    reserved = StockReserved(order="o-1")
    assert await shop.capture(reserved, run_for(shop.capture)) == Captured(order="o-1")
    assert await shop.capture(reserved, run_for(shop.capture, purpose=Purpose.RESOLVE)) == Captured(order="o-1")
    never = run_for(shop.capture, saga_id="s-2", purpose=Purpose.RESOLVE)
    assert await shop.capture(reserved, never) == Declined(reason="void")
    assert shop.bank.charges == ["o-1"]
    async with unit(shop.payment) as run:
        with pytest.raises(NotRunning):
            await run_for(shop.capture, run).db.fetch("select 1")
