"""Let no more sagas start than the database can hold, and warn when its outbox stands still."""

from __future__ import annotations

import logging

import anyio

from saga._core.keeping import OpenRows, Retention, RowCaps, overload
from saga.errors import Overloaded, StoreError
from saga.ports.keeping import RowCounts

log = logging.getLogger("saga")


class RowCapWatch:
    """Count a store's open rows every few seconds; before the first count sagas may start."""

    def __init__(self, caps: RowCaps | None = None, outbox_alarm_seconds: float | None = None) -> None:
        """Refuse by `caps`; warn of an outbox row older than `outbox_alarm_seconds`."""
        self._caps = caps or RowCaps()
        self._alarm_seconds = Retention().outbox_alarm_seconds if outbox_alarm_seconds is None else outbox_alarm_seconds
        self._reason = ""
        self._late = False

    def check(self, start: str) -> None:
        """Raise Overloaded while no saga may start; reads what was counted last, and does not block."""
        if self._reason:
            raise Overloaded(f"{start}: {self._reason}")

    async def run(self, store: RowCounts) -> None:
        """Count until cancelled; while the database is away, what was counted last counts."""
        while True:
            await anyio.sleep(self._caps.refresh_seconds)
            await self.count(store)

    async def count(self, store: RowCounts) -> None:
        """Count once; a database that is away is only logged."""
        try:
            self.take(await store.open_rows(self._caps))
        except StoreError as error:
            log.warning("open rows are counted later: %s", error)

    def take(self, rows: OpenRows) -> None:
        """Judge by a count, and say what has changed."""
        reason = overload(rows, self._caps)
        if reason and not self._reason:
            log.error("no saga starts: %s", reason)
        elif self._reason and not reason:
            log.warning("sagas start again")
        self._reason = reason
        late = rows.outbox_age_seconds > self._alarm_seconds
        if late and not self._late:
            log.error(
                "the oldest row of the outbox is %.0f s old: is the broker away, or does no relay run?",
                rows.outbox_age_seconds,
            )
        elif self._late and not late:
            log.warning("the outbox has caught up")
        self._late = late
