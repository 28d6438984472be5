"""Be the coordinator's database on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from outbox.codec import Values, as_plan, plan_problems, plan_values
from outbox.postgres.base import BEGIN
from outbox.postgres.fleet import PostgresOpenPlans
from outbox.postgres.parts import Part, columns
from outbox.postgres.unit import CODEC, audits_part, deliveries_part, outbox_part, run_parts
from outbox.sql import Component
from saga._core.rows import CoordinatorChanges, Cursor, InstanceRow, PlanRow
from saga.errors import PlanError


class PostgresCoordinationStore(PostgresOpenPlans):
    """Keep instances, cursors and plans; see `saga.ports.CoordinationStore`."""

    component = Component.COORDINATOR

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances in one query."""
        rows = await self._fetch("load_instances", list(dict.fromkeys(saga_ids)))
        return {row["saga_id"]: CODEC.as_instance(row) for row in rows}

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one statement of one transaction; raises Conflict: nothing was written."""
        parts, expected = _parts(changes)
        if not parts:
            return ()
        async with self._pool.transaction(BEGIN) as link:
            return await run_parts(link, self._composer, parts, expected)

    async def due(self, partitions: Sequence[int], limit: int) -> Sequence[InstanceRow]:
        """Read instances with `due_at <= observed_until` of their partition, most overdue first."""
        return [CODEC.as_instance(row) for row in await self._fetch("due_instances", list(partitions), limit)]

    async def cursors(self, partitions: Sequence[int]) -> Mapping[int, Cursor]:
        """Read the stored cursors."""
        rows = await self._fetch("cursors", list(partitions))
        return {row["partition"]: CODEC.as_cursor(row) for row in rows}

    async def now(self) -> datetime:
        """Read the database clock."""
        return cast("datetime", (await self._fetch("now"))[0]["clock_timestamp"])

    async def put_plans(self, plans: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """Store plans and return all stored rows; raises PlanError, and then nothing was stored."""
        async with self._pool.transaction(BEGIN) as link:
            for plan in sorted(plans, key=lambda plan: (plan.saga, plan.version, plan.revision)):
                await link.execute(self._sql["put_plan"], plan_values(plan))
            stored = [as_plan(row) for row in await link.fetch(self._sql["plans"], ())]
            problems = plan_problems(list(plans), stored)
            if problems:
                raise PlanError(problems)
            return stored


def _parts(changes: CoordinatorChanges) -> tuple[list[Part], dict[str, int]]:
    """Return the parts of a write and how many rows each update must meet."""
    known = sorted(changes.instances, key=lambda row: row.saga_id)
    inserts = [CODEC.instance(row) for row in known if not row.revision]
    updates: list[Values] = [(*CODEC.instance(row), row.revision) for row in known if row.revision]
    swaps = sorted(changes.cursors, key=lambda pair: pair[1].partition)
    firsts = [CODEC.cursor(new) for was, new in swaps if was is None]
    moves: list[Values] = [(*CODEC.cursor(new), was.position) for was, new in swaps if was is not None]
    parts: list[Part] = []
    expected: dict[str, int] = {}
    if inserts:
        parts.append(Part("insert_instances", columns(inserts)))
    if updates:
        parts.append(Part("update_instances", [*columns(updates), len(updates)]))
        expected["update_instances"] = len(updates)
    if firsts:
        parts.append(Part("insert_cursors", columns(firsts)))
    if moves:
        parts.append(Part("update_cursors", columns(moves)))
        expected["update_cursors"] = len(moves)
    parts += outbox_part(changes.outbox) + deliveries_part(changes.dead) + audits_part(changes.audits)
    return parts, expected
