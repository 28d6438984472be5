"""Keep the scenario's rows in SQLite, and tell the stage of every commit that is about a saga."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from outbox.sqlite.base import SqliteBase
from outbox.sqlite.unit import SqliteUnit
from saga._core.rows import Changes, CoordinatorChanges, OutboxRow
from saga.ports import AdoptedUnit, UnitOfWork
from saga.testing.stage import Stage

PATIENT_SECONDS = 60.0


class StagedUnit(SqliteUnit):
    """Be one open transaction that remembers what saga has written in it."""

    def remember(self) -> list[Changes]:
        """Return the list that everything written from now on goes into."""
        self._remembered: list[Changes] = []
        return self._remembered

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes; see `saga.ports.UnitOfWork`."""
        seqs = await super().write(changes)
        self._remembered.append(changes)
        return seqs


class _Staged(SqliteBase):
    """Be a database in memory that outlives its process, and can be copied into a file.

    It looks for rows left behind only where there may be some: a sweep that finds nothing costs the most here.
    """

    _written = 0
    _some: anyio.Event | None = None

    def _wrote(self, rows: int) -> None:
        self._written += rows
        if rows and self._some is not None:
            self._some.set()

    async def copy_to(self, path: Path) -> None:
        """Write what is committed into a SQLite file, instead of what is there; blocks while it does."""
        await anyio.Path(path).unlink(missing_ok=True)
        await self._database.read("vacuum into ?", (str(path),))

    async def delete(self, seqs: Sequence[int]) -> None:
        """Delete published rows; see `saga.ports.OutboxStore`."""
        await super().delete(seqs)
        self._written -= len(seqs)

    async def sweep(
        self, owner: str, *, older_than_seconds: float, limit: int, in_hand: frozenset[int], lease_seconds: float
    ) -> Sequence[OutboxRow]:
        """Return a page of old rows; see `saga.ports.OutboxStore`."""
        if not self._written:
            self._some = anyio.Event()
            with anyio.move_on_after(PATIENT_SECONDS):
                await self._some.wait()
            return []
        return await super().sweep(
            owner,
            older_than_seconds=older_than_seconds,
            limit=limit,
            in_hand=in_hand,
            lease_seconds=lease_seconds,
        )


class StagedStore(_Staged, SqliteStore):
    """Be a service's database; its process may die before or after each commit, or not hear of it."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(":memory:", name=name, clock=stage.clock)
        self._stage = stage

    @asynccontextmanager
    async def _unit(self, service: str) -> AsyncGenerator[UnitOfWork]:
        async with self._database.transaction() as connection:
            unit = StagedUnit(connection, self._sql, service, self._clock)
            written = unit.remember()
            yield unit
            steps = _steps_of(written)
            if written:
                await self._stage.before_commit(steps)
        if written:
            self._wrote(sum(len(changes.outbox) for changes in written))
            self._stage.history.committed(written)
            await self._stage.after_commit(steps)

    @asynccontextmanager
    async def _adopt(self, connection: Any, service: str) -> AsyncGenerator[AdoptedUnit]:
        # Whether the caller commits its row is not known here; a sweep for nothing does no harm.
        self._wrote(1)
        async with super()._adopt(connection, service) as unit:
            yield unit

    async def has_sharded(self) -> bool:
        """Return whether there is a row that belongs to a shard; see `saga.ports.ShardStore`."""
        return bool(self._written) and await super().has_sharded()


def _steps_of(written: Sequence[Changes]) -> tuple[str, ...]:
    return tuple(run.step for changes in written for run in (*changes.insert_runs, *changes.update_runs))


class StagedCoordination(_Staged, SqliteCoordinationStore):
    """Be the coordinator's database; likewise."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(":memory:", name=name, clock=stage.clock)
        self._stage = stage

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        """Store all changes in one transaction; see `saga.ports.CoordinatorStore`."""
        counts = bool(changes.instances or changes.outbox)
        if counts:
            # Nothing is open yet: dying here is dying before the commit.
            await self._stage.before_commit(())
        seqs = await super().write(changes)
        self._wrote(len(changes.outbox))
        if counts:
            self._stage.history.coordinated(changes)
            await self._stage.after_commit(())
        return seqs
