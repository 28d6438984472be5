"""Be one process of the distributed shop: a service, a coordinator, the gateway, or somebody who orders things."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx
import uvicorn

from examples.payment import ledger
from examples.payment.gateway import Gateway
from examples.payment.gateway_http import HttpGateway, gateway_app
from examples.payment.heartbeat import beat
from examples.payment.orders import orders
from examples.payment.orders_http import orders_app
from examples.payment.payment import use_gateway
from examples.payment.postgres import create_database, postgres_query
from examples.payment.services import SERVICES
from examples.payment.settings import Settings
from saga.app import App, Coordinator, until_told
from saga.telemetry import configure_from_env

PLANS = Path(__file__).parent / "plans"
COORDINATOR = "coordinator"
DATABASES = (*(service.name for service in SERVICES), COORDINATOR)


async def init(settings: Settings) -> None:
    """Create a database for each service and one for the coordinators."""
    for name in DATABASES:
        await create_database(settings.postgres_url, name)
        print(f"database {name} is there")


async def serve_service(name: str, settings: Settings) -> None:
    """Run one service until SIGTERM; the usual OTEL_* variables say where its traces and metrics go."""
    configure_from_env(name)
    (service,) = (service for service in SERVICES if service.name == name)
    app = App(
        [service],
        store=settings.database(name),
        transport=settings.kafka_url,
        slot=settings.slot,
        plans_timeout_seconds=60.0,
    )
    async with httpx.AsyncClient(base_url=settings.gateway_url, timeout=5.0) as client:
        use_gateway(HttpGateway(client))
        await serve(app, settings, _orders_api(app, settings) if service is orders else None)


async def serve_coordinator(settings: Settings) -> None:
    """Run one coordinator until SIGTERM."""
    configure_from_env(COORDINATOR)
    coordinator = Coordinator(plans=PLANS, store=settings.database(COORDINATOR))
    await serve(App(coordinator=coordinator, transport=settings.kafka_url, slot=settings.slot), settings)


async def serve(app: App, settings: Settings, api: uvicorn.Server | None = None) -> None:
    """Run an app until SIGTERM or SIGINT, show by a file that it is alive, and serve its API if it has one."""

    @asynccontextmanager
    async def life() -> AsyncGenerator[None]:
        async with app, anyio.create_task_group() as tasks:
            if api is not None:
                tasks.start_soon(api.serve)
            tasks.start_soon(beat, settings.heartbeat_file)
            yield
            tasks.cancel_scope.cancel()

    await until_told(life())


class _Server(uvicorn.Server):
    """Leave the signals to `serve`."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _orders_api(app: App, settings: Settings) -> uvicorn.Server:
    api = orders_app(app)
    host, port = settings.orders_host, settings.orders_port
    return _Server(uvicorn.Config(api, host=host, port=port, log_level="warning", lifespan="off"))


def serve_gateway(settings: Settings) -> None:
    """Run the gateway until SIGTERM; what it has answered is in its file."""
    gateway = Gateway(settings.gateway_file)
    uvicorn.run(gateway_app(gateway), host=settings.gateway_host, port=settings.gateway_port, log_level="warning")


# --- adding up ----------------------------------------------------------------------------------------------


async def check_ledger(settings: Settings) -> list[str]:
    """Read the books of all services and of the gateway; return and print what does not add up."""
    async with httpx.AsyncClient(base_url=settings.gateway_url, timeout=30.0) as client:
        entries, still_open = await HttpGateway(client).books()
    databases = {service.name: postgres_query(settings.database(service.name)) for service in SERVICES}
    books = await ledger.read_books(databases, entries, still_open)
    found = ledger.problems(books)
    states = Counter(row["state"] for row in books.orders)
    charged = sum(entry.amount for entry in books.captured())
    print(f"orders {dict(states)}, charged {charged / 100:.2f}, {len(books.runs)} runs")
    for problem in found:
        print(f"PROBLEM: {problem}")
    print("Something does NOT add up." if found else "Everything adds up.")
    return found
