"""Run the whole shop as separate processes over a real Kafka and PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httpx

from examples.payment.heartbeat import is_alive
from examples.payment.ordering import place_orders
from examples.payment.roles import check_ledger, init
from examples.payment.services import SERVICES
from examples.payment.settings import Settings

UP_SECONDS = 60.0
STOP_SECONDS = 20.0

PROCESSES = {
    "gateway": ["gateway"],
    "coordinator-1": ["coordinator", "--slot", "1"],
    "coordinator-2": ["coordinator", "--slot", "2"],
    **{service.name: ["service", service.name] for service in SERVICES},
}


async def run(settings: Settings, *, count: int, seed: int) -> bool:
    """Start everything, place orders, add up, stop everything; return whether all went well."""
    await init(settings)
    with TemporaryDirectory(prefix="saga-run-") as name:
        folder = Path(name)
        with processes(_environment(settings, folder), folder):
            await _wait_until_up(settings, folder)
            ended = await place_orders(settings, count=count, seed=seed, wait_seconds=120.0)
            problems = await check_ledger(settings)
    return ended and not problems


@contextmanager
def processes(environment: Mapping[str, str], folder: Path) -> Generator[None]:
    """Run every role as a process, and end them gracefully in the end."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, arguments in PROCESSES.items():
            command = [sys.executable, "-m", "examples.payment", *arguments]
            known = {**environment, "SAGA_HEARTBEAT_FILE": str(folder / name)}
            running.append(subprocess.Popen(command, env=known))  # noqa: S603 - our own module
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            _wait_for_end(process)


def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(settings: Settings, folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SAGA_KAFKA_URL": settings.kafka_url,
        "SAGA_POSTGRES_URL": settings.postgres_url,
        "GATEWAY_FILE": str(folder / "gateway.db"),
    }


async def _wait_until_up(settings: Settings, folder: Path) -> None:
    until = time.monotonic() + UP_SECONDS
    beating = [name for name in PROCESSES if name != "gateway"]
    async with httpx.AsyncClient(base_url=settings.gateway_url) as client:
        while True:
            missing = [name for name in beating if not is_alive(str(folder / name))]
            if not missing and await _answers(client):
                return
            if time.monotonic() > until:
                msg = f"not up after {UP_SECONDS:g} s: {', '.join(missing) or 'gateway'}"
                raise TimeoutError(msg)
            await anyio.sleep(0.2)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.TransportError:
        return False
