"""Keep every version of one event as code keeps it: the newest with the plain name, older ones and the ways up."""

from __future__ import annotations

from saga import NOTHING, Event, Run, Saga, Service

checkout = Saga("checkout", version=1)
inventory = Service("inventory")


class OrderPlacedV1(Event, name="order.placed", version=1):
    """Be an order of the first shop: one piece of one thing."""

    sku: str


class OrderPlaced(Event, name="order.placed", version=2):
    """Be an order today."""

    sku: str
    quantity: int


class StockReserved(Event, name="stock.reserved", version=1):
    """Say that stock was put aside."""

    sku: str


@inventory.upcaster
def placed_v1_to_v2(old: OrderPlacedV1) -> OrderPlaced:
    """Order one piece: the first shop sold nothing else."""
    return OrderPlaced(sku=old.sku, quantity=1)


@inventory.step(checkout, compensation=NOTHING)
async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
    """Put stock aside."""
    return StockReserved(sku=order.sku)
