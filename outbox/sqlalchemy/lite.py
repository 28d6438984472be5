"""Lend handlers a session on a transaction of SQLite's: its statements run on the loop's thread, as the store's do."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Engine, ExceptionContext, NullPool, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from outbox.sqlalchemy.session import HandlerTurn, chain
from outbox.sqlite.driver import Connection, translated
from outbox.sqlite.unit import SqliteDatabase
from outbox.statements import may_have_written
from saga.errors import StoreError

NOTED = "saga_noted"
_NAME = "sqlite.saga"

_lent: ContextVar[Connection] = ContextVar("saga_lent_sqlite")


class LentCursor(sqlite3.Cursor):
    """Be a cursor that a result which is awaited can be read from."""

    async def _async_soft_close(self) -> None:
        """Hold nothing on a server."""


class LentContext(SQLiteExecutionContext):
    """Run one statement on such a cursor."""

    def create_default_cursor(self) -> Any:
        """Return a new one."""
        return self._dbapi_connection.cursor(LentCursor)


class LentDialect(SQLiteDialect_pysqlite):
    """Work on a connection whose transaction the store begins and ends."""

    execution_ctx_cls = LentContext
    supports_statement_cache = True

    def _leave_alone(self, *_: object, **__: object) -> None:
        pass

    do_begin = do_commit = do_rollback = do_close = do_terminate = _leave_alone
    set_isolation_level = reset_isolation_level = on_connect = _leave_alone  # type: ignore[assignment]

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        """Return that nobody here begins or ends a transaction."""
        del dbapi_connection
        return "AUTOCOMMIT"

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        """Return the same."""
        return self.get_isolation_level(dbapi_conn)


@dataclass(slots=True, eq=False)
class _Noted:
    database: SqliteDatabase
    error: BaseException | None = None


@cache
def _engines() -> tuple[Engine, AsyncEngine]:
    """Return the engine of all sessions, so that each statement is compiled once, and how it is awaited."""
    registry.register(_NAME, __name__, LentDialect.__name__)
    engine = create_engine("sqlite+saga://", creator=_lent.get, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    event.listen(engine, "after_cursor_execute", _count)
    event.listen(engine, "handle_error", _note)
    engine.dialect.is_async = True  # asked for when an AsyncEngine is made; what never waits can be awaited, too
    awaited = AsyncEngine(engine)
    engine.dialect.is_async = False
    return engine, awaited


@contextmanager
def _lending(connection: Connection) -> Generator[None]:
    token = _lent.set(connection)
    try:
        yield
    finally:
        _lent.reset(token)


def _count(connection: Any, cursor: Any, statement: str, _parameters: object, _context: object, _many: object) -> None:
    noted = connection.get_execution_options().get(NOTED)
    if noted is not None and not statement.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO")):
        noted.database.writes += may_have_written(statement, abs(cursor.rowcount))


def _note(context: ExceptionContext) -> None:
    noted = None if context.connection is None else context.connection.get_execution_options().get(NOTED)
    if noted is not None:
        noted.error = context.original_exception


class LiteTurn(HandlerTurn):
    """Be one handler's session on a transaction of SQLite's."""

    def __init__(self, connection: Connection, database: SqliteDatabase) -> None:
        """Begin a session on `connection`; what it writes is counted in `database`."""
        engine, awaited = _engines()
        with _lending(connection):
            self._connection = engine.connect()
        self._noted = _Noted(database)
        self._connection.execution_options(**{NOTED: self._noted})
        super().__init__(AsyncConnection(awaited, self._connection))

    async def close(self) -> None:
        """Forget all objects and end the session; what was not written is dropped, the transaction goes on."""
        await super().close()
        self._connection.close()

    def meant(self, error: BaseException) -> StoreError | None:
        """Return what the driver has met in this session, None if nothing: an error may come from elsewhere too."""
        for each in chain(self._noted.error):
            found = translated(each) if isinstance(each, sqlite3.Error) else None
            if found is not None:
                found.__cause__ = error
                return found
        return None
