"""Make sure that a borrowed connection is to the database in which the store's tables are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from outbox.postgres.driver import Record
from outbox.postgres.link import PostgresLink
from saga._core.driving import is_driven
from saga.errors import SettingsError, StoreUnavailable

REMEMBERED = 1000


class SameDatabase:
    """Compare where the outbox lies as a connection sees it and as the store does, once for each server process.

    A statement that does not find the table would cost the caller the transaction.
    """

    def __init__(self, sql: str, own: Callable[[], Awaitable[Sequence[Record]]], *, command: str) -> None:
        """Ask borrowed connections with `sql`, the store itself with `own`; `command` makes the store's tables."""
        self._sql = sql
        self._command = command
        self._ask = own
        self._own: tuple[Any, ...] | None = None
        self._known: dict[int, None] = {}

    async def check(self, link: PostgresLink) -> None:
        """Raise SettingsError if the connection is to another database; one round trip when it is not known yet.

        A thread that may not wait for the event loop compares with what the store has found when it came up.
        """
        process = _process_of(link.raw)
        if process in self._known:
            return
        (row,) = await link.fetch(self._sql, ())
        if row["outbox"] is None:
            raise SettingsError(
                f"database {row['name']!r} of connection= has no table saga_outbox on its search path: run "
                f"`{self._command}`, or pass a connection to the store's database (tables in a schema: ?schema=…)"
            )
        found = _place(row)
        if not is_driven() and found != self._own:
            await self.look()
        if self._own is not None and found != self._own:
            raise SettingsError(
                f"connection= is to another database ({row['name']!r}) than the store, which would not publish from "
                "there: pass a connection to the store's own, or another store="
            )
        self._known[process] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def look(self) -> None:
        """Find out where the store's own outbox lies; does nothing while it cannot be reached."""
        try:
            (row,) = await self._ask()
        except StoreUnavailable:
            return
        self._own = _place(row)


def _place(row: Record) -> tuple[Any, ...]:
    return (row["server"], row["database"], row["outbox"])


def _process_of(raw: Any) -> int:
    pid: int = raw.pgconn.backend_pid if hasattr(raw, "pgconn") else raw.get_server_pid()
    return pid
