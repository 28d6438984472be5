from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import ByteStream


class Cut(StrEnum):
    NEVER = "never"
    BEFORE = "before"
    AFTER = "after"


class Proxy:
    """Stand between a store and its server; cut the connection before or after the server sees `at`, a COMMIT."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.cut = Cut.NEVER
        self.at = b"COMMIT\x00"
        self.sent = 0
        self.url = ""
        self._clients: set[ByteStream] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[Proxy]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        self.url = urlunsplit(self._parts._replace(netloc=f"postgres@127.0.0.1:{port}"))
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._handle)
            yield self
            tasks.cancel_scope.cancel()

    async def say(self, data: bytes) -> None:
        """Send something to every client that no server has sent."""
        for client in self._clients:
            await client.send(data)

    async def _handle(self, client: ByteStream) -> None:
        self._clients.add(client)
        try:
            await self._serve(client)
        finally:
            self._clients.discard(client)

    async def _serve(self, client: ByteStream) -> None:
        assert self._parts.hostname is not None
        assert self._parts.port is not None
        server = await anyio.connect_tcp(self._parts.hostname, self._parts.port)
        async with client, server, anyio.create_task_group() as tasks:
            tasks.start_soon(self._pass_back, server, client, tasks)
            try:
                async for data in client:
                    self.sent += 1
                    if self.at in data and self.cut is not Cut.NEVER:
                        if self.cut is Cut.AFTER:
                            tasks.cancel_scope.cancel()
                            with anyio.CancelScope(shield=True):
                                await server.send(data)
                                await server.receive()
                        break
                    await server.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            tasks.cancel_scope.cancel()

    async def _pass_back(self, server: ByteStream, client: ByteStream, tasks: anyio.abc.TaskGroup) -> None:
        try:
            async for data in server:
                await client.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        tasks.cancel_scope.cancel()
