"""Be one open transaction on PostgreSQL: the runtime's reads and writes, and the user's door."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from operator import attrgetter
from typing import Any

from outbox.audits import audit_values
from outbox.captured import captured_values
from outbox.codec import Values
from outbox.postgres.alike import CODEC as CODEC
from outbox.postgres.alike import inserted_outbox, inserted_runs, updated_runs
from outbox.postgres.driver import Origin, Record
from outbox.postgres.link import PostgresLink
from outbox.postgres.locks import PostgresLocks
from outbox.postgres.parts import Composer, Part, columns
from outbox.statements import Kind, kind_of, may_have_written
from saga._core.audit import AuditRow
from saga._core.keeping import Publishing
from saga._core.rows import Changes, DeliveryRow, GateRow, InboxKey, InboxRow, OutboxRow, RunId, RunRow, Snapshot
from saga.errors import Conflict, Gone
from saga.ports import Database, Watch, unwatched

ROLLBACK_SECONDS = 5.0

_COUNTED = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
# In the order of the primary key: two batches that meet wait for each other in one direction only.
_by_key = attrgetter("saga_id", "step", "branch")
_DELIVERIES = frozenset({"delete_deliveries", "update_deliveries"})


def outbox_part(rows: Sequence[OutboxRow], publishing: Publishing = Publishing.RELAY) -> list[Part]:
    """Return the part that stores outbox rows where those who publish them find them."""
    if rows and publishing is Publishing.CDC:
        return [Part("insert_captured", columns(captured_values(rows)))]
    return [inserted_outbox(rows)] if rows else []


def deliveries_part(rows: Sequence[DeliveryRow]) -> list[Part]:
    """Return the part that stores waiting deliveries; one whose key is stored is merged into that row."""
    return [Part("insert_deliveries", columns([CODEC.delivery(row) for row in rows]))] if rows else []


def audits_part(rows: Sequence[AuditRow]) -> list[Part]:
    """Return the part that stores audit rows."""
    return [Part("insert_audits", columns([audit_values(CODEC, row) for row in rows]))] if rows else []


async def run_parts(
    link: PostgresLink, composer: Composer, parts: Sequence[Part], expected: Mapping[str, int]
) -> tuple[int, ...]:
    """Run a write and return the outbox `seq`s, in the order of the rows given.

    Raises Conflict when a part did not touch as many rows as `expected`, Gone when rows of deliveries are missing.
    """
    if not parts:
        return ()
    sql, args = composer.write(parts)
    found: dict[str, list[int]] = {}
    for row in await link.fetch(sql, args):
        found.setdefault(row["part"], []).append(row["seq"])
    for name, count in expected.items():
        if len(found.get(name, ())) != count:
            missing = count - len(found.get(name, ()))
            error = Gone if name in _DELIVERIES else Conflict
            raise error(f"{missing} of {count} rows were changed by somebody else since they were read ({name})")
    return tuple(sorted(found.get("insert_outbox", ())))


class PostgresDatabase:
    """Run the user's SQL; see `saga.ports.Database`."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link
        self.writes = 0
        self.failure: Exception | None = None

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows it inserted, updated or deleted."""
        try:
            tag = await self._link.execute(sql, args, Origin.USER)
        except Exception as error:
            self.failure = error
            raise
        word, _, count = tag.partition(" ")
        rows = int(count.rpartition(" ")[2]) if word in _COUNTED else 0
        self.writes += may_have_written(sql, rows)
        return rows

    async def fetch(self, sql: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows as dictionaries."""
        return [dict(row) for row in await self._rows(sql, args)]

    async def fetch_one(self, sql: str, *args: object) -> Mapping[str, Any] | None:
        """Run one statement and return its first row as a dictionary, or None."""
        rows = await self._rows(sql, args)
        return dict(rows[0]) if rows else None

    async def _rows(self, sql: str, args: Sequence[object]) -> list[Record]:
        try:
            rows = await self._link.fetch(sql, args, Origin.USER)
        except Exception as error:
            self.failure = error
            raise
        # Without `returning` a change tells nothing about its rows here.
        told = len(rows) if rows or kind_of(sql) is not Kind.CHANGE or "returning" in sql.lower() else 1
        self.writes += may_have_written(sql, told)
        return rows


