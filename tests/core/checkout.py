"""Declare the payment example: four services, one pivot, one outside call."""

from __future__ import annotations

from datetime import timedelta

from saga import Dependency, Ended, Event, Refusal, Retry, Run, Saga, Service

gateway = Dependency("gateway", concurrency=20)
checkout = Saga("checkout", version=1, timeout=timedelta(minutes=5))
orders, inventory, payment, shipping = map(Service, ("orders", "inventory", "payment", "shipping"))
SERVICES = (orders, inventory, payment, shipping)


class OrderPlaced(Event, name="order.placed", version=1):
    """Say that an order came in."""

    sku: str
    quantity: int


class StockReserved(Event, name="stock.reserved", version=1):
    """Say that stock was put aside."""

    sku: str
    quantity: int


class OutOfStock(Refusal, name="stock.out", version=1):
    """Say that there is not enough."""

    sku: str


class Captured(Event, name="payment.captured", version=1):
    """Say that the money is ours."""

    amount: int


class Declined(Refusal, name="payment.declined", version=1):
    """Say that the bank said no."""

    reason: str


class Shipped(Event, name="order.shipped", version=1):
    """Say that the parcel is on its way."""

    parcel: str


place = orders.starts(checkout, OrderPlaced)


@inventory.step(checkout, timeout=timedelta(seconds=5), retry=Retry(attempts=5))
async def reserve_stock(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
    """Put stock aside."""
    row = await run.db.fetch_one(
        "update stock set free = free - $1 where sku = $2 and free >= $1 returning sku",
        order.quantity,
        order.sku,
    )
    return StockReserved(sku=order.sku, quantity=order.quantity) if row else OutOfStock(sku=order.sku)


@reserve_stock.compensation
async def release_stock(reserved: StockReserved, run: Run) -> None:
    """Put stock back."""
    await run.db.execute("update stock set free = free + $1 where sku = $2", reserved.quantity, reserved.sku)


@payment.pivot(checkout, calls=gateway)
async def capture(reserved: StockReserved, run: Run) -> Captured | Declined:
    """Ask the gateway for the money."""
    if reserved.quantity > 100:
        return Declined(reason=run.idempotency_key)
    return Captured(amount=reserved.quantity * 10)


@capture.recorded
async def book(captured: Captured, run: Run) -> None:
    """Write the payment down."""
    await run.db.execute("insert into payment (saga, amount) values ($1, $2)", run.saga_id, captured.amount)


@shipping.retriable(checkout)
async def ship(captured: Captured, run: Run) -> Shipped:
    """Send the parcel."""
    return Shipped(parcel=f"{run.saga_id}:{captured.amount}")


@orders.on_end(checkout)
async def settle(end: Ended, run: Run) -> None:
    """Tell the customer."""
    await run.db.execute("update orders set state = $1 where saga = $2", end.ending.value, end.saga_id)
