"""Join a connection of asyncpg, one of a pool included."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import asyncpg

from outbox.joining.door import Manner, PostgresEntry
from outbox.postgres.driver import Connection, adopted, is_ours

_ENDS = re.compile(r"\s*(?:commit|end|rollback|abort)\b(?!.*\bto\b)", re.IGNORECASE)  # not to a savepoint


class AsyncpgWatch:
    """Watch for the end of the transaction that a connection has open now; see `saga.ports.Watch`.

    The driver tells of every statement. Its own state alone would not do: a connection may be in its next
    transaction before anybody looks.
    """

    doubt_seconds = 0.05
    _open: dict[int, AsyncpgWatch] = {}  # noqa: RUF012 - shared on purpose: one watch per transaction

    def __init__(self, connection: Connection, below: Connection) -> None:
        self._connection = connection
        self._below = below
        self._over = False
        self._users = 0
        below.add_query_logger(self._note)

    @classmethod
    def of(cls, connection: Connection) -> AsyncpgWatch:
        """Return the watch of the connection's open transaction."""
        # What a pool lends forgets its connection when it is given back; a logger would stay there for ever.
        below: Connection = getattr(connection, "_con", None) or connection
        watch = cls._open.get(id(below))
        if watch is None or watch.is_over():
            watch = cls._open[id(below)] = cls(connection, below)
        watch._users += 1
        return watch

    def _note(self, record: Any) -> None:
        if _ENDS.match(record.query):
            self._over = True
            self._stop()

    def is_over(self) -> bool:
        """Return whether the transaction has ended."""
        if not self._over:
            try:
                self._over = self._connection.is_closed() or not self._connection.is_in_transaction()
            except asyncpg.InterfaceError:
                self._over = True  # given back to its pool
        return self._over

    def drop(self) -> None:
        """Stop watching; called once by everybody who has asked for the watch."""
        self._users -= 1
        if not self._users:
            self._stop()
            if self._open.get(id(self._below)) is self:
                del self._open[id(self._below)]

    def _stop(self) -> None:
        self._below.remove_query_logger(self._note)


@dataclass(frozen=True, slots=True, eq=False)
class AsyncpgDoor:
    """Lead into a connection of asyncpg; see `Door`."""

    connection: Connection

    @property
    def manner(self) -> Manner:
        """Return that calls are awaited."""
        return Manner.AWAITED

    async def enter(self) -> PostgresEntry:
        """Return the connection if it has a transaction."""
        link = adopted(self.connection)
        return PostgresEntry(link=link, watch=lambda: AsyncpgWatch.of(link.raw))


def door(connection: Any) -> AsyncpgDoor | None:
    """Return the door into a connection of asyncpg."""
    return AsyncpgDoor(connection) if is_ours(connection) else None
