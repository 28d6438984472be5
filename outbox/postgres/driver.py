"""Own the connections to PostgreSQL; the only file that knows asyncpg."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, cast

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy

from outbox.postgres.settings import PostgresSettings, shown
from saga.errors import CommitUnknown, Conflict, Contended, SettingsError, StoreError, StoreUnavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Record: TypeAlias = Mapping[str, Any]

COMMIT_SECONDS = 10.0
FAREWELL_SECONDS = 2.0
MARGIN_SECONDS = 10.0
ENDED_INSIDE = "the transaction was ended inside its unit of work: a handler must not commit or roll back"

_CONTENDED = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock timeout
_AWAY = ("08", "53", "57P", "58", "25006")  # connection, resources, shutdown, system error, read-only standby
_LOST = ("08", "57P")
_CANCELED = "57014"
_DUPLICATE = "23505"
_ABORTED = "25P02"
_OURS = ("saga_run", "saga_instance", "saga_cursor", "saga_delivery")


class Origin(StrEnum):
    """Say whose statement failed: a user's own error reaches the user as the driver's."""

    OURS = "ours"
    USER = "user"


def translated(error: BaseException, origin: Origin, connection: Connection) -> StoreError | None:
    """Return what an error of the driver means to the runtime, None if it is nobody's business but the caller's."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(error.sqlstate or "")
        stale = isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError)
        if state in _CONTENDED or stale:
            return Contended(str(error))
        if state.startswith(_AWAY):
            return StoreUnavailable(str(error))
        return _translated_ours(error, state) if origin is Origin.OURS else None
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError) and connection.is_closed():
        return StoreUnavailable(str(error))
    return None


def _translated_ours(error: asyncpg.PostgresError, state: str) -> StoreError | None:
    if state == _CANCELED:
        # Statements of ours are short: only a wait for a lock reaches the statement timeout.
        return Contended(str(error))
    if state == _DUPLICATE and error.table_name in _OURS:
        return Conflict(error.detail or str(error))
    if state == _ABORTED:
        return StoreError(
            "a statement of the handler failed and the handler went on: PostgreSQL has aborted the transaction; "
            "let the error out of the handler, or write `on conflict do nothing`"
        )
    return None


