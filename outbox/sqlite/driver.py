"""Own the connections to SQLite; the only file that knows sqlite3.

All stores of one process that open the same file share one connection for writing and one for reading.
Statements run on the event loop's thread: they take microseconds, a hop to a worker thread takes more.
Only COMMIT, which waits for the disk, hops.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import anyio
from anyio.to_thread import run_sync

from saga.errors import CommitUnknown, Conflict, Contended, SettingsError, StoreError, StoreUnavailable

Connection: TypeAlias = sqlite3.Connection
DriverError = sqlite3.Error
Record: TypeAlias = Mapping[str, Any]

MEMORY = ":memory:"
ENDED_INSIDE = "the transaction was ended inside its unit of work: a handler must not commit or roll back"
PAUSE_FIRST_SECONDS = 0.001
PAUSE_CAP_SECONDS = 0.1

_OLDEST = (3, 35, 0)  # the first that knows `returning`
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_AWAY = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
    }
)
_DUPLICATE = frozenset({sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Be what one statement came to: its rows, how many it touched, and whether any row changed."""

    rows: list[Record]
    touched: int
    changed: int
    last_id: int


def translated(error: sqlite3.Error) -> StoreError | None:
    """Return what an error of the driver means to the runtime, None if it is nobody's business but the caller's."""
    code = _primary(error)
    if code in _BUSY:
        return Contended(str(error))
    if code in _AWAY:
        return StoreUnavailable(str(error))
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return StoreUnavailable("the store is not open: use it inside `async with store:`")
    return None


def is_duplicate(error: sqlite3.Error) -> bool:
    """Return whether a key exists already."""
    return getattr(error, "sqlite_errorcode", 0) in _DUPLICATE


def _primary(error: sqlite3.Error) -> int:
    return cast("int", getattr(error, "sqlite_errorcode", 0)) & 0xFF


def run(connection: Connection, sql: str, args: Sequence[object] = ()) -> Outcome:
    """Run one statement; raises Contended, StoreUnavailable, or the driver's own error."""
    before = connection.total_changes
    try:
        cursor = connection.cursor()
        cursor.row_factory = sqlite3.Row
        cursor.execute(sql, cast("Any", args))
        rows = cast("list[Record]", cursor.fetchall())
    except sqlite3.Error as error:
        meant = translated(error)
        if meant is not None:
            raise meant from error
        raise
    changed = connection.total_changes - before
    touched = cursor.rowcount if cursor.rowcount >= 0 else changed
    return Outcome(rows=rows, touched=touched, changed=changed, last_id=cursor.lastrowid or 0)


def run_keyed(connection: Connection, sql: str, args: Sequence[object]) -> None:
    """Insert a row; raises Conflict when its key exists already."""
    try:
        run(connection, sql, args)
    except sqlite3.IntegrityError as error:
        if is_duplicate(error):
            raise Conflict(str(error)) from error
        raise


def path_of(connection: Connection) -> str:
    """Return the file a connection is to, "" for a database in memory."""
    rows = run(connection, "PRAGMA database_list").rows
    return next((str(row["file"] or "") for row in rows if row["name"] == "main"), "")


