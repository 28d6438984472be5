"""Run the whole shop in one process: SQLite, the memory transport, and a gateway that is an object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus

from examples.payment.databases import Query, sqlite_query
from examples.payment.gateway import Gateway
from examples.payment.gateway_doors import LocalGateway
from examples.payment.ledger import Books, read_books
from examples.payment.payment import use_gateway
from examples.payment.services import SERVICES
from saga.app import App, Coordinator, Tuning
from transports.memory import MemoryTransport

PLANS = Path(__file__).parent / "plans"
# For the demo: a call may begin within a lease of three beats, and that is waited for before it is proven lost.
QUICK = Tuning(beat_seconds=0.5)


@dataclass(slots=True, kw_only=True)
class Shop:
    """Be the running shop. Its coordinator is an app of its own, so that the demo can take it away."""

    folder: Path
    transport: MemoryTransport
    gateway: Gateway
    tasks: TaskGroup
    _coordinator: anyio.Event | None = field(default=None)
    _coordinator_gone: anyio.Event = field(default_factory=anyio.Event)

    @property
    def query(self) -> Query:
        """Return a reader of the services' database; they share one file here."""
        return sqlite_query(self.folder / "shop.db")

    async def start_coordinator(self) -> None:
        app = App(
            coordinator=Coordinator(plans=PLANS, store=f"sqlite:///{self.folder}/coordinator.db"),
            transport=self.transport,
        )
        self._coordinator = anyio.Event()
        self._coordinator_gone = anyio.Event()
        await self.tasks.start(_keep, app, self._coordinator, self._coordinator_gone)

    async def stop_coordinator(self) -> None:
        if self._coordinator is not None:
            self._coordinator.set()
            self._coordinator = None
            await self._coordinator_gone.wait()

    async def books(self) -> Books:
        """Return everything that has to add up."""
        entries, still_open = self.gateway.ledger(), self.gateway.open_authorizations()
        return await read_books(dict.fromkeys(NAMES, self.query), entries, still_open)


NAMES = tuple(service.name for service in SERVICES)


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncGenerator[Shop]:
    """Start the shop with its files in `folder`."""
    gateway = Gateway()
    use_gateway(LocalGateway(gateway))
    transport = MemoryTransport()
    services = App(SERVICES, store=f"sqlite:///{folder}/shop.db", transport=transport, tuning=QUICK)
    async with anyio.create_task_group() as tasks:
        shop = Shop(folder=folder, transport=transport, gateway=gateway, tasks=tasks)
        await shop.start_coordinator()
        async with services:
            yield shop
        await shop.stop_coordinator()
    gateway.close()


async def _keep(
    app: App, stop: anyio.Event, gone: anyio.Event, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    async with app:
        task_status.started()
        await stop.wait()
    gone.set()
