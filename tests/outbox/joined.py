"""Hold a connection of each library, with an open transaction, behind the same few verbs."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from saga import Event
from saga.outbox import Joined, JoinedSync, Outbox


class OrderPlaced(Event, name="order.placed", version=1):
    order: str
    number: int = 0


@dataclass
class Caller:
    """Be what a test does with somebody's connection: `run` takes plain SQL."""

    connection: Any
    run: Callable[[str], Any]
    commit: Callable[[], Any]
    roll_back: Callable[[], Any]
    is_open: Callable[[], bool]

    async def execute(self, sql: str) -> None:
        """Run a statement, awaited where the library wants it."""
        found = self.run(sql)
        if hasattr(found, "__await__"):
            await found

    async def end(self, how: str) -> None:
        """Commit or roll back."""
        found = self.commit() if how == "commit" else self.roll_back()
        if hasattr(found, "__await__"):
            await found

    async def publish(self, outbox: Outbox, event: Event, **more: Any) -> str:
        """Publish as somebody with this library would."""
        joined = cast("Joined | JoinedSync", outbox.join(self.connection))
        if isinstance(joined, Joined):
            return await joined.publish(event, **more)
        return joined.publish(event, **more)


Opening = Callable[[str], AbstractAsyncContextManager[Caller]]


def _with(url: str, scheme: str) -> str:
    return scheme + url[url.index("://") :]


@asynccontextmanager
async def over_asyncpg(url: str) -> AsyncGenerator[Caller]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("begin")
        yield Caller(
            connection,
            connection.execute,
            lambda: connection.execute("commit"),
            lambda: connection.execute("rollback"),
            connection.is_in_transaction,
        )
    finally:
        await connection.close()


@asynccontextmanager
async def over_asyncpg_pool(url: str) -> AsyncGenerator[Caller]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transactions: list[Any] = []

        async def begin() -> None:
            transactions.append(connection.transaction())
            await transactions[-1].start()

        await begin()
        yield Caller(
            connection,
            lambda sql: begin() if sql == "begin" else connection.execute(sql),
            lambda: transactions[-1].commit(),  # noqa: PLW0108 - the last one at that time
            lambda: transactions[-1].rollback(),  # noqa: PLW0108 - likewise
            connection.is_in_transaction,
        )


@asynccontextmanager
async def over_psycopg(url: str) -> AsyncGenerator[Caller]:
    connection = await psycopg.AsyncConnection.connect(url)
    try:
        await connection.execute("select 1")
        yield Caller(
            connection,
            lambda sql: connection.execute(sql.encode()),
            connection.commit,
            connection.rollback,
            lambda: bool(connection.info.transaction_status),
        )
    finally:
        await connection.close()


@asynccontextmanager
async def over_psycopg_sync(url: str) -> AsyncGenerator[Caller]:
    connection = psycopg.Connection.connect(url)
    try:
        connection.execute("select 1")
        yield Caller(
            connection,
            lambda sql: connection.execute(sql.encode()),
            connection.commit,
            connection.rollback,
            lambda: bool(connection.info.transaction_status),
        )
    finally:
        connection.close()


def _over_session(scheme: str) -> Opening:
    @asynccontextmanager
    async def over(url: str) -> AsyncGenerator[Caller]:
        engine = create_async_engine(_with(url, scheme))
        try:
            async with async_sessionmaker(engine)() as session:
                await session.begin()
                yield Caller(
                    session,
                    lambda sql: session.execute(text(sql)),
                    session.commit,
                    session.rollback,
                    session.in_transaction,
                )
        finally:
            await engine.dispose()

    return over


def _over_connection(scheme: str) -> Opening:
    @asynccontextmanager
    async def over(url: str) -> AsyncGenerator[Caller]:
        engine = create_async_engine(_with(url, scheme))
        try:
            async with engine.connect() as connection:
                await connection.begin()
                yield Caller(
                    connection,
                    connection.exec_driver_sql,
                    connection.commit,
                    connection.rollback,
                    connection.in_transaction,
                )
        finally:
            await engine.dispose()

    return over


def _over_sync_session(scheme: str) -> Opening:
    @asynccontextmanager
    async def over(url: str) -> AsyncGenerator[Caller]:
        engine = create_engine(_with(url, scheme))
        try:
            with Session(engine) as session:
                session.begin()
                yield Caller(
                    session,
                    lambda sql: session.execute(text(sql)),
                    session.commit,
                    session.rollback,
                    session.in_transaction,
                )
        finally:
            engine.dispose()

    return over


def _over_sync_connection(scheme: str) -> Opening:
    @asynccontextmanager
    async def over(url: str) -> AsyncGenerator[Caller]:
        engine = create_engine(_with(url, scheme))
        try:
            with engine.connect() as connection:
                connection.begin()
                yield Caller(
                    connection,
                    connection.exec_driver_sql,
                    connection.commit,
                    connection.rollback,
                    connection.in_transaction,
                )
        finally:
            engine.dispose()

    return over


@asynccontextmanager
async def over_sqlite3(url: str) -> AsyncGenerator[Caller]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        connection.execute("begin immediate")
        yield Caller(
            connection, connection.execute, connection.commit, connection.rollback, lambda: connection.in_transaction
        )
    finally:
        connection.close()


POSTGRES: dict[str, Opening] = {
    "asyncpg": over_asyncpg,
    "asyncpg pool": over_asyncpg_pool,
    "psycopg": over_psycopg,
    "psycopg sync": over_psycopg_sync,
    "AsyncSession on asyncpg": _over_session("postgresql+asyncpg"),
    "AsyncSession on psycopg": _over_session("postgresql+psycopg"),
    "AsyncConnection on asyncpg": _over_connection("postgresql+asyncpg"),
    "AsyncConnection on psycopg": _over_connection("postgresql+psycopg"),
    "Session on psycopg": _over_sync_session("postgresql+psycopg"),
    "Connection on psycopg": _over_sync_connection("postgresql+psycopg"),
}
SQLITE: dict[str, Opening] = {
    "sqlite3": over_sqlite3,
    "Session on sqlite": _over_sync_session("sqlite"),
    "Connection on sqlite": _over_sync_connection("sqlite"),
}

__all__ = ["POSTGRES", "SQLITE", "AsyncSession", "Caller", "OrderPlaced"]
