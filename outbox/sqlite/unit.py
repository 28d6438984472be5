"""Be one open transaction on SQLite: the runtime's reads and writes, and the user's door."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from anyio.lowlevel import checkpoint_if_cancelled

from outbox import statements
from outbox.audits import audit_values
from outbox.codec import Codec, from_micros, to_micros
from outbox.messages import outbox_values
from outbox.sqlite.driver import ENDED_INSIDE, Connection, Outcome, run, run_keyed
from outbox.sqlite.locks import SqliteLocks
from saga._core.audit import AuditRow
from saga._core.rows import Changes, DeliveryRow, GateRow, InboxKey, OutboxRow, RunId, RunRow, Snapshot
from saga.errors import Conflict, Gone, SettingsError, StoreError
from saga.ports import Clock, Database, Watch, unwatched

if TYPE_CHECKING:
    from outbox.sqlalchemy.lite import LiteTurn

CODEC = Codec(to_micros, from_micros)

Queries = Mapping[str, str]


def insert_outbox(connection: Connection, sql: Queries, rows: Sequence[OutboxRow], now: int) -> tuple[int, ...]:
    """Store outbox rows and return their `seq`s."""
    return tuple(run(connection, sql["insert_outbox"], (*outbox_values(row), now)).last_id for row in rows)


def insert_deliveries(connection: Connection, sql: Queries, rows: Sequence[DeliveryRow], now: int) -> None:
    """Store waiting deliveries; one whose key is stored is merged into that row."""
    for row in rows:
        run(connection, sql["insert_delivery"], (*CODEC.delivery(row), now))


def insert_audits(connection: Connection, sql: Queries, rows: Sequence[AuditRow]) -> None:
    """Store audit rows."""
    for row in rows:
        run(connection, sql["insert_audit"], audit_values(CODEC, row))


def update(connection: Connection, sql: str, args: Sequence[object], what: str) -> None:
    """Update one row; raises Conflict when it is not there as it was read."""
    if run(connection, sql, args).touched != 1:
        raise Conflict(f"{what} was changed by somebody else since it was read")


def touch_delivery(connection: Connection, sql: str, args: Sequence[object]) -> None:
    """Update or delete one waiting delivery, its ID being the first argument; raises Gone when it does not wait."""
    if run(connection, sql, args).touched != 1:
        raise Gone(f"waiting delivery {args[0]} has been dealt with by somebody else")


class SqliteDatabase:
    """Run the user's SQL; see `saga.ports.Database`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.writes = 0

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows it inserted, updated or deleted."""
        outcome = await self._run(sql, args)
        return 0 if statements.kind_of(sql) is statements.Kind.READ else outcome.touched

    async def fetch(self, sql: str, *args: object) -> list[Mapping[str, Any]]:
        """Run one statement and return its rows as dictionaries."""
        return [dict(row) for row in (await self._run(sql, args)).rows]

    async def fetch_one(self, sql: str, *args: object) -> Mapping[str, Any] | None:
        """Run one statement and return its first row as a dictionary, or None."""
        rows = (await self._run(sql, args)).rows
        return dict(rows[0]) if rows else None

    async def _run(self, sql: str, args: Sequence[object]) -> Outcome:
        await checkpoint_if_cancelled()
        outcome = run(self._connection, statements.numbered(sql), [_bindable(arg) for arg in args])
        self.writes += bool(outcome.changed) or statements.kind_of(sql) is statements.Kind.OTHER
        return outcome


async def _no_pause() -> None:
    pass


def _bindable(value: object) -> object:
    """Return what SQLite can store of the values that PostgreSQL's driver takes: text for what it has no type for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else value


