"""Declare how a database is examined."""

from __future__ import annotations

from typing import Protocol, Self

from saga._core.doctor.facts import DatabaseFacts


class Checkup(Protocol):
    """Examine one database, whatever state its tables are in; an async context manager that owns its connections.

    Entering raises SettingsError for a refused user or database, StoreUnavailable, Contended.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def facts(self) -> DatabaseFacts:
        """Read what the database says of itself, its tables and this user's rights; changes nothing.

        Raises StoreUnavailable, StoreError.
        """
        ...
