"""Be the coordinator's database on SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from outbox.codec import as_plan, plan_problems, plan_values
from outbox.sql import Component
from outbox.sqlite.base import json_list
from outbox.sqlite.driver import Connection, run, run_keyed
from outbox.sqlite.fleet import SqliteOpenPlans
from outbox.sqlite.unit import CODEC, insert_audits, insert_deliveries, insert_outbox, update
from saga._core.rows import CoordinatorChanges, Cursor, InstanceRow, PlanRow
from saga.errors import PlanError


class SqliteCoordinationStore(SqliteOpenPlans):
    """Keep instances, cursors and plans; see `saga.ports.CoordinationStore`."""

    component = Component.COORDINATOR

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances."""
        found: dict[str, InstanceRow] = {}
        for saga_id in saga_ids:
            for row in await self._database.read(self._sql["load_instance"], (saga_id,)):
                found[saga_id] = CODEC.as_instance(row)
        return found

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one transaction; raises Conflict: nothing was written."""
        if changes == CoordinatorChanges():
            return ()
        async with self._database.transaction() as connection:
            for row in changes.instances:
                self._put(connection, row)
            for was, new in changes.cursors:
                self._move(connection, was, new)
            now = self._now()
            insert_deliveries(connection, self._sql, changes.dead, now)
            insert_audits(connection, self._sql, changes.audits)
            return insert_outbox(connection, self._sql, changes.outbox, now)

    def _put(self, connection: Connection, row: InstanceRow) -> None:
        if row.revision:
            args = (*CODEC.instance(row), row.revision)
            update(connection, self._sql["update_instance"], args, f"instance {row.saga_id}")
        else:
            run_keyed(connection, self._sql["insert_instance"], CODEC.instance(row))

    def _move(self, connection: Connection, was: Cursor | None, new: Cursor) -> None:
        if was is None:
            run_keyed(connection, self._sql["insert_cursor"], CODEC.cursor(new))
        else:
            args = (*CODEC.cursor(new), was.position)
            update(connection, self._sql["update_cursor"], args, f"the cursor of partition {new.partition}")

    async def next_due(self, partitions: Sequence[int]) -> datetime | None:
        """Read the earliest `due_at` in the partitions."""
        rows = await self._database.read(self._sql["next_due"], (json_list(partitions),))
        return CODEC.moment(rows[0]["due_at"])

    async def due(self, partitions: Sequence[int], limit: int) -> Sequence[InstanceRow]:
        """Read instances with `due_at <= observed_until` of their partition, most overdue first."""
        rows = await self._database.read(self._sql["due_instances"], (json_list(partitions), limit))
        return [CODEC.as_instance(row) for row in rows]

    async def cursors(self, partitions: Sequence[int]) -> Mapping[int, Cursor]:
        """Read the stored cursors."""
        rows = await self._database.read(self._sql["cursors"], (json_list(partitions),))
        return {row["partition"]: CODEC.as_cursor(row) for row in rows}

    async def put_plans(self, plans: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """Store plans and return all stored rows; raises PlanError, and then nothing was stored."""
        async with self._database.transaction() as connection:
            for plan in plans:
                run(connection, self._sql["put_plan"], (*plan_values(plan), self._now()))
            stored = [as_plan(row) for row in run(connection, self._sql["plans"]).rows]
            problems = plan_problems(list(plans), stored)
            if problems:
                raise PlanError(problems)
            return stored
