"""Let the batches of a process go one or two at a time while its processor is the limit."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import process_time

import anyio

from saga._core.batching import side_by_side

WAIT_SECONDS = 1.0
LOOK_SECONDS = 0.05
RECENT = 4
"""Over about how many looks the processor's share is averaged."""


class Processor:
    """Let the services and the coordinator of one process take turns at computing.

    Batches that share a processor only make each other longer: transactions stay open, and none of them grows. So
    while the process computes all of the time, two go side by side (one computes, one waits for its database), and
    what arrives for the others gathers. As long as it mostly waits, everybody goes at once.
    """

    def __init__(self, worked_seconds: Callable[[], float] = process_time) -> None:
        """Begin as a process that waits; `worked_seconds` tells what it has computed so far."""
        self._worked_seconds = worked_seconds
        self.taken = 0
        self.busy_share = 0.0
        self._waiting: deque[anyio.Event] = deque()
        self._looked_at: tuple[float, float] | None = None

    @property
    def stretch(self) -> int:
        """Return how many times as long as alone a batch takes, for those side by side share the processor."""
        return max(1, min(self.taken, side_by_side(self.busy_share)))

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[bool]:
        """Wait for a turn, at most a second, and have it; tells whether there was a wait."""
        waited = await self._take()
        try:
            yield waited
        finally:
            self._give_back()

    async def _take(self) -> bool:
        if self.taken < side_by_side(self.busy_share):
            self.taken += 1
            return False
        called = anyio.Event()
        self._waiting.append(called)
        try:
            with anyio.move_on_after(WAIT_SECONDS):  # whoever has a turn may wait for what only this one can do
                await called.wait()
        except BaseException:
            if called.is_set():
                self._give_back()
            else:
                self._waiting.remove(called)
            raise
        if not called.is_set():
            self._waiting.remove(called)
            self.taken += 1
        return True

    def _give_back(self) -> None:
        self.taken -= 1
        self._look()
        while self._waiting and self.taken < side_by_side(self.busy_share):
            self._waiting.popleft().set()
            self.taken += 1

    def _look(self) -> None:
        now = (anyio.current_time(), self._worked_seconds())
        if self._looked_at is None:
            self._looked_at = now
            return
        seconds = now[0] - self._looked_at[0]
        if seconds >= LOOK_SECONDS:
            share = min(1.0, (now[1] - self._looked_at[1]) / seconds)
            self.busy_share += (share - self.busy_share) / RECENT
            self._looked_at = now
