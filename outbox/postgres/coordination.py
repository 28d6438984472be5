"""Be the coordinator's database on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import cast

import anyio

from outbox.codec import Values, as_plan, plan_problems, plan_values
from outbox.postgres.alike import stored_instances
from outbox.postgres.base import BEGIN
from outbox.postgres.driver import COMMIT_SECONDS, Record
from outbox.postgres.fleet import PostgresOpenPlans
from outbox.postgres.parts import Part, columns
from outbox.postgres.unit import CODEC, audits_part, deliveries_part, outbox_part
from outbox.sql import Component
from saga._core.keeping import Publishing
from saga._core.rows import CoordinatorChanges, Cursor, InstanceRow, PlanRow
from saga.errors import CommitUnknown, PlanError, StoreUnavailable


class PostgresCoordinationStore(PostgresOpenPlans):
    """Keep instances, cursors and plans; see `saga.ports.CoordinationStore`."""

    component = Component.COORDINATOR

    async def load(self, saga_ids: Sequence[str]) -> Mapping[str, InstanceRow]:
        """Read instances in one query."""
        rows = await self._fetch("load_instances", list(dict.fromkeys(saga_ids)))
        return {row["saga_id"]: CODEC.as_instance(row) for row in rows}

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one statement, which is a transaction by itself; raises Conflict: nothing was written.

        Raises CommitUnknown when no answer came; it is waited for, for a bounded time, although cancelled.
        """
        parts, expected = _parts(changes, self._composer.publishing)
        if not parts:
            return ()
        sql, args = self._composer.whole(parts, expected)
        if self._pool.local:
            # Settings that are local to a transaction need one that is begun.
            async with self._pool.transaction(BEGIN) as link:
                return _seqs(await link.fetch(sql, args), len(changes.outbox))
        async with self._pool.link() as link:
            with anyio.move_on_after(COMMIT_SECONDS, shield=True):
                try:
                    return _seqs(await link.fetch(sql, args), len(changes.outbox))
                except StoreUnavailable as error:
                    raise CommitUnknown(str(error)) from error
        raise CommitUnknown(f"no answer to a write within {COMMIT_SECONDS:g} s")

    async def next_due(self, partitions: Sequence[int]) -> datetime | None:
        """Read the earliest `due_at` in the partitions."""
        rows = await self._fetch("next_due", list(partitions))
        return cast("datetime | None", rows[0]["due_at"])

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


def _seqs(rows: Sequence[Record], count: int) -> tuple[int, ...]:
    # Rows that a connector reads have none.
    return tuple(sorted(row["seq"] for row in rows if row["seq"])) or (0,) * count


def _parts(changes: CoordinatorChanges, publishing: Publishing) -> tuple[list[Part], dict[str, int]]:
    """Return the parts of a write and how many rows each update must meet."""
    parts = stored_instances(sorted(changes.instances, key=attrgetter("saga_id")))
    updates = sum(1 for row in changes.instances if row.revision)
    expected = {part.name: updates for part in parts if part.name.startswith("update")}
    swaps = sorted(changes.cursors, key=lambda pair: pair[1].partition)
    firsts = [CODEC.cursor(new) for was, new in swaps if was is None]
    moves: list[Values] = [(*CODEC.cursor(new), was.position) for was, new in swaps if was is not None]
    if firsts:
        parts.append(Part("insert_cursors", columns(firsts)))
    if moves:
        parts.append(Part("update_cursors", columns(moves)))
        expected["update_cursors"] = len(moves)
    parts += outbox_part(changes.outbox, publishing) + deliveries_part(changes.dead) + audits_part(changes.audits)
    return parts, expected
