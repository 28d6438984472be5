"""Be the second service: goods are put aside, packed, or put back. Each handler has a session of its own."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from examples.fastapi_orders.checkout import OrderPlaced, OutOfStock, Packed, StockReserved, TooMany, checkout
from examples.fastapi_orders.tables import Goods
from saga import Run, Service

stock = Service("stock")

PARCEL = 10


@stock.step(checkout)
async def reserve(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
    session: AsyncSession = run.session
    goods = await session.get(Goods, order.sku, with_for_update=True)
    if goods is None or goods.free < order.quantity:
        return OutOfStock(sku=order.sku, free=goods.free if goods else 0)
    goods.free -= order.quantity
    return StockReserved(order=order.order, sku=order.sku, quantity=order.quantity)


@reserve.compensation
async def put_back(reserved: StockReserved, run: Run) -> None:
    session: AsyncSession = run.session
    goods = await session.get_one(Goods, reserved.sku, with_for_update=True)
    goods.free += reserved.quantity


@stock.pivot(checkout)
async def pack(reserved: StockReserved, run: Run) -> Packed | TooMany:
    del run
    return Packed(order=reserved.order) if reserved.quantity <= PARCEL else TooMany(quantity=reserved.quantity)
