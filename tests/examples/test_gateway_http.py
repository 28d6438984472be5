from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from examples.payment.gateway import Answer, Gateway, GatewayDown
from examples.payment.gateway_http import HttpGateway, gateway_app

pytestmark = pytest.mark.anyio

KEY = "k" * 16


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(gateway_app(gateway)), base_url="http://gateway")


async def test_speaks_like_the_gateway_itself() -> None:
    gateway = Gateway()
    async with client_of(gateway) as client:
        door = HttpGateway(client)
        held = await door.authorize(KEY, order_id="order-1", card="card-ok", amount=700)
        assert held.ok
        charged = await door.capture("c", authorization=held.reference)
        assert charged == Answer(key="c", ok=True, reference="charge-c", amount=700)
        assert not (await door.void("v", authorization=held.reference)).ok
        assert await door.find("c") == charged
        assert await door.find("x") is None
        entries, still_open = await door.books()
    assert entries == gateway.ledger()
    assert still_open == []


async def test_a_gateway_that_is_down_raises_until_it_is_repaired() -> None:
    async with client_of(Gateway()) as client:
        door = HttpGateway(client)
        with pytest.raises(GatewayDown, match="503"):
            await door.authorize(KEY, order_id="order-1", card="card-down", amount=1)
        await door.repair("card-down")
        assert (await door.authorize(KEY, order_id="order-1", card="card-down", amount=1)).ok


@pytest.mark.parametrize("content", [b"{}", b"not json"])
async def test_malformed_requests_are_refused(content: bytes) -> None:
    async with client_of(Gateway()) as client:
        assert (await client.post("/capture", content=content)).status_code == 400


async def test_nobody_listening_is_a_gateway_that_is_down() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(GatewayDown):
            await HttpGateway(client).find(KEY)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(port: int, file: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "GATEWAY_PORT": str(port), "GATEWAY_FILE": str(file)}
    process = subprocess.Popen([sys.executable, "-m", "examples.payment", "gateway"], env=environment)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return process
    process.kill()
    pytest.fail("the gateway did not come up")


async def test_a_killed_gateway_remembers_every_answer(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "gateway.db"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        door = HttpGateway(client)
        first = start(port, file)
        held = await door.authorize(KEY, order_id="order-1", card="card-ok", amount=700)
        charged = await door.capture("c", authorization=held.reference)
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = start(port, file)
        try:
            assert await door.capture("c", authorization=held.reference) == charged
            entries, still_open = await door.books()
        finally:
            second.terminate()
            second.wait(10)
    assert [entry.what for entry in entries] == ["authorized", "captured"]
    assert still_open == []
