"""Declare the saga and what its services tell each other."""

from __future__ import annotations

from datetime import timedelta

from saga import Event, Refusal, Saga

checkout = Saga("fastapi-checkout", version=1, timeout=timedelta(minutes=5))


class OrderPlaced(Event, name="shop.order-placed", version=1):
    order: str
    sku: str
    quantity: int


class StockReserved(Event, name="shop.stock-reserved", version=1):
    order: str
    sku: str
    quantity: int


class OutOfStock(Refusal, name="shop.out-of-stock", version=1):
    sku: str
    free: int


class TooMany(Refusal, name="shop.too-many", version=1):
    """At most ten things fit into one parcel."""

    quantity: int


class Packed(Event, name="shop.packed", version=1):
    order: str
