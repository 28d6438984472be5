"""Be what both SQLite stores share: the file, the migrations and the outbox."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Self

import orjson

from outbox.clock import SystemClock
from outbox.codec import to_micros
from outbox.messages import as_outbox
from outbox.sql import Dialect, queries
from outbox.sqlite.driver import Database, opened, run
from outbox.sqlite.measuring import SqliteMeasuring
from outbox.sqlite.schema import SqliteSchema
from saga._core.rows import OutboxRow
from saga.errors import StoreUnavailable
from saga.ports import Clock


def json_list(values: Collection[int]) -> str:
    """Return numbers as SQLite's `json_each` takes them."""
    return orjson.dumps(list(values)).decode()


class SqliteBase(SqliteSchema, SqliteMeasuring):
    """Open the file; an async context manager.

    One process at a time should work on a file: others wait for each other's transactions. A database
    in memory (path `:memory:`) lives as long as a store with its `name` is open, and without a name
    belongs to one store. `busy_seconds` bounds the wait for the one write lock; a claim's own lock
    timeout is ignored here, since there are no row locks to get out of.
    """

    def __init__(
        self, path: str, *, name: str | None = None, clock: Clock | None = None, busy_seconds: float = 30.0
    ) -> None:
        self._path = path
        self._name = name
        self._clock = clock or SystemClock()
        self._busy_seconds = busy_seconds
        self._sql = queries(Dialect.SQLITE)
        self._stack: AsyncExitStack | None = None
        self._opened: Database | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    async def __aenter__(self) -> Self:
        """Open the file; raises SettingsError, StoreUnavailable, Contended."""
        async with AsyncExitStack() as stack:
            self._opened = await stack.enter_async_context(opened(self._path, self._name, self._busy_seconds))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        stack, self._stack, self._opened = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    @property
    def _database(self) -> Database:
        if self._opened is None:
            raise StoreUnavailable("the store is not open: use it inside `async with store:`")
        return self._opened

    def _now(self, later_seconds: float = 0.0) -> int:
        return to_micros(self._clock.now() + timedelta(seconds=later_seconds))

    async def now(self) -> datetime:
        """Read the clock: SQLite has none of its own."""
        return self._clock.now()

    # --- the outbox ------------------------------------------------------------------------------------------

    async def delete(self, seqs: Sequence[int]) -> None:
        """Delete published rows in one statement."""
        if seqs:
            async with self._database.transaction() as connection:
                run(connection, self._sql["delete_outbox"], (json_list(seqs),))

    async def sweep(
        self,
        owner: str,
        *,
        older_than_seconds: float,
        limit: int,
        in_hand: frozenset[int],
        lease_seconds: float,
    ) -> Sequence[OutboxRow]:
        """Take or renew the sweeping lease, if there is something to sweep, and return a page of old rows."""
        page = (self._now(-older_than_seconds), json_list(in_hand), limit)
        if not await self._database.read(self._sql["sweep_page"], (*page[:2], 1)):
            return []  # an idle sweep writes nothing
        async with self._database.transaction() as connection:
            lease = (owner, self._now(lease_seconds), self._now())
            if not run(connection, self._sql["sweep_lease"], lease).touched:
                return []
            return [as_outbox(row) for row in run(connection, self._sql["sweep_page"], page).rows]

    async def committed(self, seqs: Sequence[int]) -> Sequence[OutboxRow]:
        """Return those of the rows that can be seen."""
        rows = await self._database.read(self._sql["committed_outbox"], (json_list(seqs),))
        return [as_outbox(row) for row in rows]

    async def pending(self) -> tuple[int, float]:
        """Return the number of rows and the age of the oldest in seconds."""
        row = (await self._database.read(self._sql["pending_outbox"]))[0]
        oldest = row["oldest"]
        return row["rows"], 0.0 if oldest is None else (self._now() - oldest) / 1e6
