"""Be a participant's database on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from hashlib import blake2b
from types import TracebackType
from typing import Any

from outbox.joining import PostgresEntry, door_to
from outbox.postgres.base import BEGIN
from outbox.postgres.driver import Link, Record
from outbox.postgres.inbox import PostgresInbox
from outbox.postgres.same import SameDatabase
from outbox.postgres.settings import pasted
from outbox.postgres.shards import PostgresShards
from outbox.postgres.transaction import Transaction
from outbox.postgres.unit import CODEC, PostgresUnit
from outbox.schema import upgrade_command
from outbox.sql import Component, Phase
from saga._core.rows import DeliveryRow, RunId, RunRow, TakenRun
from saga.errors import SettingsError
from saga.ports import AdoptedUnit, Beat, Claim, Lock, UnitOfWork

_LOCKS = {Lock.SHARED: "pg_advisory_xact_lock_shared", Lock.EXCLUSIVE: "pg_advisory_xact_lock"}
_TARGETS = 1000  # PostgreSQL takes 1,664 columns in a select


def lock_key(service: str, saga_id: str) -> int:
    """Return the advisory lock of one saga at one service: 64 bits, the same in every process and version."""
    digest = blake2b(f"{service}\x00{saga_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def begin_statement(claim: Claim) -> str:
    """Return what opens a transaction and takes its locks, sorted, in one round trip."""
    pieces = [BEGIN]
    if claim.lock_timeout_seconds is not None:
        pieces.append(f"SET LOCAL lock_timeout = {max(1, round(claim.lock_timeout_seconds * 1000))}")
    keys = sorted({lock_key(claim.service, saga_id) for saga_id in claim.sagas})
    lock = _LOCKS[claim.lock]
    calls = [f"{lock}({key})" for key in keys]
    pieces += ["SELECT " + ", ".join(calls[at : at + _TARGETS]) for at in range(0, len(calls), _TARGETS)]
    return "; ".join(pieces)


class _Unit:
    """Be a unit of work for as long as its transaction is open."""

    __slots__ = ("_service", "_transaction", "_unit_on")

    def __init__(self, transaction: Transaction, unit_on: Callable[[Link, str], UnitOfWork], service: str) -> None:
        self._transaction = transaction
        self._unit_on = unit_on
        self._service = service

    async def __aenter__(self) -> UnitOfWork:
        return self._unit_on(await self._transaction.__aenter__(), self._service)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transaction.__aexit__(kind, error, traceback)


def _delivery_order(row: Record) -> tuple[Any, ...]:
    return (row["was_lane"], row["was_due_at"], row["id"])


class PostgresStore(PostgresInbox, PostgresShards):
    """Keep a participant's rows next to its business tables; see `saga.ports.Store`.

    Four round trips per transaction: begin with locks, read, write, commit. Raises Contended for a
    deadlock, a lock timeout, a serialization failure, and for a statement of ours that the statement
    timeout ended; a user's statement keeps the driver's error but for lost connections and contention.
    """

    component = Component.PARTICIPANT

    @property
    def transactions_at_once(self) -> int:
        """Return a third of the pool, up to four: services that share it, and what else they do, need the rest."""
        return max(1, min(4, self._settings.pool_size // 3))

    def unit(self, claim: Claim) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin a transaction and take the claim's locks in the same round trip."""
        return _Unit(self._pool.transaction(begin_statement(claim)), self.unit_on, claim.service)

    def unit_on(self, link: Link, service: str) -> PostgresUnit:
        """Return the inside of an open transaction."""
        return PostgresUnit(link, self._composer, service)

    def adopt(self, connection: Any, service: str) -> AbstractAsyncContextManager[AdoptedUnit]:
        """Work inside the caller's own open transaction, of any driver: never commits, never rolls back."""
        return self._adopt(connection, service)

    @asynccontextmanager
    async def _adopt(self, connection: Any, service: str) -> AsyncGenerator[AdoptedUnit]:
        entry = await door_to(connection).enter()
        if not isinstance(entry, PostgresEntry):
            raise SettingsError("connection= is to SQLite and the store is PostgreSQL: both must be one database")
        await self._same.check(entry.link)
        yield PostgresUnit(entry.link, self._composer, service, entry.watch)

    async def migrate(self, phase: Phase = Phase.BEFORE) -> None:
        """Bring the tables to this version; see `PostgresSchema.migrate`."""
        await super().migrate(phase)
        await self._same.look()

    async def check_schema(self) -> None:
        """Raise SchemaMismatch unless this version can work on the tables as they are."""
        await super().check_schema()
        await self._same.look()

    @cached_property
    def _same(self) -> SameDatabase:
        command = upgrade_command(pasted(self._pool.url, self._schema), self.component)
        return SameDatabase(self._sql["place_of_outbox"], lambda: self._fetch("place_of_outbox"), command=command)

    async def take_deliveries(self, service: str, limit: int, lease_seconds: float) -> Sequence[DeliveryRow]:
        """Claim due rows by moving their `due_at` on by the lease; oldest first, skipping what others claim."""
        rows = await self._fetch("take_deliveries", service, limit, lease_seconds)
        return [CODEC.as_delivery(row) for row in sorted(rows, key=_delivery_order)]

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[TakenRun]:
        """Claim runs whose `pending_at` has passed; longest waiting first, skipping what others claim."""
        rows = await self._fetch("take_runs", service, limit, owner, lease_seconds)
        return [
            TakenRun(run=CODEC.as_run(row), called_at=CODEC.moment(row["was_called_at"]), owner=row["was_owner"])
            for row in sorted(rows, key=lambda row: (row["was_rank"], row["was_pending_at"]))
        ]

    async def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        """Move `pending_at` of the owner's runs on by a lease; revisions stay as they are."""
        keys = [list(key) for key in zip(*((r.saga_id, r.step, r.branch) for r in runs), strict=True)] or [[], [], []]
        revisions = [row.revision for row in runs]
        rows = await self._fetch("beat", service, *keys, revisions, owner, lease_seconds)
        owners = {(row["saga_id"], row["step"], row["branch"]): row["owner"] for row in rows}
        return Beat(
            kept=frozenset(run for run, by in owners.items() if by == owner),
            silent={run: by for run, by in owners.items() if by != owner},
        )

    async def load_runs(self, runs: Sequence[RunId]) -> Sequence[RunRow]:
        """Read those of the runs that there are in one query, outside any transaction."""
        keys = [list(column) for column in zip(*runs, strict=True)] or [[], [], []]
        return [CODEC.as_run(row) for row in await self._fetch("load_runs", *keys)]
