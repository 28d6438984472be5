"""Serve an ASGI application inside a running program; the one place that knows uvicorn."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskStatus

from saga._runtime.supervise import bare
from saga.errors import SettingsError

if TYPE_CHECKING:
    import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Be an ASGI 3 application."""

LOOPBACK = "127.0.0.1"
CLOSE_SECONDS = 1
_ADDRESS = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):)?(\d{1,5})")
_MAX_PORT = 65535
_EXTRA = "pip install 'saga-choreography[console]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Name where to listen; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as `parse_address` takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, name: str) -> Address:
    """Read `host:port`, or a port alone, which stands for loopback; raises SettingsError beginning with `name`."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > _MAX_PORT:
        raise SettingsError(f"{name}={text[:60]!r} is no address: write host:port, such as {LOOPBACK}:8080")
    return Address(host=(match[1] or LOOPBACK).strip("[]"), port=int(match[2]))


async def serve_http(
    app: Asgi, address: Address, *, task_status: TaskStatus[Address] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; started with the address once it listens.

    Connections that are still open a second after are cut. Signals stay the program's. Raises SettingsError where
    uvicorn is missing, the address cannot be listened on, or the application's lifespan does not come up.
    """
    server, listening = _server(app)
    with closing(_listen(address)) as door, bare():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_serve, server, door, tasks.cancel_scope)
            try:
                await listening.wait()
                task_status.started(Address(host=address.host, port=int(door.getsockname()[1])))
                await anyio.sleep_forever()
            finally:
                server.should_exit = True


async def _serve(server: uvicorn.Server, door: socket.socket, around: anyio.CancelScope) -> None:
    """Serve until told by `should_exit`, so that open requests are answered; then nothing around is left to do."""
    with anyio.CancelScope(shield=True):
        try:
            await server.serve(sockets=[door])
        except SystemExit:  # uvicorn's way to say so
            raise SettingsError("the application to be served does not start: its log says why") from None
    around.cancel()


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise SettingsError(f"nothing can listen on {address} ({error.strerror}): choose another address") from None


def _server(app: Asgi) -> tuple[uvicorn.Server, anyio.Event]:
    """Return a server, and what is set once it listens."""
    try:
        import uvicorn  # noqa: PLC0415 - the core install has no uvicorn
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        raise SettingsError(f"serving HTTP needs the extra [console]: {_EXTRA}") from None
    listening = anyio.Event()

    class Guest(uvicorn.Server):
        """Leave the signals to the program around, and say when it listens."""

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listening.set()

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    return Guest(config), listening
