"""Be the HTTP service: FastAPI, an async session for each request, and saga's app in the lifespan."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from examples.fastapi_orders.checkout import OrderPlaced
from examples.fastapi_orders.orders import place
from examples.fastapi_orders.tables import Order
from saga.app import App
from saga.health import health_app


class Wanted(BaseModel):
    sku: str
    quantity: int = Field(gt=0)


class Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    sku: str
    quantity: int
    state: str
    reason: str


async def session_of(request: Request) -> AsyncGenerator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(session_of)]


router = APIRouter()


@router.post("/orders", status_code=202)
async def place_order(wanted: Wanted, session: Session) -> Shown:
    """Write the order and start its saga, in one transaction: both happen, or neither."""
    async with session.begin():
        order = Order(sku=wanted.sku, quantity=wanted.quantity)
        session.add(order)
        await session.flush()  # gives the order its ID
        event = OrderPlaced(order=str(order.id), sku=order.sku, quantity=order.quantity)
        await place(event, key=str(order.id), connection=session)
    return Shown.model_validate(order)


@router.get("/orders/{order_id}")
async def show_order(order_id: UUID, session: Session) -> Shown:
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, f"there is no order {order_id}")
    return Shown.model_validate(order)


def shop_web(engine: AsyncEngine, saga_app: App) -> FastAPI:
    """Return the service; `saga_app` runs as long as it does, and shares the engine with the requests."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with saga_app:
            yield

    web = FastAPI(title="orders", lifespan=lifespan)
    web.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    web.include_router(router)
    web.mount("/health", health_app(saga_app))
    return web
