"""Borrow asyncpg connections from an engine of SQLAlchemy's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import asyncpg
from sqlalchemy import ExceptionContext, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from outbox.postgres.driver import FAREWELL_SECONDS, MARGIN_SECONDS, Connection, Link, Pool, farewell, refused
from outbox.postgres.settings import PostgresSettings, shown
from outbox.postgres.unit import PostgresDatabase
from outbox.sqlalchemy.session import chain
from outbox.statements import may_have_written
from saga.errors import SettingsError, StoreUnavailable

NOTED = "saga_noted"

_SAVEPOINTS = ("SAVEPOINT", "RELEASE", "ROLLBACK TO")


def checked_engine(engine: object) -> AsyncEngine:
    """Return an engine a store can work with; raises SettingsError."""
    if not isinstance(engine, AsyncEngine):
        kind = f"{type(engine).__module__}.{type(engine).__qualname__}"
        raise SettingsError(f"store= is a {kind}: make the engine with create_async_engine('postgresql+asyncpg://…')")
    driver = f"{engine.dialect.name}+{engine.dialect.driver}"
    if driver != "postgresql+asyncpg":
        raise SettingsError(
            f"store= is an engine for {driver}: make it with create_async_engine('postgresql+asyncpg://…'); "
            "for SQLite write store='sqlite:///file.db'"
        )
    return engine


@dataclass(slots=True, eq=False)
class Noted:
    """Hold what a session's statements have done to a transaction; `error` is the last the driver has raised."""

    database: PostgresDatabase
    error: BaseException | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class EngineLink(Link):
    """Be an asyncpg connection in use, and what SQLAlchemy knows it by."""

    lent: AsyncConnection


@dataclass(slots=True, eq=False, kw_only=True)
class EnginePool(Pool):
    """Borrow connections; how many there are and how long one is waited for are the engine's own settings.

    SQLAlchemy takes them for connections in autocommit, so that the transaction is begun and ended by nobody but
    the store. They have the user's settings: those of a store are set in each transaction.
    """

    engine: AsyncEngine
    _lending: AsyncEngine | None = field(default=None, repr=False)

    async def open(self) -> None:
        """Borrow a connection once; raises SettingsError for what waiting will not mend, StoreUnavailable."""
        self._lending = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(self._lending.sync_engine, "after_cursor_execute", _count)
        if not event.contains(self.engine.sync_engine, "handle_error", _note):
            event.listen(self.engine.sync_engine, "handle_error", _note)  # it is the dialect's, and so the engine's
        async with self.link():
            pass

    async def close(self) -> None:
        """Borrow nothing any more; the engine stays its owner's."""
        self._lending = None

    async def lend(self) -> EngineLink:
        """Lend a connection, for which `take_back` must be called; raises StoreUnavailable."""
        if self._lending is None:
            raise StoreUnavailable("the store is not open: use it inside `async with store:`")
        where = shown(self.url)
        seconds = self.settings.acquire_timeout_seconds + self.settings.connect_timeout_seconds
        try:
            with anyio.fail_after(seconds):
                lent = await self._lending.connect()
                raw = cast("Connection", (await lent.get_raw_connection()).driver_connection)
        except PoolTimeout as error:
            raise StoreUnavailable(f"no connection of the engine is free: raise its pool_size ({error})") from error
        except TimeoutError as error:
            raise StoreUnavailable(f"{where} gave no connection within {seconds:g} s") from error
        except (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            told = next((each for each in chain(error) if isinstance(each, asyncpg.PostgresError)), None)
            if told is not None:
                raise refused(told, where) from error
            raise StoreUnavailable(f"{where} cannot be reached: {str(error) or type(error).__name__}") from error
        timeout = self.settings.statement_timeout_seconds + MARGIN_SECONDS
        return EngineLink(raw=raw, timeout_seconds=timeout, lent=lent)

    async def take_back(self, link: Link) -> None:
        """Give a connection back to the engine if it is clean, else close it."""
        await _give_back(cast("EngineLink", link))


async def _give_back(link: EngineLink) -> None:
    clean = not link.suspect and not link.raw.is_closed() and not link.raw.is_in_transaction()
    if not clean:
        await farewell(link.raw)
    with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
        if not clean:
            await link.lent.invalidate()
        await link.lent.close()


def _count(connection: Any, cursor: Any, statement: str, _parameters: object, _context: object, _many: object) -> None:
    """Count what a session's statement may have written, as the user's other door does."""
    noted = connection.get_execution_options().get(NOTED)
    if noted is not None and not statement.startswith(_SAVEPOINTS):
        # -1 is a number nobody knows.
        noted.database.writes += may_have_written(statement, abs(cursor.rowcount))


def _note(context: ExceptionContext) -> None:
    """Note the error of a session's statement, and leave a connection to the store on which one was cancelled.

    SQLAlchemy would end it at once: the server would not hear of the cancel, and the statement keep its locks.
    """
    noted = None if context.connection is None else context.connection.get_execution_options().get(NOTED)
    if noted is None:
        return
    noted.error = error = context.original_exception
    if not isinstance(error, Exception):
        context.is_disconnect = False
    elif context.connection is not None and not context.connection.in_nested_transaction():
        noted.database.failure = error


def engine_pool(engine: object, settings: PostgresSettings | None) -> EnginePool:
    """Return the pool that borrows from an engine, and does not connect yet; raises SettingsError."""
    checked = checked_engine(engine)
    settings = settings or PostgresSettings()
    url = checked.url.set(drivername="postgresql", query={}).render_as_string()
    return EnginePool(url=url, settings=settings, local=settings.local, engine=checked)
