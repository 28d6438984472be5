"""Name the connections that can be joined, for type checkers; importing this imports none of the libraries."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import asyncpg
    import psycopg
    from asyncpg.pool import PoolConnectionProxy
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    AwaitedConnection: TypeAlias = (
        asyncpg.Connection[Any]
        | PoolConnectionProxy[Any]
        | psycopg.AsyncConnection[Any]
        | AsyncSession
        | AsyncConnection
        | async_scoped_session[Any]
    )
    BlockingConnection: TypeAlias = (
        psycopg.Connection[Any] | Session | Connection | scoped_session[Any] | sqlite3.Connection
    )
else:
    AwaitedConnection = BlockingConnection = Any
