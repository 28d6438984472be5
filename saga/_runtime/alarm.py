"""Let a loop sleep until something is due."""

from __future__ import annotations

import anyio


class Alarm:
    """Wake one waiting loop at the earliest time anybody asked for."""

    def __init__(self) -> None:
        """Start with nothing due."""
        self._at: float | None = None
        self._changed = anyio.Event()

    def ring(self, after_seconds: float = 0.0) -> None:
        """Ask for a wake-up `after_seconds` from now; does not block, an earlier request stays."""
        at = anyio.current_time() + after_seconds
        if self._at is None or at < self._at:
            self._at = at
            self._changed.set()

    async def wait(self, at_most_seconds: float) -> None:
        """Return when a requested time has come, or after `at_most_seconds`; the request is then used up."""
        end = anyio.current_time() + at_most_seconds
        while True:
            until = end if self._at is None else min(end, self._at)
            self._changed = anyio.Event()
            if anyio.current_time() >= until:
                break
            with anyio.move_on_after(until - anyio.current_time()):
                await self._changed.wait()
        if self._at is not None and self._at <= anyio.current_time():
            self._at = None
