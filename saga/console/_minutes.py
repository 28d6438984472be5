"""Count what begins and ends, minute by minute, and remember the minutes that are over."""

from __future__ import annotations

from datetime import datetime, timedelta

from saga._core.overview import Minute
from saga.ports.overseeing import OverseeingStore

SHOWN = 60
UNSETTLED = 3
"""The newest minutes are counted again: records of what happened then may still come in."""
MINUTE = timedelta(minutes=1)


class Minutes:
    """Hold the last hour; each look counts only what may have changed."""

    def __init__(self) -> None:
        self._known: dict[datetime, Minute] = {}

    async def read(self, store: OverseeingStore, now: datetime) -> tuple[Minute, ...]:
        """Return the last sixty minutes, oldest first, the one that is not over yet among them."""
        last = now.replace(second=0, microsecond=0)
        wanted = [last - MINUTE * back for back in range(SHOWN - 1, -1, -1)]
        unknown = [at for at in wanted[:-UNSETTLED] if at not in self._known] + wanted[-UNSETTLED:]
        found = {minute.at: minute for minute in await store.minutes(unknown)}
        known = self._known | found
        self._known = {at: known[at] for at in wanted}
        return tuple(self._known.values())
