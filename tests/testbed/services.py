"""What a test sees of a service, wherever it comes from."""

from __future__ import annotations

import unittest
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from tests.testbed.server import run_apart

LONGEST_NAME = 63


class Control(Protocol):
    """A server that can be ended and started again in place."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def stop_immediate(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Service:
    """A running service; its process can be controlled unless it was given as an address."""

    control: Control | None

    @property
    def controlled(self) -> bool:
        """Tell whether the methods below work."""
        return self.control is not None

    def start(self) -> None:
        """Start the stopped server on the same address and wait until it serves clients."""
        self._controlled().start()

    def stop(self) -> None:
        """End the server in order."""
        self._controlled().stop()

    def stop_immediate(self) -> None:
        """End the server as a crash would; what it acknowledged survives."""
        self._controlled().stop_immediate()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    def restart_immediate(self) -> None:
        """Crash and start again."""
        self.stop_immediate()
        self.start()

    def close(self) -> None:
        """End a server that was started for the tests and remove its data."""
        if self.control is not None:
            self.control.close()

    def _controlled(self) -> Control:
        if self.control is None:
            raise unittest.SkipTest("the server was given as an address and is not ours to stop")
        return self.control


@dataclass
class Kafka(Service):
    """A Kafka broker at `bootstrap`; topics are not created by themselves."""

    bootstrap: str


@dataclass
class Jaeger(Service):
    """Jaeger: `otlp` takes traces over HTTP, `query` is the base of its query API."""

    otlp: str
    query: str


class Postgres(Service):
    """A PostgreSQL server; `url` is a superuser's.

    Databases carry a mark of this session in their names, so two sessions may share one server.
    """

    def __init__(self, control: Control | None, url: str) -> None:
        super().__init__(control)
        self.url = url
        self._mark = f"saga_test_{uuid4().hex[:8]}"
        self._created: set[str] = set()

    async def create_database(self, name: str) -> str:
        """Create an empty database, replacing one of this session with that name, and return its URL."""
        full = f"{self._mark}_{name}"
        if len(full) > LONGEST_NAME or not full.replace("_", "").isalnum():
            raise ValueError(f"{name!r} is no short plain name for a database")
        await self._execute(f'drop database if exists "{full}" with (force)', f'create database "{full}"')
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{full}"))
        self._created.add(url)
        return url

    async def drop_database(self, url: str) -> None:
        """Drop a database of this session, with whoever is still connected."""
        name = urlsplit(url).path.removeprefix("/")
        self._created.discard(url)
        await self._execute(f'drop database if exists "{name}" with (force)')

    def create_database_now(self, name: str) -> str:
        """Do the same as `create_database` from code that cannot await."""
        return run_apart(lambda: self.create_database(name))

    def drop_database_now(self, url: str) -> None:
        """Do the same as `drop_database` from code that cannot await."""
        run_apart(lambda: self.drop_database(url))

    def close(self) -> None:
        """End a server of our own; on somebody else's drop what this session has created."""
        if self.control is None:
            for url in sorted(self._created):
                self.drop_database_now(url)
        super().close()

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=60)
        finally:
            await connection.close()
