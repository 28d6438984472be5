"""Put goods aside, hand them out once they are paid for, or put them back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.payment.events import Captured, OrderPlaced, OutOfStock, StockReserved, checkout
from saga import Retry, Run, Service

inventory = Service("inventory", migrations=Path(__file__).parent / "migrations" / "inventory")


@inventory.step(checkout, timeout=timedelta(seconds=1), retry=Retry(attempts=3))
async def reserve_stock(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
    found = await run.db.fetch_one(
        "update stock set free = free - $1 where sku = $2 and free >= $1 returning sku",
        order.quantity,
        order.sku,
    )
    if found is None:
        return OutOfStock(sku=order.sku)
    await run.db.execute(
        "insert into reservation (order_id, sku, quantity, state) values ($1, $2, $3, 'held')",
        order.order_id,
        order.sku,
        order.quantity,
    )
    return StockReserved(order_id=order.order_id, amount=order.amount, card=order.card, city=order.city)


@reserve_stock.compensation
async def release_stock(order: OrderPlaced, run: Run) -> None:
    await run.db.execute(
        "update stock set free = free + $1 where sku = $2",
        order.quantity,
        order.sku,
    )
    await run.db.execute(
        "update reservation set state = 'released' where order_id = $1",
        order.order_id,
    )


@inventory.retriable(checkout, timeout=timedelta(seconds=1))
async def sell_stock(captured: Captured, run: Run) -> None:
    await run.db.execute(
        "update reservation set state = 'sold' where order_id = $1",
        captured.order_id,
    )
