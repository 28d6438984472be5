"""Keep the inbox of a participant on PostgreSQL: a partition for each day, made ahead and dropped as a whole."""

from __future__ import annotations

import logging
from datetime import date, timedelta

from outbox.postgres.base import BEGIN
from outbox.postgres.driver import Link
from outbox.postgres.fleet import PostgresOpenSteps
from saga.errors import GrantMissing

log = logging.getLogger("saga")

DAYS_AHEAD = 3
# Whoever waits for the whole table keeps all others waiting behind it.
_BEGIN_DAYS = f"{BEGIN}; SET LOCAL lock_timeout = '200ms'"


class PostgresInbox(PostgresOpenSteps):
    """Make and drop the days of the inbox."""

    async def prune_inbox(self, limit: int, keep_days: int) -> int:
        """Drop the days before the last `keep_days`, make those to come, and return how many rows were deleted.

        Dropping a day deletes no rows. Only what came for a day without a partition is deleted row by row, up to
        `limit`; that is everything where the user of this process does not own the tables. Leaves it to somebody else
        who is at it; raises Contended when the table is too busy.
        """
        rows = await self._fetch("inbox_days")
        today: date = rows[0]["today"]
        horizon = today - timedelta(days=keep_days)
        days = {day_of(row["day"]) for row in rows if row["day"]}
        wanted = {today + timedelta(days=ahead) for ahead in range(-1, DAYS_AHEAD + 1)}
        old = {day for day in days if day < horizon}
        if rows[0]["owned"] and (old or wanted - days):
            try:
                async with self._pool.transaction(_BEGIN_DAYS) as link:
                    await self._move_on(link, wanted - days, old)
            except GrantMissing as error:
                # All of it is in the last partition then, and deleted row by row.
                log.info("no days are made for saga_inbox: %s", error)
        return int((await self._fetch("prune_inbox_rest", limit, horizon))[0]["rows"])

    async def _move_on(self, link: Link, wanted: set[date], old: set[date]) -> None:
        if not (await link.fetch(self._sql["lock_inbox"], ()))[0]["mine"]:
            return
        # A day that has rows in the last partition stays there: moving them would lock everybody out.
        taken = {row["day"] for row in await link.fetch(self._sql["inbox_rest_days"], ())}
        for day in sorted(wanted - taken):
            await link.simple(_about(self._sql["add_inbox_day"], day))
        for day in sorted(old):
            await link.simple(_about(self._sql["drop_inbox_day"], day))


def day_of(text: str) -> date:
    """Return the day in the name of a partition."""
    return date.fromisoformat(text)


def _about(sql: str, day: date) -> str:
    following = day + timedelta(days=1)
    return sql.replace("'DAY'", f"'{day}'").replace("'NEXT'", f"'{following}'").replace("_DAY", f"_{day:%Y%m%d}")
