"""Wake the one task that waits."""

from __future__ import annotations

import anyio


class Bell:
    """Wake the one task that waits; rung while nobody waits, it ends the next wait at once."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """End the wait; does not block."""
        self._rung.set()

    async def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until rung, or for the timeout; return whether it was rung."""
        if timeout_seconds is None:
            await self._rung.wait()
        else:
            with anyio.move_on_after(timeout_seconds):
                await self._rung.wait()
        rung = self._rung.is_set()
        self._rung = anyio.Event()
        return rung
