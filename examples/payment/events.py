"""What the services tell each other. Amounts are integer cents."""

from __future__ import annotations

from datetime import timedelta

from saga import Event, Refusal, Saga

# Short, so that the demo can show a deadline; a shop would rather say some minutes.
checkout = Saga("checkout", version=1, timeout=timedelta(seconds=5))


class OrderPlaced(Event, name="order.placed", version=1):
    order_id: str
    sku: str
    quantity: int
    amount: int
    card: str
    city: str


class StockReserved(Event, name="stock.reserved", version=1):
    order_id: str
    amount: int
    card: str
    city: str


class OutOfStock(Refusal, name="stock.out", version=1):
    sku: str


class Authorized(Event, name="payment.authorized", version=1):
    """The amount is set aside on the card; no money has moved."""

    order_id: str
    authorization: str
    amount: int
    city: str


class Captured(Event, name="payment.captured", version=1):
    """The money is ours."""

    order_id: str
    charge: str
    amount: int
    city: str


class Declined(Refusal, name="payment.declined", version=1):
    reason: str


class Shipped(Event, name="order.shipped", version=1):
    order_id: str
    parcel: str
