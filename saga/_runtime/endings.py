"""Let callers wait for the end of their sagas in this process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio


class Endings:
    """Wake whoever waits for a saga; nothing is kept for a saga nobody waits for."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: dict[str, tuple[anyio.Event, int]] = {}

    def __len__(self) -> int:
        """Return how many sagas are waited for."""
        return len(self._waiting)

    @contextmanager
    def waiting(self, saga_id: str) -> Generator[anyio.Event]:
        """Lend the event that `tell` sets, for as long as the context lasts."""
        told, waiters = self._waiting.get(saga_id, (anyio.Event(), 0))
        self._waiting[saga_id] = (told, waiters + 1)
        try:
            yield told
        finally:
            told, waiters = self._waiting[saga_id]
            if waiters > 1:
                self._waiting[saga_id] = (told, waiters - 1)
            else:
                del self._waiting[saga_id]

    def tell(self, saga_id: str) -> None:
        """Wake everybody who waits for the saga; does not block."""
        if saga_id in self._waiting:
            self._waiting[saga_id][0].set()
