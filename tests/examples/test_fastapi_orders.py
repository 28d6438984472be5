"""Run the FastAPI example on a real PostgreSQL: `run.session` needs one. Once in one process, once over Kafka."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from examples.fastapi_orders import processes
from examples.fastapi_orders.tables import Goods
from examples.fastapi_orders.web import shop_web
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


def engine_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://")


@asynccontextmanager
async def stocked(url: str) -> AsyncGenerator[AsyncEngine]:
    async with processes.opened(engine_url(url)) as engine:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Goods(sku="lamp", free=12))
        yield engine


@asynccontextmanager
async def client_of(web: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """Give a client to the service in its lifespan, as uvicorn would run it."""
    transport = httpx.ASGITransport(web)
    async with web.router.lifespan_context(web), httpx.AsyncClient(transport=transport, base_url="http://shop") as it:
        yield it


async def ordered(client: httpx.AsyncClient, sku: str, quantity: int) -> dict[str, Any]:
    """Place an order and return what it became."""
    answer = await client.post("/orders", json={"sku": sku, "quantity": quantity})
    assert (answer.status_code, answer.json()["state"]) == (202, "open")
    with anyio.fail_after(60):
        found = answer.json()
        while found["state"] == "open":
            found = (await client.get(f"/orders/{found['id']}")).json()
    return {name: found[name] for name in ("state", "reason")}


async def free_of(engine: AsyncEngine, sku: str) -> int:
    async with AsyncSession(engine) as session:
        return (await session.get_one(Goods, sku)).free


async def play(client: httpx.AsyncClient, stock: AsyncEngine) -> None:
    """Order what is there, what is not there, and what is put back because no parcel takes it."""
    assert await ordered(client, "lamp", 1) == {"state": "completed", "reason": ""}
    assert await ordered(client, "unicorn", 1) == {"state": "compensated", "reason": "shop.out-of-stock.v1"}
    assert await ordered(client, "lamp", 11) == {"state": "compensated", "reason": "shop.too-many.v1"}
    assert await free_of(stock, "lamp") == 11


async def test_orders_end_in_one_process(database: str) -> None:
    async with stocked(database) as engine, client_of(shop_web(engine, processes.everything(engine))) as client:
        await play(client, engine)
        assert (await client.get("/health/livez")).status_code == 200
        assert (await client.get("/health/readyz")).json()["ready"] is True
        assert (await client.get(f"/orders/{uuid4()}")).status_code == 404
        assert (await client.post("/orders", json={"sku": "lamp", "quantity": 0})).status_code == 422


@contextmanager
def no_commit() -> Generator[None]:
    """Let every commit of a session fail, as one may whose connection is lost."""

    def fail(_: Session) -> None:
        raise OSError("no commit today")

    event.listen(Session, "before_commit", fail)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", fail)


async def test_without_a_commit_there_is_neither_an_order_nor_a_saga(database: str) -> None:
    async with stocked(database) as engine, client_of(shop_web(engine, processes.everything(engine))) as client:
        with no_commit(), pytest.raises(OSError, match="no commit today"):
            await client.post("/orders", json={"sku": "lamp", "quantity": 1})
        async with AsyncSession(engine) as session:
            for table in ("orders", "saga_run", "saga_outbox"):
                assert await session.scalar(select(func.count()).select_from(text(table))) == 0
        assert (await ordered(client, "lamp", 1))["state"] == "completed"


@pytest.fixture
def stock_database(postgres: Postgres) -> Iterator[str]:
    url = postgres.create_database_now(uuid4().hex[:12])
    yield url
    postgres.drop_database_now(url)


@pytest.mark.kafka
async def test_each_service_is_a_process_over_kafka(kafka: Kafka, database: str, stock_database: str) -> None:
    url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    async with (
        stocked(database) as orders,
        stocked(stock_database) as stock,
        client_of(shop_web(orders, processes.orders_app(orders, url))) as client,
        processes.stock_app(stock, url),
    ):
        await play(client, stock)
        assert await free_of(orders, "lamp") == 12  # nobody took from the other database


def test_the_plan_is_that_of_the_code(tmp_path: Path) -> None:
    arguments = ["check", "examples.fastapi_orders.processes:SERVICES", "--plans", str(processes.PLANS)]
    done = subprocess.run(
        [sys.executable, "-m", "saga.cli", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
