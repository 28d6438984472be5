"""Join a connection of psycopg 3, awaited or blocking; the only file that knows psycopg."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

import anyio
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from outbox.joining.door import Manner, PostgresEntry
from outbox.postgres.states import ENDED_INSIDE, Origin, Reported, is_lost, meaning
from saga.errors import SettingsError, StoreError, StoreUnavailable

UNWIND_SECONDS = 5.0

Told: TypeAlias = tuple[str, list[dict[str, Any]]]
"""A statement's tag and its rows."""

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR, TransactionStatus.ACTIVE)


@dataclass(frozen=True, slots=True, eq=False)
class PsycopgWatch:
    """Watch the driver's own state, without a query; see `saga.ports.Watch`.

    It cannot tell one transaction from the next, so the doubts begin early.
    """

    connection: Any
    doubt_seconds: float = 0.005

    def is_over(self) -> bool:
        """Return whether the transaction has ended."""
        return self.connection.pgconn.transaction_status not in _OPEN

    def drop(self) -> None:
        """Do nothing: nothing was set up."""


class PsycopgLink:
    """Be one connection in use; see `PostgresLink`. Its statements go through raw cursors, which take `$1`."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return not self.raw.closed and self.raw.info.transaction_status in _OPEN

    def check_open(self) -> None:
        """Raise StoreUnavailable or StoreError unless a transaction is open."""
        if self.raw.closed:
            raise StoreUnavailable("the database closed the connection before COMMIT")
        if not self.in_transaction:
            raise StoreError(ENDED_INSIDE)

    async def execute(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> str:
        """Run one statement, or without arguments several, and return the last one's tag."""
        try:
            return (await self._run(sql, _values(args)))[0]
        except (psycopg.Error, OSError) as error:
            self._judge(error, origin)
            raise

    async def fetch(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows, times in UTC."""
        try:
            return [_in_utc(row) for row in (await self._run(sql, _values(args)))[1]]
        except (psycopg.Error, OSError) as error:
            self._judge(error, origin)
            raise

    @abstractmethod
    async def unwind(self, sql: str) -> None:
        """Run statements that bring a transaction back after an error."""

    @abstractmethod
    async def _run(self, sql: str, args: list[object] | None) -> Told:
        """Run a statement and return its tag and its rows."""

    def _judge(self, error: psycopg.Error | OSError, origin: Origin) -> None:
        if isinstance(error, OSError):
            raise StoreUnavailable(str(error)) from error
        told = Reported(
            state=error.sqlstate or "",
            text=str(error),
            table=error.diag.table_name or "",
            detail=error.diag.message_detail or "",
        )
        meant = meaning(told, origin)
        if meant is None and (is_lost(told.state) or self.raw.closed):
            meant = StoreUnavailable(told.text)
        if meant is not None:
            raise meant from error


class AwaitedLink(PsycopgLink):
    """Be an `AsyncConnection` in use."""

    async def unwind(self, sql: str) -> None:
        """Run statements that bring a transaction back after an error, shielded for a bounded time."""
        with anyio.move_on_after(UNWIND_SECONDS, shield=True):
            await self.execute(sql, ())

    async def _run(self, sql: str, args: list[object] | None) -> Told:
        """Run a statement out of reach of a cancellation, which the server is told of instead.

        The driver closes a connection on which it is cancelled more than once.
        """
        told: list[Told | Exception] = []
        done = anyio.Event()
        inside = anyio.CancelScope(shield=True)

        async def run() -> None:
            with inside:
                try:
                    told.append(await self._query(sql, args))
                except (psycopg.Error, OSError) as error:
                    told.append(error)
                finally:
                    done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            try:
                await done.wait()
            except BaseException:
                inside.deadline = anyio.current_time() + UNWIND_SECONDS
                with anyio.CancelScope(shield=True), suppress(psycopg.Error):
                    await self.raw.cancel_safe(timeout=UNWIND_SECONDS)
                raise
        (result,) = told
        if isinstance(result, Exception):
            raise result
        return result

    async def _query(self, sql: str, args: list[object] | None) -> Told:
        async with psycopg.AsyncRawCursor(self.raw, row_factory=dict_row) as cursor:
            await cursor.execute(sql.encode(), args)
            rows = await cursor.fetchall() if cursor.description is not None else []
            return cursor.statusmessage or "", rows


class BlockingLink(PsycopgLink):
    """Be a `Connection` in use: its coroutines never suspend."""

    async def unwind(self, sql: str) -> None:
        """Run statements that bring a transaction back after an error."""
        await self.execute(sql, ())

    async def _run(self, sql: str, args: list[object] | None) -> Told:
        with psycopg.RawCursor(self.raw, row_factory=dict_row) as cursor:
            cursor.execute(sql.encode(), args)
            rows = cursor.fetchall() if cursor.description is not None else []
            return cursor.statusmessage or "", rows


@dataclass(frozen=True, slots=True, eq=False)
class PsycopgDoor:
    """Lead into a connection of psycopg; see `Door`."""

    link: PsycopgLink
    manner: Manner

    async def enter(self) -> PostgresEntry:
        """Return the connection if it has a transaction."""
        raw = self.link.raw
        if raw.closed:
            raise SettingsError("connection= is closed: pass one that is open and in a transaction")
        match raw.info.transaction_status:
            case TransactionStatus.INTRANS:
                return PostgresEntry(link=self.link, watch=lambda: PsycopgWatch(raw))
            case TransactionStatus.INERROR:
                raise SettingsError(
                    "connection= is in a transaction that has failed: roll it back, or to a savepoint, and begin again"
                )
            case TransactionStatus.ACTIVE:
                raise SettingsError("connection= is running another statement: one task or thread at a time")
            case _:
                raise SettingsError(
                    "connection= has no open transaction: write `[async] with connection.transaction():` around"
                )


def door(connection: Any) -> PsycopgDoor | None:
    """Return the door into a connection of psycopg 3."""
    if isinstance(connection, psycopg.AsyncConnection):
        return PsycopgDoor(AwaitedLink(cast("Any", connection)), Manner.AWAITED)
    if isinstance(connection, psycopg.Connection):
        return PsycopgDoor(BlockingLink(cast("Any", connection)), Manner.BLOCKING)
    return None


def _values(args: Sequence[object]) -> list[object] | None:
    # The driver writes a tuple as a row and a list as an array; without any argument it takes several statements.
    return [list(cast("Sequence[object]", arg)) if isinstance(arg, tuple) else arg for arg in args] or None


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    # The driver gives times in the zone of the session.
    return {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}
