"""Own the connections to PostgreSQL; the only file that knows asyncpg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard, cast

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy

from outbox.postgres.settings import PostgresSettings, shown
from outbox.postgres.states import ENDED_INSIDE, Reported, is_lost, meaning
from outbox.postgres.states import Origin as Origin
from outbox.postgres.transaction import Lent, Transaction
from saga.errors import CommitUnknown, Contended, SettingsError, StoreError, StoreUnavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Record: TypeAlias = Mapping[str, Any]

COMMIT_SECONDS = 10.0
FAREWELL_SECONDS = 2.0
MARGIN_SECONDS = 10.0
UNWIND_SECONDS = 5.0

_REFUSED = ("28", "3D000")  # authorization, no such database
_STARTUP = ("08P01", "42704", "22023")  # a pgbouncer's and the server's own word for an unknown or bad setting


def translated(error: BaseException, origin: Origin, connection: Connection) -> StoreError | None:
    """Return what an error of the driver means to the runtime, None if it is nobody's business but the caller's."""
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return Contended(str(error))
    if isinstance(error, asyncpg.PostgresError):
        told = Reported(
            state=str(error.sqlstate or ""),
            text=str(error),
            table=str(error.table_name or ""),
            detail=str(error.detail or ""),
        )
        return meaning(told, origin)
    broken = isinstance(error, asyncpg.InternalClientError)
    if broken or (isinstance(error, asyncpg.InterfaceError) and connection.is_closed()):
        return StoreUnavailable(str(error))
    return None


@dataclass(slots=True, eq=False)
class Link:
    """Be one connection in use; `suspect` once it must not be used by anybody else any more.

    Raises Contended, Conflict, StoreUnavailable, StoreError; a user's own errors as the driver's.
    """

    raw: Connection
    suspect: bool = False
    timeout_seconds: float | None = None  # None is the connection's own
    turn: anyio.Semaphore | None = None  # of the pool that has lent it

    async def simple(self, sql: str, origin: Origin = Origin.OURS) -> str:
        """Run statements without parameters in one round trip and return the last one's tag."""
        return await self.execute(sql, (), origin)

    async def execute(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> str:
        """Run one statement and return its tag."""
        try:
            return await self.raw.execute(sql, *args, timeout=self.timeout_seconds)
        except BaseException as error:
            self.judge(error, origin)
            raise

    async def fetch(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> list[Record]:
        """Run one prepared statement and return its rows."""
        try:
            return cast("list[Record]", await self.raw.fetch(sql, *args, timeout=self.timeout_seconds))
        except BaseException as error:
            self.judge(error, origin)
            raise

    async def unwind(self, sql: str) -> None:
        """Run statements that bring a transaction back after an error, shielded for a bounded time."""
        with anyio.move_on_after(UNWIND_SECONDS, shield=True):
            await self.simple(sql)

    def judge(self, error: BaseException, origin: Origin) -> None:
        """Raise what the error of a statement means, if it means something."""
        if isinstance(error, OSError):  # TimeoutError is one
            self.suspect = True
            raise StoreUnavailable(str(error) or "no answer from the database within the timeout") from error
        if not isinstance(error, Exception):
            self.suspect = True  # cancelled: nobody knows what the server is doing
            return
        if isinstance(error, asyncpg.InternalClientError):
            # The server has said goodbye outside of any statement, and the connection is not closed yet.
            self.suspect = True
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
        with anyio.CancelScope(shield=True):
            if await self._commit() != "COMMIT":
                raise StoreError("a failed statement was swallowed: the database rolled back instead of committing")

    async def roll_back(self, error: BaseException) -> None:
        """Undo a transaction that an error has left, and raise what that means, if it means something."""
        if not isinstance(error, Exception):
            self.suspect = True
            return
        if not self.suspect and self.in_transaction:
            await self.simple("ROLLBACK")
        # An error of a user's statement on the raw connection has not been judged yet.
        meant = translated(error, Origin.USER, self.raw)
        if meant is not None:
            raise meant from error

    async def _commit(self) -> str:
        try:
            return await self.raw.execute("COMMIT", timeout=COMMIT_SECONDS)
        except asyncpg.PostgresError as error:
            if is_lost(str(error.sqlstate or "")) or self.raw.is_closed():
                self.suspect = True
                raise CommitUnknown(str(error)) from error
            self.judge(error, Origin.USER)
            raise  # a deferred constraint of the user's
        except Exception as error:
            self.suspect = True
            raise CommitUnknown(str(error) or f"no answer to COMMIT within {COMMIT_SECONDS:g} s") from error
        except BaseException:
            self.suspect = True
            raise


def refused(error: asyncpg.PostgresError, where: str) -> SettingsError | StoreUnavailable:
    """Return what a refused connection means: a setting where waiting will not mend it."""
    state = str(error.sqlstate or "")
    if state in _STARTUP:
        return SettingsError(
            f"{where} refuses a setting of the connection: {error}; with a pgbouncer in between write "
            "postgresql://…?pgbouncer=transaction"
        )
    if state.startswith(_REFUSED):
        return SettingsError(f"{where} refuses: {error}")
    return StoreUnavailable(f"{where}: {error}")


def is_ours(connection: Any) -> TypeGuard[Connection]:
    """Return whether a connection is the driver's, or one lent by the driver's own pool."""
    return isinstance(connection, asyncpg.Connection | PoolConnectionProxy)


def adopted(raw: Connection) -> Link:
    """Return a link to the caller's own connection; raises SettingsError if it will not do."""
    try:
        is_open = not raw.is_closed() and raw.is_in_transaction()
    except asyncpg.InterfaceError:
        raise SettingsError("connection= has gone back to its pool: use it inside `pool.acquire()`") from None
    if not is_open:
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
    local: str = ""
    _idle: list[Connection] = field(default_factory=list["Connection"], repr=False)
    _free: anyio.Semaphore | None = field(default=None, repr=False)

    async def open(self) -> None:
        """Connect once; raises SettingsError for what waiting will not mend, StoreUnavailable."""
        try:
            self._idle.append(await self._connect())
        except asyncpg.PostgresError as error:
            raise refused(error, shown(self.url)) from error
        self._free = anyio.Semaphore(self.settings.pool_size, fast_acquire=True)

    async def close(self) -> None:
        """Close what is idle; what is still in use is closed when it comes back."""
        self._free = None
        idle, self._idle = self._idle, []
        for connection in idle:
            await farewell(connection)

    def link(self) -> Lent:
        """Lend a connection for a context; it comes back only if it is clean, else it is closed."""
        return Lent(self)

    def transaction(self, begin: str) -> Transaction:
        """Run a transaction that `begin` opens: committed at the end, rolled back on an exception."""
        return Transaction(self, begin)

    async def lend(self) -> Link:
        """Lend a connection, for which `take_back` must be called; raises StoreUnavailable."""
        free = self._free
        if free is None:
            raise StoreUnavailable("the store is not open: use it inside `async with store:`")
        try:
            free.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait(free)
        try:
            return Link(await self._connection(), turn=free)
        except BaseException:
            free.release()
            raise

    async def take_back(self, link: Link) -> None:
        """Keep a connection for the next one if it is clean, else close it."""
        try:
            if self._free is None or link.suspect or link.raw.is_closed() or link.raw.is_in_transaction():
                await farewell(link.raw)
            else:
                self._idle.append(link.raw)
        finally:
            if link.turn is not None:
                link.turn.release()

    async def _wait(self, free: anyio.Semaphore) -> None:
        try:
            with anyio.fail_after(self.settings.acquire_timeout_seconds):
                await free.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                f"all {self.settings.pool_size} connections were in use for "
                f"{self.settings.acquire_timeout_seconds:g} s: raise pool_size"
            ) from None

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
                statement_cache_size=settings.cached_statements,
                server_settings={"application_name": "saga", **({} if self.local else settings.server)},
            )
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(f"{shown(self.url)} cannot be used: {error}") from error
        except (OSError, asyncpg.InterfaceError) as error:
            raise StoreUnavailable(
                f"{shown(self.url)} cannot be reached: {str(error) or type(error).__name__}"
            ) from error


async def farewell(connection: Connection) -> None:
    """Close a connection that is not to be used again, within a bounded time."""
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