class SqliteUnit(SqliteLocks):
    """Be one open transaction; see `saga.ports.UnitOfWork`."""

    def __init__(
        self,
        connection: Connection,
        sql: Queries,
        service: str,
        clock: Clock,
        watch: Callable[[], Watch] | None = None,
    ) -> None:
        """Work on a transaction of ours, or with `watch` on somebody else's: that may be in a thread without a loop."""
        self.watch = watch or unwatched
        self._pause = checkpoint_if_cancelled if watch is None else _no_pause
        self._connection = connection
        self._sql = sql
        self._service = service
        self._clock = clock
        self._database = SqliteDatabase(connection)
        self._savepoints = 0
        self._turns: list[LiteTurn] = []

    @property
    def db(self) -> Database:
        """Return the user's door to this transaction."""
        return self._database

    @property
    def connection(self) -> Any:
        """Return the sqlite3 connection; taking it counts as a write."""
        self._database.writes += 1
        return self._connection

    def open_session(self) -> LiteTurn:
        """Begin a session of SQLAlchemy's on this transaction; raises SettingsError without the extra."""
        if importlib.util.find_spec("sqlalchemy") is None:
            raise SettingsError("run.session needs the extra [sqlalchemy]: pip install 'saga-choreography[sqlalchemy]'")
        from outbox.sqlalchemy.lite import LiteTurn  # noqa: PLC0415 - the core install has no SQLAlchemy

        turn = LiteTurn(self._connection, self._database)
        self._turns.append(turn)
        return turn

    async def flush_sessions(self) -> None:
        """Write what is left in sessions, where nobody does that handler by handler; raises as SQLAlchemy."""
        for turn in self._turns:
            await turn.flush()

    async def close_sessions(self) -> None:
        """End all sessions; what was not written is dropped."""
        for turn in self._turns:
            await turn.close()

    @property
    def writes(self) -> int:
        """Return how many of the user's statements may have changed a row."""
        return self._database.writes

    @property
    def failure(self) -> Exception | None:
        """Return None: a failed statement does not abort a transaction of SQLite."""
        return None

    async def read(self, sagas: Sequence[str], runs: Sequence[RunId], inbox: Sequence[InboxKey] = ()) -> Snapshot:
        """Read gates, runs, inbox entries and the clock; nobody else writes while this transaction is open."""
        await self._pause()
        gates: dict[str, GateRow] = {}
        for saga_id in sagas:
            for row in run(self._connection, self._sql["read_gate"], (saga_id, self._service)).rows:
                gates[saga_id] = CODEC.as_gate(row)
        found: dict[RunId, RunRow] = {}
        for saga_id, step, branch in runs:
            name, args = ("load_run", (saga_id, step, branch)) if step else ("load_saga", (saga_id, self._service))
            for row in run(self._connection, self._sql[name], args).rows:
                known = CODEC.as_run(row)
                found[known.saga_id, known.step, known.branch] = known
        sql = self._sql["read_inbox"]
        taken = frozenset(key for key in inbox if run(self._connection, sql, self._entry(*key)).rows)
        return Snapshot(now=self._clock.now(), gates=gates, runs=found, inbox=taken)

    def _entry(self, day: date, message_id: str, subscriber: str) -> tuple[object, ...]:
        return (day.isoformat(), self._service, message_id, subscriber)

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes and return the `seq` of each outbox row, in order.

        Raises Conflict, Gone: then the transaction must be left by an exception (or the savepoint around).
        """
        await self._pause()
        connection, sql, now = self._connection, self._sql, to_micros(self._clock.now())
        if not connection.in_transaction:
            raise StoreError(ENDED_INSIDE)
        for row in changes.insert_runs:
            run_keyed(connection, sql["insert_run"], CODEC.run(row))
        for row in changes.update_runs:
            update(connection, sql["update_run"], (*CODEC.run(row), row.revision), f"run {row.step} of {row.saga_id}")
        for gate in changes.gates:
            run(connection, sql["put_gate"], CODEC.gate(gate))
        seqs = insert_outbox(connection, sql, changes.outbox, now)
        for number in changes.delete_deliveries:
            touch_delivery(connection, sql["delete_delivery"], (number,))
        for waiting in changes.update_deliveries:
            touch_delivery(connection, sql["update_delivery"], CODEC.delivery_update(waiting))
        insert_deliveries(connection, sql, changes.insert_deliveries, now)
        for entry in changes.inbox:
            values = (entry.day.isoformat(), entry.service, entry.message_id, entry.subscriber)
            run_keyed(connection, sql["insert_inbox"], values)
        for saga_id in changes.release:
            run(connection, sql["release_delivery"], (self._service, saga_id, now))
        return seqs

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Open a savepoint: an exception out of the context rolls back to it and goes on being raised.

        Rolled back, no session knows an object that came up inside.
        """
        if not self._turns:
            async with self._savepoint():
                try:
                    yield
                except BaseException:
                    for turn in self._turns:
                        await turn.close()
                    raise
            return
        from outbox.sqlalchemy.session import sessions_around  # noqa: PLC0415 - as above

        async with sessions_around(self._turns, self._savepoint()):
            yield

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[None]:
        self._savepoints += 1
        name = f"saga_{self._savepoints}"
        writes = self._database.writes
        run(self._connection, f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:
                run(self._connection, f"ROLLBACK TO {name}")
                run(self._connection, f"RELEASE {name}")
            self._database.writes = writes
            raise
        run(self._connection, f"RELEASE {name}")
