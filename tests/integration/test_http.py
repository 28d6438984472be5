"""An ASGI application is served inside of a running program, and ends with it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import anyio
import httpx
import pytest

from saga import SettingsError
from saga._http import Address, parse_address, serve_http

pytestmark = pytest.mark.anyio
ANYWHERE = Address(host="127.0.0.1", port=0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def endless(scope: Any, receive: Any, send: Any) -> None:
    """Begin an answer that never ends; lifespans are not known."""
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await anyio.sleep_forever()


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """Come up in vain."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def test_an_answer_that_never_ends_does_not_hold_the_program_up(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            at: Address = await tasks.start(serve_http, endless, ANYWHERE)
            assert at.port != 0
            async with httpx.AsyncClient() as client, client.stream("GET", f"http://{at}/") as answer:
                assert answer.status_code == 200
                parts = answer.aiter_bytes()
                assert await anext(parts) == b"begun"
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True), pytest.raises(httpx.RemoteProtocolError):
                    await anext(parts)


async def test_an_application_that_does_not_come_up_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(SettingsError, match="does not start"):
        await serve_http(failing, ANYWHERE)
    assert "no database" in caplog.text


async def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SettingsError, match=r"pip install 'saga-choreography\[console\]'"):
        await serve_http(endless, ANYWHERE)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", Address(host="127.0.0.1", port=8080)),
        ("0.0.0.0:80", Address(host="0.0.0.0", port=80)),
        ("[::1]:1", Address(host="::1", port=1)),
        ("saga.example.org:65535", Address(host="saga.example.org", port=65535)),
    ],
)
async def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text, "--health") == address
    assert parse_address(str(address), "--health") == address


@pytest.mark.parametrize("text", ["", "here", ":80", "h:65536", "http://h:80", "h:80/path"])
async def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--health=.* is no address: write host:port"):
        parse_address(text, "--health")
