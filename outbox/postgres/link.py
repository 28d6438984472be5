"""Say what the statements of a unit of work need of a connection to PostgreSQL, whichever driver it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from outbox.postgres.states import Origin


class PostgresLink(Protocol):
    """Run statements with `$1` on one connection.

    Raises Contended, Conflict, StoreUnavailable, StoreError; a user's own errors as the driver's.
    """

    @property
    def raw(self) -> Any:
        """Return the driver's connection."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        ...

    def check_open(self) -> None:
        """Raise StoreUnavailable or StoreError unless a transaction is open."""
        ...

    async def execute(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> str:
        """Run one statement, or without arguments several, and return the last one's tag."""
        ...

    async def fetch(self, sql: str, args: Sequence[object], origin: Origin = Origin.OURS) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows."""
        ...

    async def unwind(self, sql: str) -> None:
        """Run statements that bring a transaction back after an error, shielded for a bounded time."""
        ...
