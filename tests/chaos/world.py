"""Be the distributed shop of the example: a database for each service, and every process under our hand."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.to_thread
import httpx

from examples.payment.databases import Query
from examples.payment.gateway_http import HttpGateway
from examples.payment.postgres import postgres_query
from tests.chaos.facts import COORDINATOR, SERVICES, Facts, read_facts
from tests.chaos.processes import Role, end_all
from tests.testbed.server import LOOPBACK, free_port
from tests.testbed.services import Kafka, Postgres

COORDINATORS = ("coordinator-0", "coordinator-1")
UP_SECONDS = 90.0
OPEN = "select count(*) as open from saga_run where step = 'orders.start' and outcome is null"
UNSENT = "select (select count(*) from saga_outbox) + (select count(*) from saga_delivery where reason <> 'dead') as n"
PENDING = "select count(*) as n from saga_run where pending_at is not null"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Hold the processes and how to look into their databases."""

    roles: Mapping[str, Role]
    databases: Mapping[str, Query]
    logs: Path
    gateway: httpx.AsyncClient
    orders: httpx.AsyncClient

    def start(self, *names: str) -> None:
        """Start processes that are not alive: those named, or all."""
        for name in names or tuple(self.roles):
            self.roles[name].start()

    async def wait_until_up(self) -> None:
        """Return when every process beats and both HTTP doors answer; raises TimeoutError with who is missing."""
        until = time.monotonic() + UP_SECONDS
        while missing := await self._missing():
            if time.monotonic() > until:
                raise TimeoutError(f"not up after {UP_SECONDS:g} s: {', '.join(missing)}; logs in {self.logs}")
            self.start()
            await anyio.sleep(0.2)

    async def _missing(self) -> list[str]:
        missing = [name for name in self.roles if name != "gateway" and not beat_file(self.logs, name).exists()]
        for name, client in (("gateway", self.gateway), ("orders", self.orders)):
            try:
                well = (await client.get("/health")).is_success
            except httpx.TransportError:
                well = False
            missing += [] if well else [f"{name} (HTTP)"]
        return missing

    def kill(self, name: str) -> bool:
        """Kill a process with SIGKILL; False if it was not alive."""
        killed = self.roles[name].kill()
        beat_file(self.logs, name).unlink(missing_ok=True)
        return killed

    async def open_sagas(self) -> int:
        """Return how many sagas have not ended for their starter."""
        return int((await self.databases["orders"](OPEN))[0]["open"])

    async def wait_until_ended(self, seconds: float) -> bool:
        """Return whether within the time every saga has ended and nothing is left to do anywhere."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not await self.open_sagas() and not await self._left_over():
                return True
            self.start()  # as a supervisor does with whatever ends by itself
            await anyio.sleep(0.5)
        return False

    async def repair_gateway(self) -> None:
        """Let the card that is down work, as long as this gateway process lives."""
        await HttpGateway(self.gateway).repair("card-down")

    async def _left_over(self) -> int:
        asked = [(query, UNSENT) for query in self.databases.values()]
        asked += [(self.databases[name], PENDING) for name in SERVICES]
        return sum([int((await query(sql))[0]["n"]) for query, sql in asked])

    async def facts(self) -> Facts:
        """Read everything."""
        entries, still_open = await HttpGateway(self.gateway).books()
        return await read_facts(self.databases, entries, still_open)


@asynccontextmanager
async def open_world(kafka: Kafka, postgres: Postgres, logs: Path) -> AsyncGenerator[World]:
    """Create the databases and everything but the processes; in the end no process is left."""
    urls = {name: await postgres.create_database(name) for name in (*SERVICES, COORDINATOR)}
    await anyio.Path(logs).mkdir(parents=True, exist_ok=True)
    # A crashed server first syncs its whole directory; what creating it has left in memory took 20 s there.
    await anyio.to_thread.run_sync(os.sync)
    doors = {"GATEWAY": free_port(), "ORDERS": free_port()}
    roles = _roles(urls, logs, _environment(kafka, doors, logs))
    async with (
        httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{doors['GATEWAY']}", timeout=30.0) as gateway,
        httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{doors['ORDERS']}", timeout=30.0) as orders,
    ):
        world = World(
            roles=roles,
            databases={name: postgres_query(url) for name, url in urls.items()},
            logs=logs,
            gateway=gateway,
            orders=orders,
        )
        try:
            yield world
        finally:
            end_all(roles)
            with anyio.CancelScope(shield=True):
                for url in urls.values():
                    await postgres.drop_database(url)


def _environment(kafka: Kafka, doors: Mapping[str, int], logs: Path) -> dict[str, str]:
    environment = {
        "SAGA_KAFKA_URL": f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}.",
        "GATEWAY_FILE": str(logs / "gateway.db"),
    }
    for name, port in doors.items():
        environment |= {
            f"{name}_HOST": LOOPBACK,
            f"{name}_PORT": str(port),
            f"{name}_URL": f"http://{LOOPBACK}:{port}",
        }
    return environment


def _roles(urls: Mapping[str, str], logs: Path, environment: Mapping[str, str]) -> dict[str, Role]:
    arguments: dict[str, tuple[str, ...]] = {"gateway": ("gateway",)}
    databases = {"gateway": ""}
    for slot, name in enumerate(COORDINATORS):
        arguments[name], databases[name] = ("coordinator", "--slot", str(slot)), urls[COORDINATOR]
    for name in SERVICES:
        arguments[name], databases[name] = ("service", name), urls[name]
    return {
        name: Role(
            name=name,
            arguments=("-m", "examples.payment", "--verbose", *given),
            environment={
                **environment,
                "SAGA_DATABASE_URL": databases[name],
                "SAGA_HEARTBEAT_FILE": str(beat_file(logs, name)),
            },
            logs=logs,
        )
        for name, given in arguments.items()
    }


def beat_file(logs: Path, name: str) -> Path:
    """Return the file a process touches while it is up."""
    return logs / f"{name}.beat"
