"""Take part with the service that was there before: it starts the saga, and hears how it ended."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from examples.fastapi_orders.checkout import OrderPlaced, checkout
from examples.fastapi_orders.tables import Order
from saga import Ended, Run, Service

orders = Service("orders")

place = orders.starts(checkout, OrderPlaced)


@orders.on_end(checkout)
async def settle(end: Ended, run: Run) -> None:
    """Write how it ended, in the transaction that remembers that it did."""
    assert isinstance(end.start, OrderPlaced)
    session: AsyncSession = run.session
    order = await session.get_one(Order, UUID(end.start.order))
    order.state = end.ending.value
    order.reason = end.refusal_type or end.detail