class _Commit:
    """Be one COMMIT on a worker thread that its owner may call off until it has begun."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._off = False
        self.done = False

    def run(self) -> None:
        with self._turn:
            if not self._off:
                self._connection.execute("COMMIT")
                self.done = True

    def call_off(self) -> None:
        """Wait for a COMMIT under way to end, and make sure that none begins any more."""
        with self._turn:
            self._off = True


class Database:
    """Be one open database file of this process, shared by all stores on it."""

    def __init__(self, path: str, busy_seconds: float) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._lock = anyio.Lock(fast_acquire=True)
        self._commits = anyio.CapacityLimiter(1)
        self._writer = self._connect()
        # Readers of a file see the last commit and wait for nobody; a database in memory has one connection.
        self._reader = self._writer if self.in_memory else self._connect()
        self._is_set_up = False
        self.users = 0

    @property
    def in_memory(self) -> bool:
        """Return whether there is no file."""
        return self._path == MEMORY

    def _connect(self) -> Connection:
        try:
            # The worker thread for COMMIT uses the connection too, never at the same time as the loop's.
            connection = sqlite3.connect(
                self._path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512
            )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path} cannot be opened: {error}") from error
        return connection

    async def set_up(self) -> None:
        """Bring both connections into the mode that survives `kill -9` and power cuts, once."""
        if self._is_set_up:
            return  # whoever joins may meet a transaction, and inside of one nothing of this can be set
        async with self._locked():
            for connection in dict.fromkeys((self._writer, self._reader)):
                await self._patiently(connection, "PRAGMA journal_mode = WAL")
                run(connection, "PRAGMA synchronous = FULL")
                run(connection, "PRAGMA foreign_keys = ON")
            self._is_set_up = True

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """Run a transaction under the one write lock: committed at the end, rolled back on an exception.

        Raises Contended when the lock is not to be had within the bound, StoreUnavailable, CommitUnknown.
        """
        async with self._locked():
            await self._patiently(self._writer, "BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._check_open()
            except BaseException as error:
                self._roll_back()
                meant = translated(error) if isinstance(error, sqlite3.Error) else None
                if meant is not None:
                    raise meant from error
                raise
            await self._commit()

    async def read(self, sql: str, args: Sequence[object] = ()) -> list[Record]:
        """Run one query on what is committed."""
        if not self.in_memory:
            return (await self._patiently(self._reader, sql, args)).rows
        async with self._locked():
            return run(self._reader, sql, args).rows

    @asynccontextmanager
    async def _locked(self) -> AsyncGenerator[None]:
        try:
            with anyio.fail_after(self._busy_seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise Contended(
                f"another transaction of this process held the database for {self._busy_seconds:g} s"
            ) from None
        except RuntimeError:
            raise RuntimeError(
                "this task has a transaction open already and SQLite has one at a time: "
                "use run.db, or start the saga with connection=run.connection"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    async def _patiently(self, connection: Connection, sql: str, args: Sequence[object] = ()) -> Outcome:
        """Run a statement that another process may keep waiting, without blocking the event loop."""
        deadline = anyio.current_time() + self._busy_seconds
        pause = PAUSE_FIRST_SECONDS
        while True:
            try:
                return run(connection, sql, args)
            except Contended:
                if anyio.current_time() >= deadline:
                    raise
            await anyio.sleep(pause)
            pause = min(PAUSE_CAP_SECONDS, pause * 2)

    def _check_open(self) -> None:
        if not self._writer.in_transaction:
            raise StoreError(ENDED_INSIDE)

    async def _commit(self) -> None:
        commit = _Commit(self._writer)
        try:
            if self.in_memory:
                commit.run()
            else:
                await run_sync(commit.run, limiter=self._commits)
        except sqlite3.Error as error:
            self._roll_back()
            if _primary(error) == sqlite3.SQLITE_IOERR:
                raise CommitUnknown(str(error)) from error
            meant = translated(error)
            if meant is not None:
                raise meant from error
            raise  # a deferred constraint of the user's
        except BaseException:
            commit.call_off()
            if not commit.done:
                self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")


_open: dict[tuple[object, int], Database] = {}


def _key(path: str, name: str | None) -> tuple[object, int]:
    # An event loop of its own (a thread) has connections of its own: their locks belong to their loop.
    if path == MEMORY:
        return (f"{MEMORY}{name}" if name else object(), threading.get_ident())
    return (path, threading.get_ident())


@asynccontextmanager
async def opened(path: str, name: str | None, busy_seconds: float) -> AsyncGenerator[Database]:
    """Open a database file, or join those who have it open; the last one out closes it.

    Raises SettingsError for a SQLite that is too old, StoreUnavailable for a file that cannot be opened.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    key = _key(path, name)
    database = _open.get(key)
    if database is None:
        database = _open[key] = Database(path, busy_seconds)
    database.users += 1
    try:
        await database.set_up()
        yield database
    finally:
        database.users -= 1
        if not database.users:
            del _open[key]
            database.close()
