"""Declare what is asked of a database so that it does not fill up: deleting what is old, counting what is open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from saga._core.keeping import Aging, OpenRows, Publishing, RowCaps


@runtime_checkable
class Prunable(Protocol):
    """Be a store with rows that age."""

    @property
    def aging(self) -> Sequence[Aging]:
        """Return what is deleted by age here, in the order in which it has to be."""
        ...

    async def prune(self, what: Aging, limit: int, age_seconds: float) -> int:
        """Delete up to `limit` rows that are that old and owe nothing, in one short transaction; return how many.

        Rows that somebody else has locked are left for the next time. Looks at few rows when none is old.
        """
        ...


@runtime_checkable
class RowCounts(Protocol):
    """Be a store that can say how much is open."""

    async def open_rows(self, caps: RowCaps) -> OpenRows:
        """Count the open rows, each kind up to its cap; a coordinator has those of its outbox."""
        ...


@runtime_checkable
class Capturing(Protocol):
    """Be a store whose rows a connector can read out of the database's log."""

    def publish_by(self, publishing: Publishing) -> None:
        """Write what is to be published where the relay or a connector finds it, from the next transaction on.

        For a connector each message is a row of its own, and `write` returns 0 for the `seq` of every outbox row.
        """
        ...