class PostgresUnit(PostgresLocks):
    """Be one open transaction; see `saga.ports.UnitOfWork`."""

    def __init__(
        self, link: PostgresLink, composer: Composer, service: str, watch: Callable[[], Watch] = unwatched
    ) -> None:
        self.watch = watch
        self._link = link
        self._composer = composer
        self._service = service
        self._database = PostgresDatabase(link)
        self._savepoints = 0
        self._seen: dict[RunId, RunRow] = {}

    @property
    def db(self) -> Database:
        """Return the user's door to this transaction."""
        return self._database

    @property
    def connection(self) -> Any:
        """Return the asyncpg connection; taking it counts as a write."""
        self._database.writes += 1
        return self._link.raw

    @property
    def writes(self) -> int:
        """Return how many of the user's statements may have changed a row."""
        return self._database.writes

    @property
    def failure(self) -> Exception | None:
        """Return the error of the user's statement that has aborted this transaction, None while it is sound."""
        return self._database.failure

    async def read(self, sagas: Sequence[str], runs: Sequence[RunId], inbox: Sequence[InboxKey] = ()) -> Snapshot:
        """Read gates, runs, inbox entries and the database clock in one statement."""
        parts = [Part("read_clock", ())]
        if sagas:
            parts.append(Part("read_gates", (self._service, sagas)))
        exact = [run for run in runs if run[1]]
        if exact:
            parts.append(Part("read_runs", [list(column) for column in zip(*exact, strict=True)]))
        if len(exact) < len(runs):
            parts.append(Part("read_sagas", (self._service, [run[0] for run in runs if not run[1]])))
        if inbox:
            parts.append(Part("read_inbox", (self._service, *columns(inbox))))
        sql, args = self._composer.read(parts)
        clock, *rows = await self._link.fetch(sql, args)
        found = [CODEC.as_run(row) for row in rows if row["kind"] == "run"]
        gates = [_as_gate(row) for row in rows if row["kind"] == "gate"]
        runs_found = {(run.saga_id, run.step, run.branch): run for run in found}
        self._seen.update(runs_found)
        return Snapshot(
            now=clock["created_at"],
            gates={gate.saga_id: gate for gate in gates},
            runs=runs_found,
            inbox=frozenset(_as_inbox(row) for row in rows if row["kind"] == "inbox") if inbox else frozenset(),
        )

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes in one statement and return the `seq` of each outbox row, in order.

        Raises Conflict, Gone: then the transaction must be left by an exception (or the savepoint around).
        """
        self._link.check_open()
        parts, expected = self._run_parts(changes)
        if changes.gates:
            parts.append(Part("put_gates", columns([CODEC.gate(gate) for gate in changes.gates])))
        parts += outbox_part(changes.outbox, self._composer.publishing)
        # In the order of the key: two batches that meet wait for each other in one direction only.
        parts += deliveries_part(sorted(changes.insert_deliveries, key=lambda row: row.key or ()))
        if changes.delete_deliveries:
            gone = sorted(changes.delete_deliveries)
            parts.append(Part("delete_deliveries", (gone, len(gone))))
            expected["delete_deliveries"] = len(gone)
        if changes.update_deliveries:
            waiting = [CODEC.delivery_update(row) for row in sorted(changes.update_deliveries, key=lambda row: row.id)]
            parts.append(Part("update_deliveries", [*columns(waiting), len(waiting)]))
            expected["update_deliveries"] = len(waiting)
        if changes.inbox:
            parts.append(Part("insert_inbox", columns([_inbox_values(row) for row in changes.inbox])))
        if changes.release:
            parts.append(Part("release_deliveries", (self._service, changes.release)))
        seqs = await run_parts(self._link, self._composer, parts, expected)
        return seqs or (0,) * len(changes.outbox)

    def _run_parts(self, changes: Changes) -> tuple[list[Part], dict[str, int]]:
        """Return the parts that store runs, and how many rows the update must meet."""
        parts: list[Part] = []
        expected: dict[str, int] = {}
        if changes.insert_runs:
            parts.append(inserted_runs(sorted(changes.insert_runs, key=_by_key)))
        if changes.update_runs:
            parts.append(updated_runs(sorted(changes.update_runs, key=_by_key), self._seen))
            expected["update_runs"] = len(changes.update_runs)
        return parts, expected

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Open a savepoint: an exception out of the context rolls back to it and goes on being raised."""
        self._savepoints += 1
        name = f"saga_{self._savepoints}"
        writes = self._database.writes
        await self._link.execute(f"SAVEPOINT {name}", ())
        try:
            yield
        except BaseException:
            if self._link.in_transaction:
                await self._link.unwind(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
            self._database.writes = writes
            self._database.failure = None
            raise
        await self._link.execute(f"RELEASE SAVEPOINT {name}", ())


def _inbox_values(row: InboxRow) -> Values:
    return (row.service, row.day, row.message_id, row.subscriber)


def _as_inbox(row: Record) -> InboxKey:
    """Decode an entry from the columns it borrows in a read."""
    return (date.fromisoformat(row["branch"]), row["saga_id"], row["step"])


def _as_gate(row: Record) -> GateRow:
    """Decode a gate from the columns it borrows in a read."""
    borrowed = {
        "service": row["tenant"],
        "state": row["status"],
        "mark": row["undo"],
        "mark_number": row["fan_out"],
        "keep_until": row["pending_at"],
    }
    names = ("saga_id", "plan", "expires_at", "traceparent")
    return CODEC.as_gate({**{name: row[name] for name in names}, **borrowed})
