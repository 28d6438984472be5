"""Join a session or a connection of SQLAlchemy 2, awaited or blocking."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection, RootTransaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from outbox import joining
from outbox.joining.door import Entry, Manner
from saga.errors import SettingsError

_DRIVERS = ("postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg_async", "sqlite+pysqlite")
_AUTOCOMMIT = "connection= is in autocommit: leave out isolation_level='AUTOCOMMIT' where its engine is made"


@dataclass(frozen=True, slots=True, eq=False)
class RootWatch:
    """Watch SQLAlchemy's own transaction, which is inactive once COMMIT or ROLLBACK has returned."""

    root: RootTransaction
    doubt_seconds: float = 0.1

    def is_over(self) -> bool:
        """Return whether the transaction has ended."""
        return not self.root.is_active

    def drop(self) -> None:
        """Do nothing: nothing was set up."""


@dataclass(frozen=True, slots=True, eq=False)
class AwaitedDoor:
    """Lead into an AsyncSession or AsyncConnection; see `Door`."""

    joined: AsyncSession | AsyncConnection

    @property
    def manner(self) -> Manner:
        """Return that calls are awaited."""
        return Manner.AWAITED

    async def enter(self) -> Entry:
        """Return the inside of the driver's connection, which begins now if it has not."""
        _check_begun(self.joined)
        joined = self.joined
        connection = await joined.connection() if isinstance(joined, AsyncSession) else joined
        _check_driver(connection.dialect.name, connection.dialect.driver)
        raw = (await connection.get_raw_connection()).driver_connection
        if not _is_open(raw):
            # SQLAlchemy lets the driver begin with the first statement only.
            await connection.exec_driver_sql("select 1")
        assert connection.sync_connection is not None
        return await _entry(connection.sync_connection, raw)


@dataclass(frozen=True, slots=True, eq=False)
class BlockingDoor:
    """Lead into a Session or Connection; see `Door`."""

    joined: Session | Connection

    @property
    def manner(self) -> Manner:
        """Return that calls block."""
        return Manner.BLOCKING

    async def enter(self) -> Entry:
        """Return the inside of the driver's connection, which begins now if it has not."""
        _check_begun(self.joined)
        connection = self.joined.connection() if isinstance(self.joined, Session) else self.joined
        _check_driver(connection.dialect.name, connection.dialect.driver)
        raw = connection.connection.driver_connection
        if not _is_open(raw):
            connection.exec_driver_sql(_opening(raw))
        return await _entry(connection, raw)


async def _entry(connection: Connection, raw: Any) -> Entry:
    if not _is_open(raw):
        raise SettingsError(_AUTOCOMMIT)
    entry = await joining.door_to(raw).enter()
    root = connection.get_transaction()
    if root is None or connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return entry  # somebody begins and ends it on the driver's connection, as for run.session
    return replace(entry, watch=partial(RootWatch, root))


def _check_begun(joined: AsyncSession | AsyncConnection | Session | Connection) -> None:
    if joined.in_transaction():
        return
    name = type(joined).__name__
    around = "async with" if isinstance(joined, AsyncSession | AsyncConnection) else "with"
    of = "session" if isinstance(joined, AsyncSession | Session) else "connection"
    a = "an" if name.startswith("A") else "a"
    raise SettingsError(f"connection= is {a} {name} without an open transaction: write `{around} {of}.begin():` around")


def _check_driver(name: str, driver: str) -> None:
    found = f"{name}+{driver}"
    if found not in _DRIVERS:
        raise SettingsError(
            f"connection= is SQLAlchemy's over {found}: make the engine with postgresql+asyncpg://, "
            "postgresql+psycopg:// or (not asynchronous) sqlite://"
        )


def _is_open(raw: Any) -> bool:
    if isinstance(raw, sqlite3.Connection):
        return raw.in_transaction
    if hasattr(raw, "pgconn"):
        return bool(raw.info.transaction_status)  # IDLE is 0
    return bool(raw.is_in_transaction())


def _opening(raw: Any) -> str:
    """Return what makes a driver begin: sqlite3 begins with a write only, and in autocommit not even then."""
    # At once for writing: a transaction that has only read loses to whoever has written since.
    return "begin immediate" if isinstance(raw, sqlite3.Connection) and raw.isolation_level is not None else "select 1"


def door(connection: Any) -> AwaitedDoor | BlockingDoor | None:
    """Return the door into a session or connection of SQLAlchemy's."""
    if isinstance(connection, scoped_session | async_scoped_session):
        connection = cast("Any", connection)()
    if isinstance(connection, AsyncSession | AsyncConnection):
        return AwaitedDoor(connection)
    return BlockingDoor(connection) if isinstance(connection, Session | Connection) else None
