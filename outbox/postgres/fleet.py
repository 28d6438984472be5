"""Say what is open, on PostgreSQL; see `saga.ports.fleet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outbox.postgres.base import PostgresBase
from outbox.sql import NO_COORDINATOR
from saga.errors import StoreError


class PostgresOpenPlans(PostgresBase):
    """Be the coordinator's half."""

    async def open_plans(self) -> Mapping[str, int]:
        """Return how many sagas have not ended yet, by the hash of their plan."""
        if not (await self._fetch("coordinator_tables"))[0]["n"]:
            raise StoreError(NO_COORDINATOR.format(self))
        return {row["plan"]: row["sagas"] for row in await self._fetch("open_plans")}


class PostgresOpenSteps(PostgresBase):
    """Be the participant's half."""

    async def open_steps(
        self, service: str, plan: str, steps: Sequence[str], undone: Sequence[str], window_seconds: float
    ) -> Mapping[str, int]:
        """Return how many sagas under a plan need the code of each of `steps`; others are left out."""
        rows = await self._fetch("open_steps", service, plan, list(steps), list(undone), window_seconds)
        return {row["step"]: row["sagas"] for row in rows}

    async def open_starts(self, service: str, plan: str) -> int:
        """Return how many sagas under a plan the service has started and not heard the end of."""
        return int((await self._fetch("open_starts", service, plan))[0]["sagas"])
