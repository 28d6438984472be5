"""Say that something fails once, sum it up now and then, and say that it works again."""

from __future__ import annotations

import logging

import anyio

log = logging.getLogger("saga")

SUMMARY_SECONDS = 30.0
QUIET_SECONDS = 1.0


class Outage:
    """Log the errors of something that is tried again and again: an outage of an hour is not a line per attempt.

    The first error of each kind is said at once, then a summary at most every 30 s, and the end of it once nothing
    has failed for a second.
    """

    def __init__(self, what: str, over: str) -> None:
        """Say `what` before an error, such as "relay: rows are read later", and `over` when it works again."""
        self._what = what
        self._over = over
        self._kinds: set[type[BaseException]] = set()
        self._told_at = 0.0
        self._failed_at = 0.0
        self._untold = 0

    def failed(self, error: BaseException, count: int = 1) -> None:
        """Take an error that has hit `count` rows or keys."""
        now = self._failed_at = anyio.current_time()
        self._untold += count
        if type(error) not in self._kinds:
            log.warning("%s (%d): %s", self._what, self._untold, error)
        elif now - self._told_at >= SUMMARY_SECONDS:
            log.warning("%s (still; %d in the last %.0f s): %s", self._what, self._untold, now - self._told_at, error)
        else:
            return
        self._kinds.add(type(error))
        self._told_at, self._untold = now, 0

    def worked(self) -> None:
        """Take that nothing is left of it, as far as is known; call it again and again."""
        if self._kinds and anyio.current_time() - self._failed_at >= QUIET_SECONDS:
            self._kinds.clear()
            self._untold = 0
            log.warning("%s", self._over)
