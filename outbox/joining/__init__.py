"""Join the open transaction of somebody else's connection; a library's own file is imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from outbox.joining.door import Door, Entry, Manner, PostgresEntry, SqliteEntry
from saga._core.driving import is_driven
from saga.errors import SettingsError

__all__ = ["Door", "Entry", "Manner", "PostgresEntry", "SqliteEntry", "door_to"]

_FILES = {
    "asyncpg": "outbox.joining.of_asyncpg",
    "psycopg": "outbox.joining.of_psycopg",
    "sqlalchemy": "outbox.joining.of_sqlalchemy",
    "sqlite3": "outbox.joining.of_sqlite3",
}


def door_to(connection: Any) -> Door:
    """Return the door into a connection's transaction, without looking whether there is one; raises SettingsError."""
    for cls in type(connection).__mro__:
        file = _FILES.get(cls.__module__.partition(".")[0])
        if file is not None:
            door = cast("Door | None", import_module(file).door(connection))
            if door is not None:
                return _usable(door, connection)
    kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
    raise SettingsError(
        f"connection= is {_a(kind)}: pass a connection of asyncpg, psycopg 3 or sqlite3, or a session or connection of "
        "SQLAlchemy 2 over one of them"
    )


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _usable(door: Door, connection: Any) -> Door:
    if door.manner is Manner.AWAITED and is_driven():
        raise SettingsError(
            f"connection= is {_a(type(connection).__qualname__)}, which is asynchronous: await the call instead, "
            "`await outbox.join(session).publish(...)`, or `await place(...)` for `place.sync(...)`, with the session "
            "itself and outside of `run_sync`"
        )
    return door
