"""Say what runs in which process: all in one, or a fleet over Kafka with a database for each service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from examples.fastapi_orders.orders import orders
from examples.fastapi_orders.stock import stock
from examples.fastapi_orders.tables import OrdersBase, StockBase
from saga.app import App, Coordinator

SERVICES = (orders, stock)
PLANS = Path(__file__).parent / "plans"


def everything(engine: AsyncEngine) -> App:
    """Return both services and the coordinator, on one database and without Kafka."""
    return App(SERVICES, store=engine, transport="memory://", coordinator=Coordinator())


def orders_app(engine: AsyncEngine, kafka: str) -> App:
    """Return the orders service of a fleet, with a coordinator; the plans tell it of the other services."""
    return App([orders], store=engine, transport=kafka, coordinator=Coordinator(plans=PLANS))


def stock_app(engine: AsyncEngine, kafka: str) -> App:
    """Return the stock service of a fleet."""
    return App([stock], store=engine, transport=kafka)


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[AsyncEngine]:
    """Open the database at `postgresql+asyncpg://…` and create what is missing; in earnest that is Alembic's."""
    engine = create_async_engine(url, pool_size=20)
    try:
        async with engine.begin() as connection:
            for base in (OrdersBase, StockBase):
                await connection.run_sync(base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()
