"""Be a participant's database on SQLite."""

from __future__ import annotations

import os.path
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from outbox.codec import from_micros
from outbox.joining import SqliteEntry, door_to
from outbox.schema import upgrade_command
from outbox.sql import Component
from outbox.sqlite.driver import MEMORY, path_of, run
from outbox.sqlite.fleet import SqliteOpenSteps
from outbox.sqlite.shards import SqliteShards
from outbox.sqlite.unit import CODEC, SqliteUnit
from saga._core.rows import DeliveryRow, RunId, RunRow, TakenRun
from saga.errors import SettingsError
from saga.ports import AdoptedUnit, Beat, Claim, UnitOfWork

DAY_SECONDS = 86_400


class SqliteStore(SqliteOpenSteps, SqliteShards):
    """Keep a participant's rows next to its business tables; see `saga.ports.Store`.

    `BEGIN IMMEDIATE` lets one transaction in at a time, so a claim needs no locks. The clock is the
    one given: SQLite has none worth trusting.
    """

    component = Component.PARTICIPANT

    @property
    def transactions_at_once(self) -> int:
        """Return 1: SQLite has one writer."""
        return 1

    def unit(self, claim: Claim) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction."""
        return self._unit(claim.service)

    @asynccontextmanager
    async def _unit(self, service: str) -> AsyncGenerator[UnitOfWork]:
        async with self._database.transaction() as connection:
            yield SqliteUnit(connection, self._sql, service, self._clock)

    def adopt(self, connection: Any, service: str) -> AbstractAsyncContextManager[AdoptedUnit]:
        """Work inside the caller's own open transaction, of sqlite3 or SQLAlchemy: never commits, never rolls back."""
        return self._adopt(connection, service)

    @asynccontextmanager
    async def _adopt(self, connection: Any, service: str) -> AsyncGenerator[AdoptedUnit]:
        entry = await door_to(connection).enter()
        if not isinstance(entry, SqliteEntry):
            raise SettingsError("connection= is to PostgreSQL and the store is SQLite: both must be one database")
        self._check_same(entry)
        yield SqliteUnit(entry.connection, self._sql, service, self._clock, entry.watch)

    def _check_same(self, entry: SqliteEntry) -> None:
        """Raise SettingsError unless the connection is to the store's file, with its tables."""
        path = path_of(entry.connection)
        if path and self._path != MEMORY and os.path.realpath(path) != os.path.realpath(self._path):
            raise SettingsError(f"connection= is to {path}, the store to {self._path}: both must be one database")
        if not run(entry.connection, self._sql["outbox_found"]).rows:
            command = upgrade_command(f"sqlite:///{self._path}", self.component)
            raise SettingsError(f"the database of connection= has no table saga_outbox: run `{command}`")

    async def take_deliveries(self, service: str, limit: int, lease_seconds: float) -> Sequence[DeliveryRow]:
        """Claim due rows by moving their `due_at` on by the lease; oldest first."""
        sql = self._sql["due_deliveries"]
        if not await self._database.read(sql, (service, self._now(), 1)):
            return []
        async with self._database.transaction() as connection:
            rows = [CODEC.as_delivery(row) for row in run(connection, sql, (service, self._now(), limit)).rows]
            until = self._now(lease_seconds)
            for row in rows:
                run(connection, self._sql["lease_delivery"], (row.id, until))
        return [replace(row, due_at=from_micros(until)) for row in rows]

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[TakenRun]:
        """Claim runs whose `pending_at` has passed; longest waiting first."""
        sql = self._sql["due_runs"]
        if not await self._database.read(sql, (service, self._now(), 1)):
            return []
        async with self._database.transaction() as connection:
            rows = [CODEC.as_run(row) for row in run(connection, sql, (service, self._now(), limit)).rows]
            until, now = self._now(lease_seconds), self._now()
            for row in rows:
                run(connection, self._sql["lease_run"], (row.saga_id, row.step, row.branch, owner, until, now))
        return [_taken(row, owner, from_micros(until), from_micros(now)) for row in rows]

    async def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        """Move `pending_at` of the owner's runs on by a lease; revisions stay as they are."""
        kept: set[RunId] = set()
        if runs:
            async with self._database.transaction() as connection:
                until = self._now(lease_seconds)
                for row in runs:
                    args = (row.saga_id, row.step, row.branch, row.revision, owner, until)
                    if run(connection, self._sql["beat_run"], args).touched:
                        kept.add((row.saga_id, row.step, row.branch))
        found = await self._database.read(self._sql["silent_runs"], (service, owner, self._now(lease_seconds / 3)))
        silent = {(row["saga_id"], row["step"], row["branch"]): row["owner"] for row in found}
        return Beat(kept=frozenset(kept), silent=silent)

    async def load_runs(self, runs: Sequence[RunId]) -> Sequence[RunRow]:
        """Read those of the runs that there are, outside any transaction."""
        found = [row for run in runs for row in await self._database.read(self._sql["load_run"], run)]
        return [CODEC.as_run(row) for row in found]

    async def prune_inbox(self, limit: int, keep_days: int) -> int:
        """Forget up to `limit` entries of the days before the last `keep_days`."""
        horizon = from_micros(self._now(-keep_days * DAY_SECONDS)).date()
        async with self._database.transaction() as connection:
            return run(connection, self._sql["prune_inbox"], (limit, horizon.isoformat())).touched


def _taken(row: RunRow, owner: str, pending_at: datetime, now: datetime) -> TakenRun:
    taken = replace(
        row,
        owner=owner,
        pending_at=pending_at,
        called_at=now,
        first_called_at=row.first_called_at or now,
        revision=row.revision + 1,
    )
    return TakenRun(run=taken, called_at=row.called_at, owner=row.owner)
