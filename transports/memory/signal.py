"""Wake waiting tasks on asyncio and trio."""

from __future__ import annotations

import anyio


class Signal:
    """Wake everybody who waits right now; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all waiting tasks."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait for the next notification."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
