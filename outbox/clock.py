"""Tell the time of this machine."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """Be the wall clock; see `saga.ports.Clock`."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        return datetime.now(UTC)
