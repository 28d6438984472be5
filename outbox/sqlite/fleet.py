"""Say what is open, on SQLite; see `saga.ports.fleet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from outbox.sql import NO_COORDINATOR
from outbox.sqlite.base import SqliteBase
from saga.errors import StoreError


class SqliteOpenPlans(SqliteBase):
    """Be the coordinator's half."""

    async def open_plans(self) -> Mapping[str, int]:
        """Return how many sagas have not ended yet, by the hash of their plan."""
        if not (await self._database.read(self._sql["coordinator_tables"]))[0]["n"]:
            raise StoreError(NO_COORDINATOR.format(self))
        return {row["plan"]: row["sagas"] for row in await self._database.read(self._sql["open_plans"])}


class SqliteOpenSteps(SqliteBase):
    """Be the participant's half."""

    async def open_steps(
        self, service: str, plan: str, steps: Sequence[str], undone: Sequence[str], window_seconds: float
    ) -> Mapping[str, int]:
        """Return how many sagas under a plan need the code of each of `steps`; others are left out."""
        lists = (orjson.dumps(list(steps)).decode(), orjson.dumps(list(undone)).decode())
        args = (service, plan, *lists, self._now(window_seconds))
        return {row["step"]: row["sagas"] for row in await self._database.read(self._sql["open_steps"], args)}

    async def open_starts(self, service: str, plan: str) -> int:
        """Return how many sagas under a plan the service has started and not heard the end of."""
        rows = await self._database.read(self._sql["open_starts"], (service, plan, self._now()))
        return int(rows[0]["sagas"])
