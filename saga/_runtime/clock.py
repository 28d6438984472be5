"""Tell the loop's time, and bound calls by it, without asking each time which loop it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import anyio

LATE_SECONDS = 0.1
"""By how much a handler may be ended too late, at most."""


def loop_clock() -> Callable[[], float]:
    """Return what tells the time of the loop that runs here, as `anyio.current_time` does."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().time
    return anyio.current_time


class Timer:
    """Bound one call after another inside one scope, which must be left once a call was not in time.

    To set a deadline costs more than many a handler. So one that is set stays, unless it would come too early for the
    next call, or much too late: a call has its time, and at most a tenth of it, or a tenth of a second, more.
    """

    __slots__ = ("_until", "now", "scope")

    def __init__(self) -> None:
        """Begin without a deadline; `now` tells the loop's time."""
        self.scope = anyio.CancelScope()
        self.now = loop_clock()
        self._until = -inf

    def wind(self, seconds: float) -> None:
        """Set the deadline for a call that begins now."""
        due = self.now() + seconds
        late = due + min(seconds / 10, LATE_SECONDS)
        if not due <= self._until <= late:
            self._until = self.scope.deadline = late

    def rest(self) -> None:
        """Take the deadline away, for whatever is awaited between calls."""
        if self._until != -inf:
            self._until = -inf
            self.scope.deadline = inf
