"""Run one process: `python -m examples.fastapi_orders [stock]`, as DATABASE_URL and KAFKA_URL say."""

from __future__ import annotations

import os
import sys

import anyio
import uvicorn

from examples.fastapi_orders import processes
from examples.fastapi_orders.web import shop_web


async def serve(role: str) -> None:
    """Serve until SIGTERM or SIGINT; without KAFKA_URL the orders process holds everything."""
    kafka = os.environ.get("KAFKA_URL", "")
    async with processes.opened(os.environ["DATABASE_URL"]) as engine:
        if role == "stock":
            await processes.stock_app(engine, kafka).run()
        else:
            app = processes.orders_app(engine, kafka) if kafka else processes.everything(engine)
            await uvicorn.Server(uvicorn.Config(shop_web(engine, app), port=8000)).serve()


if __name__ == "__main__":
    anyio.run(serve, "".join(sys.argv[1:]) or "orders")
