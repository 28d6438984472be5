"""Declare how an outbox is looked at."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from saga._core.backlog import Backlog


@runtime_checkable
class Backlogged(Protocol):
    """Be a database with an outbox."""

    async def backlog(self) -> Backlog:
        """Count what waits to be published; looks at every row that does. Raises StoreUnavailable."""
        ...
