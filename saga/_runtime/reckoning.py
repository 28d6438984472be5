"""Reckon the database's time from the loop's, so that it need not be asked for with each batch."""

from __future__ import annotations

from datetime import datetime, timedelta


class Reckoning:
    """Hold the last reading of the database clock, and the loop's time it was taken at."""

    def __init__(self) -> None:
        """Start without a reading."""
        self._read: tuple[datetime, float] | None = None

    def read(self, now: datetime, at_seconds: float) -> None:
        """Take in a reading."""
        self._read = (now, at_seconds)

    def now(self, at_seconds: float) -> datetime | None:
        """Return the database's time, None before the first reading; good for whatever is not held against a limit."""
        if self._read is None:
            return None
        return self._read[0] + timedelta(seconds=at_seconds - self._read[1])

    def seconds_at(self, due: datetime) -> float | None:
        """Return the loop's time at which the database clock will say `due`, None before the first reading."""
        if self._read is None:
            return None
        return self._read[1] + (due - self._read[0]).total_seconds()
