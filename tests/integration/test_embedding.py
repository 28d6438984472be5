"""An app lives inside of a web application's lifespan: FastAPI, Starlette, litestar, and plain asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import fastapi
import httpx
import litestar
import pytest
from litestar.params import FromPath
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from outbox.urls import open_store
from saga import NOTHING, Event, NotRunning, Run, Saga, Service, SettingsError, Start
from saga._arranging import arranged, settings_here
from saga.app import App, Coordinator
from saga.health import health_app
from saga.settings import Settings, read_settings
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Placed(Event, name="order.placed", version=1):
    order: str


class Packed(Event, name="order.packed", version=1):
    order: str


@dataclass
class Shop:
    """Be the declarations of a shop, and an app from settings that runs all of it."""

    app: App
    place: Start[Placed]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    orders, packing, checkout = Service("orders"), Service("packing"), Saga("checkout", version=1)

    @packing.step(checkout, compensation=NOTHING)
    async def pack(placed: Placed, run: Run) -> Packed:
        return Packed(order=placed.order)

    place = orders.starts(checkout, Placed)
    environ = {"SAGA_STORE": f"sqlite:///{tmp_path / 'shop.db'}", "SAGA_TRANSPORT": "memory://"}
    settings = read_settings(environ).settings
    return Shop(app=App.from_env([orders, packing], coordinator=Coordinator(), settings=settings), place=place)


@asynccontextmanager
async def served(site: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Speak the lifespan protocol with an application as a server does, and let requests go to it meanwhile."""
    to_it, received = anyio.create_memory_object_stream[dict[str, Any]](2)
    said, answers = anyio.create_memory_object_stream[dict[str, Any]](2)
    with to_it, received, said, answers:
        async with anyio.create_task_group() as tasks:
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
            tasks.start_soon(site, scope, received.receive, said.send)
            await to_it.send({"type": "lifespan.startup"})
            assert (await answers.receive()) == {"type": "lifespan.startup.complete"}
            try:
                transport = httpx.ASGITransport(site)
                async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                    yield client
            finally:
                await to_it.send({"type": "lifespan.shutdown"})
                assert (await answers.receive()) == {"type": "lifespan.shutdown.complete"}


async def ended(client: httpx.AsyncClient, shop: Shop) -> None:
    """Order something, and see it through to its end."""
    answer = await client.post("/orders/o-1")
    assert answer.status_code in (200, 201)
    saga_id = answer.json()["saga"]
    assert (await client.get(f"/sagas/{saga_id}")).json() == {"ending": "completed"}


async def is_down(shop: Shop) -> bool:
    """Return whether nothing runs any more."""
    with pytest.raises(NotRunning):
        await shop.place(Placed(order="o-2"))
    return not (await shop.app.readiness()).is_ready


async def test_in_fastapi(shop: Shop) -> None:
    @asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncGenerator[None]:
        async with shop.app:
            yield

    site = fastapi.FastAPI(lifespan=lifespan)
    site.mount("/health", health_app(shop.app))

    @site.post("/orders/{order}")
    async def place_order(order: str) -> dict[str, str]:
        handle = await shop.place(Placed(order=order), key=order)
        return {"saga": handle.saga_id}

    @site.get("/sagas/{saga_id}")
    async def see(saga_id: str) -> dict[str, str]:
        outcome = await shop.app.handle(shop.place, saga_id).outcome(timeout_seconds=30)
        return {"ending": outcome.ending.value}

    async with served(site) as client:
        await ended(client, shop)
        assert (await client.get("/health/livez")).status_code == 200
        checks = (await client.get("/health/readyz")).json()["checks"]
        assert {check["name"] for check in checks} >= {"store", "transport", "plans", "service packing", "coordinator"}
    assert await is_down(shop)


async def test_in_starlette(shop: Shop) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with shop.app:
            yield

    async def place_order(request: Request) -> JSONResponse:
        order = request.path_params["order"]
        return JSONResponse({"saga": (await shop.place(Placed(order=order), key=order)).saga_id})

    async def see(request: Request) -> JSONResponse:
        handle = shop.app.handle(shop.place, request.path_params["saga_id"])
        return JSONResponse({"ending": (await handle.outcome(timeout_seconds=30)).ending.value})

    routes = [
        Route("/orders/{order}", place_order, methods=["POST"]),
        Route("/sagas/{saga_id}", see),
        Mount("/", app=health_app(shop.app)),
    ]
    async with served(Starlette(routes=routes, lifespan=lifespan)) as client:
        await ended(client, shop)
        assert (await client.get("/livez")).json() == {"alive": True}
    assert await is_down(shop)


async def test_in_litestar(shop: Shop) -> None:
    @asynccontextmanager
    async def lifespan(_: litestar.Litestar) -> AsyncGenerator[None]:
        async with shop.app:
            yield

    @litestar.post("/orders/{order:str}")
    async def place_order(order: FromPath[str]) -> dict[str, str]:
        return {"saga": (await shop.place(Placed(order=order), key=order)).saga_id}

    @litestar.get("/sagas/{saga_id:str}")
    async def see(saga_id: FromPath[str]) -> dict[str, str]:
        outcome = await shop.app.handle(shop.place, saga_id).outcome(timeout_seconds=30)
        return {"ending": outcome.ending.value}

    health = litestar.asgi("/health", is_mount=True, copy_scope=True)(health_app(shop.app))
    site = litestar.Litestar([place_order, see, health], lifespan=[lifespan], openapi_config=None, logging_config=None)
    async with served(site) as client:
        await ended(client, shop)
        assert (await client.get("/health/livez")).json() == {"alive": True}
    assert await is_down(shop)


def test_in_plain_asyncio(shop: Shop) -> None:
    async def main() -> str:
        async with shop.app:
            handle = await shop.place(Placed(order="o-1"), key="o-1")
            return str((await handle.outcome(timeout_seconds=30)).ending)

    assert asyncio.run(main()) == "completed"


def test_from_env_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SAGA_STOER", "sqlite:///shop.db")
    with pytest.raises(SettingsError, match="SAGA_STORE is not set"):
        App.from_env([Service("orders")])
    assert "did you mean SAGA_STORE?" in caplog.text
    monkeypatch.setenv("SAGA_STORE", "sqlite:///shop.db")
    with pytest.raises(SettingsError, match="SAGA_TRANSPORT is not set"):
        App.from_env([Service("orders")])


def test_from_env_takes_what_a_coordinator_leaves_open_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "SAGA_STORE": "sqlite:///services.db",
        "SAGA_COORDINATOR_STORE": "sqlite:///saga.db",
        "SAGA_TRANSPORT": "kafka://h:1",
    }
    for name, value in (places | {"SAGA_PLANS": "plans", "SAGA_SLOT": "7"}).items():
        monkeypatch.setenv(name, value)
    made = arranged(settings_here(), (), Coordinator(), {})
    assert made["coordinator"] == Coordinator(plans="plans", store="sqlite:///saga.db")
    assert (made["slot"], made["transport"], made["store"]) == ("7", "kafka://h:1", None)
    own = Coordinator(plans="others", store="sqlite:///own.db")
    assert arranged(settings_here(), (), own, {})["coordinator"] == own
    assert App.from_env(coordinator=Coordinator()).services == ()


def test_an_engine_or_an_open_adapter_goes_before_the_settings() -> None:
    store, transport = open_store("sqlite:///own.db"), MemoryTransport()
    made = arranged(Settings(slot="3"), [Service("orders")], None, {"store": store, "transport": transport})
    assert (made["store"], made["transport"], made["slot"]) == (store, transport, "3")
