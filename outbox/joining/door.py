"""Say what a library's file must offer so that its connections can be joined."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from saga.ports import Watch

if TYPE_CHECKING:
    from outbox.postgres.link import PostgresLink  # SQLite needs no driver of PostgreSQL


class Manner(StrEnum):
    """Say how a library's calls are made: awaited, or blocking the thread."""

    AWAITED = "awaited"
    BLOCKING = "blocking"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresEntry:
    """Be the inside of an open transaction of PostgreSQL; `watch` begins to watch for its end."""

    link: PostgresLink
    watch: Callable[[], Watch]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteEntry:
    """Be the inside of an open transaction of SQLite; `watch` begins to watch for its end."""

    connection: sqlite3.Connection
    watch: Callable[[], Watch]


Entry: TypeAlias = PostgresEntry | SqliteEntry


class Door(Protocol):
    """Lead into the transaction of one connection; nothing is committed, rolled back or closed through it."""

    @property
    def manner(self) -> Manner:
        """Return how the connection is used; with BLOCKING nothing ever suspends."""
        ...

    async def enter(self) -> Entry:
        """Return the inside of the open transaction; raises SettingsError when there is none, saying what to write."""
        ...
