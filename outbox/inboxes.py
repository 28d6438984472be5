"""Forget which plain events were taken, day by day, once none of that day can be delivered any more."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

import anyio

from saga.errors import StoreError

log = logging.getLogger("saga")

BITE = 1000
EVERY_SECONDS = 600.0
BREATH_SECONDS = 0.1


@runtime_checkable
class Inboxes(Protocol):
    """Be a store with an inbox."""

    async def prune_inbox(self, limit: int, keep_days: int) -> int:
        """Forget the days before the last `keep_days`; return how many rows of them were deleted, up to `limit`."""
        ...


class InboxPruner:
    """Keep the inbox to the days whose events are still handled, and a day more."""

    def __init__(
        self, store: Inboxes, *, inbox_days: int, bite: int = BITE, every_seconds: float = EVERY_SECONDS
    ) -> None:
        """Events older than `inbox_days` are not handled any more; see `saga._core.inbox`."""
        self._store = store
        self._keep_days = inbox_days + 1
        self._bite = bite
        self._every_seconds = every_seconds

    async def prune(self) -> int:
        """Forget everything due, bite by bite, and return how many rows were deleted one by one."""
        rows = 0
        while True:
            bite = await self._store.prune_inbox(self._bite, self._keep_days)
            rows += bite
            if bite < self._bite:
                return rows
            await anyio.sleep(BREATH_SECONDS)

    async def run(self) -> None:
        """Prune until cancelled; a database that is away or busy is waited for."""
        while True:
            try:
                await self.prune()
            except StoreError as error:
                log.warning("old inbox rows are forgotten later: %s", error)
            await anyio.sleep(self._every_seconds)