@dataclass(slots=True, eq=False)
class Link:
    """Be one connection in use; `suspect` once it must not be used by anybody else any more.

    Raises Contended, Conflict, StoreUnavailable, StoreError; a user's own errors as the driver's.
    """

    raw: Connection
    suspect: bool = False

    async def simple(self, sql: str, origin: Origin = Origin.OURS) -> str:
        """Run statements without parameters in one round trip and return the last one's tag."""
        return await self.execute(sql, (), origin)

    async def execute(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> str:
        """Run one statement and return its tag."""
        try:
            return await self.raw.execute(sql, *args)
        except BaseException as error:
            self.judge(error, origin)
            raise

    async def fetch(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> list[Record]:
        """Run one prepared statement and return its rows."""
        try:
            return cast("list[Record]", await self.raw.fetch(sql, *args))
        except BaseException as error:
            self.judge(error, origin)
            raise

    def judge(self, error: BaseException, origin: Origin) -> None:
        """Raise what the error of a statement means, if it means something."""
        if isinstance(error, OSError):  # TimeoutError is one
            self.suspect = True
            raise StoreUnavailable(str(error) or "no answer from the database within the timeout") from error
        if not isinstance(error, Exception):
            self.suspect = True  # cancelled: nobody knows what the server is doing
            return
        meant = translated(error, origin, self.raw)
        if meant is not None:
            raise meant from error

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return not self.raw.is_closed() and self.raw.is_in_transaction()

    def check_open(self) -> None:
        """Raise StoreUnavailable or StoreError unless a transaction is open."""
        if self.raw.is_closed():
            raise StoreUnavailable("the database closed the connection before COMMIT")
        if not self.raw.is_in_transaction():
            raise StoreError(ENDED_INSIDE)

    async def commit(self) -> None:
        """Commit, shielded from cancellation for a bounded time: whoever committed should know it.

        Raises CommitUnknown when no answer came, StoreError when there is nothing to commit.
        """
        self.check_open()
        with anyio.move_on_after(COMMIT_SECONDS, shield=True):
            tag = await self._commit()
            if tag != "COMMIT":
                raise StoreError("a failed statement was swallowed: the database rolled back instead of committing")
            return
        raise CommitUnknown(f"no answer to COMMIT within {COMMIT_SECONDS:g} s")

    async def _commit(self) -> str:
        try:
            return await self.raw.execute("COMMIT")
        except asyncpg.PostgresError as error:
            if str(error.sqlstate or "").startswith(_LOST) or self.raw.is_closed():
                self.suspect = True
                raise CommitUnknown(str(error)) from error
            self.judge(error, Origin.USER)
            raise  # a deferred constraint of the user's
        except Exception as error:
            self.suspect = True
            raise CommitUnknown(str(error) or "no answer to COMMIT") from error
        except BaseException:
            self.suspect = True
            raise


def adopted(connection: Any) -> Link:
    """Return a link to the caller's own connection; raises SettingsError if it will not do."""
    if not isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise SettingsError(f"connection= is a {kind}; a PostgreSQL store takes an asyncpg connection")
    raw = cast("Connection", connection)
    if raw.is_closed() or not raw.is_in_transaction():
        raise SettingsError("connection= has no open transaction: write `async with connection.transaction():` around")
    return Link(raw)


@dataclass(slots=True, eq=False)
class Pool:
    """Keep a bounded number of connections; the last one returned is the next one used.

    asyncpg's own pool resets a connection on release: a round trip and a transaction for nothing, since
    what is unclean is never returned here.
    """

    url: str = field(repr=False)
    settings: PostgresSettings
    _idle: list[Connection] = field(default_factory=list["Connection"], repr=False)
    _free: anyio.Semaphore | None = field(default=None, repr=False)

    async def open(self) -> None:
        """Connect once; raises SettingsError for what waiting will not mend, StoreUnavailable."""
        try:
            self._idle.append(await self._connect())
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise SettingsError(f"{shown(self.url)} refuses: {error}") from error
        except asyncpg.PostgresError as error:
            raise StoreUnavailable(f"{shown(self.url)}: {error}") from error
        self._free = anyio.Semaphore(self.settings.pool_size, fast_acquire=True)

    async def close(self) -> None:
        """Close what is idle; what is still in use is closed when it comes back."""
        self._free = None
        idle, self._idle = self._idle, []
        for connection in idle:
            await _farewell(connection)

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Link]:
        """Lend a connection; it comes back only if it is clean, else it is closed."""
        free = self._free
        if free is None:
            raise StoreUnavailable("the store is not open: use it inside `async with store:`")
        try:
            with anyio.fail_after(self.settings.acquire_timeout_seconds):
                await free.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"all {self.settings.pool_size} connections were in use for "
                f"{self.settings.acquire_timeout_seconds:g} s: raise pool_size"
            ) from None
        try:
            link = Link(await self._connection())
            try:
                yield link
            finally:
                await self._put_back(link)
        finally:
            free.release()

    @asynccontextmanager
    async def transaction(self, begin: str) -> AsyncGenerator[Link]:
        """Run a transaction that `begin` opens: committed at the end, rolled back on an exception."""
        async with self.link() as link:
            try:
                await link.simple(begin)
                yield link
            except Exception as error:
                if not link.suspect and link.in_transaction:
                    await link.simple("ROLLBACK")
                # An error of a user's statement on the raw connection has not been judged yet.
                meant = translated(error, Origin.USER, link.raw)
                if meant is not None:
                    raise meant from error
                raise
            except BaseException:
                link.suspect = True
                raise
            await link.commit()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await self._connect()
        except asyncpg.PostgresError as error:
            raise StoreUnavailable(f"{shown(self.url)}: {error}") from error

    async def _connect(self) -> Connection:
        settings = self.settings
        try:
            return await asyncpg.connect(
                self.url,
                timeout=settings.connect_timeout_seconds,
                command_timeout=settings.statement_timeout_seconds + MARGIN_SECONDS,
                server_settings={
                    "application_name": "saga",
                    "statement_timeout": f"{settings.statement_timeout_seconds * 1000:.0f}",
                    "idle_in_transaction_session_timeout": f"{settings.idle_in_transaction_seconds * 1000:.0f}",
                },
            )
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(f"{shown(self.url)} cannot be used: {error}") from error
        except (OSError, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(
                f"{shown(self.url)} cannot be reached: {str(error) or type(error).__name__}"
            ) from error

    async def _put_back(self, link: Link) -> None:
        if self._free is None or link.suspect or link.raw.is_closed() or link.raw.is_in_transaction():
            await _farewell(link.raw)
        else:
            self._idle.append(link.raw)


async def _farewell(connection: Connection) -> None:
    # Closing, unlike `terminate`, lets a cancel request for a statement under way reach the server first;
    # else it would wait for its lock until the statement timeout, and keep those it has.
    try:
        with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
            await connection.close(timeout=FAREWELL_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass  # it is gone, which is what was wanted
    finally:
        if not connection.is_closed():
            connection.terminate()
