"""Lend connections and run transactions on them; classes, since a generator around each costs more than its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.postgres.driver import Link, Pool


def begun(begin: str, local: str) -> str:
    """Return a statement that begins a transaction with the settings that are local to it."""
    if not local:
        return begin
    first, separator, rest = begin.partition(";")
    return f"{first}; {local}{separator}{rest}"


class Lent:
    """Be a connection of a pool while the context is open; it goes back only if it is clean, else it is closed."""

    __slots__ = ("_link", "_pool")

    def __init__(self, pool: Pool) -> None:
        """Lend nothing yet."""
        self._pool = pool

    async def __aenter__(self) -> Link:
        self._link = await self._pool.lend()
        return self._link

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.take_back(self._link)


class Transaction:
    """Be a transaction while the context is open: committed at its end, rolled back on an exception."""

    __slots__ = ("_begin", "_link", "_pool")

    def __init__(self, pool: Pool, begin: str) -> None:
        """Begin nothing yet; `begin` opens the transaction."""
        self._pool = pool
        self._begin = begin

    async def __aenter__(self) -> Link:
        self._link = link = await self._pool.lend()
        try:
            await link.simple(begun(self._begin, self._pool.local))
        except BaseException as error:
            await self._leave(error)
            raise
        return link

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            await self._leave(error)
            return
        try:
            await self._link.commit()
        finally:
            await self._pool.take_back(self._link)

    async def _leave(self, error: BaseException) -> None:
        """Roll back and give the connection back; raises what the error means to the runtime, if it means something."""
        try:
            await self._link.roll_back(error)
        finally:
            await self._pool.take_back(self._link)
