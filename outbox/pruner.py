"""Forget what nobody can ask for any more, in bites small enough not to be felt."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import anyio

from saga.errors import StoreError

log = logging.getLogger("saga")

BITE = 1000
GRACE_SECONDS = 86_400.0
EVERY_SECONDS = 600.0
BREATH_SECONDS = 0.1


@runtime_checkable
class Prunable(Protocol):
    """Be a store with rows that age."""

    async def prune(self, limit: int, grace_seconds: float) -> int:
        """Delete up to `limit` runs, and as many gates, that expired longer than the grace ago and owe nothing."""
        ...


class Pruner:
    """Delete runs and gates a day after the later of their expiry and their gate's `keep_until`.

    By then every message that could ask for them has expired too. A run with work outstanding stays,
    and so do waiting and dead deliveries: a person looks after those.
    """

    def __init__(
        self,
        store: Prunable,
        *,
        bite: int = BITE,
        grace_seconds: float = GRACE_SECONDS,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._store = store
        self._bite = bite
        self._grace_seconds = grace_seconds
        self._every_seconds = every_seconds

    async def prune(self) -> int:
        """Delete everything due, bite by bite, and return how many rows went."""
        rows = 0
        while True:
            bite = await self._store.prune(self._bite, self._grace_seconds)
            rows += bite
            if bite < self._bite:
                return rows
            await anyio.sleep(BREATH_SECONDS)

    async def run(self) -> None:
        """Prune until cancelled; a database that is away is waited for."""
        while True:
            try:
                rows = await self.prune()
                if rows:
                    log.info("%d old run and gate rows deleted", rows)
            except StoreError as error:
                log.warning("old rows are deleted later: %s", error)
            await anyio.sleep(self._every_seconds)
