"""Join a connection of the standard library's sqlite3."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from outbox.joining.door import Manner, SqliteEntry
from saga.errors import SettingsError


@dataclass(frozen=True, slots=True, eq=False)
class SqliteWatch:
    """Watch `in_transaction`, which may be read from any thread; see `saga.ports.Watch`."""

    connection: sqlite3.Connection
    doubt_seconds: float = 0.05

    def is_over(self) -> bool:
        """Return whether the transaction has ended."""
        try:
            return not self.connection.in_transaction
        except sqlite3.ProgrammingError:
            return True  # closed

    def drop(self) -> None:
        """Do nothing: nothing was set up."""


@dataclass(frozen=True, slots=True, eq=False)
class SqliteDoor:
    """Lead into a sqlite3 connection; see `Door`."""

    connection: sqlite3.Connection

    @property
    def manner(self) -> Manner:
        """Return that calls block."""
        return Manner.BLOCKING

    async def enter(self) -> SqliteEntry:
        """Return the connection if it has a transaction."""
        connection = self.connection
        try:
            is_open = connection.in_transaction
        except sqlite3.ProgrammingError:
            raise SettingsError("connection= is closed: pass one that is open and in a transaction") from None
        if not is_open:
            raise SettingsError("connection= has no open transaction: execute `begin immediate` first")
        return SqliteEntry(connection=connection, watch=lambda: SqliteWatch(connection))


def door(connection: Any) -> SqliteDoor | None:
    """Return the door into a connection of sqlite3."""
    return SqliteDoor(connection) if isinstance(connection, sqlite3.Connection) else None
