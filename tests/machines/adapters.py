"""Open the stores that a machine drives: SQLite with a clock object, PostgreSQL with its own clock replaced by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Protocol

import asyncpg

from outbox.audits import as_audit
from outbox.codec import Codec
from outbox.messages import as_outbox
from outbox.postgres import PostgresCoordinationStore, PostgresSettings, PostgresStore
from outbox.postgres.unit import CODEC as POSTGRES_CODEC
from outbox.sqlite import SqliteCoordinationStore, SqliteStore
from outbox.sqlite.unit import CODEC as SQLITE_CODEC
from saga._core.audit import AuditRow
from saga._core.rows import DeliveryRow, GateRow, OutboxRow, RunId, RunRow
from saga.ports import Claim, CoordinationStore, Store
from tests.contracts.store_rows import NOW

_NUMBERS = count(1)
SMALL = PostgresSettings(pool_size=3)

# `clock_timestamp()` of a schema that is searched before pg_catalog: statements and defaults ask the machine's clock.
VIRTUAL_CLOCK = """
    create table machine_clock (at timestamptz not null);
    insert into machine_clock values ('2026-03-01 12:00:00.123456+00');
    create function public.clock_timestamp() returns timestamptz language sql volatile
        as 'select at from public.machine_clock';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Be everything a participant's database holds; `things` are the user's own rows."""

    runs: Mapping[RunId, RunRow]
    gates: Mapping[tuple[str, str], GateRow]
    deliveries: Sequence[DeliveryRow]
    outbox: Sequence[OutboxRow]
    things: Sequence[str]


class Bench(Protocol):
    """Be one database with two stores of each kind on it, and its clock."""

    store: Store
    other: Store
    coordination: CoordinationStore
    other_coordination: CoordinationStore

    async def set_now(self, at: datetime) -> None: ...

    async def tables(self) -> Tables: ...

    async def audits(self) -> Sequence[AuditRow]: ...


async def read_tables(store: Store, codec: Codec) -> Tables:
    """Read a whole database through the user's door."""
    async with store.unit(Claim(service="reader", sagas=())) as unit:
        runs = [codec.as_run(row) for row in await unit.db.fetch("select * from saga_run")]
        gates = [codec.as_gate(row) for row in await unit.db.fetch("select * from saga_gate")]
        deliveries = await unit.db.fetch("select * from saga_delivery order by id")
        outbox = await unit.db.fetch("select * from saga_outbox order by seq")
        things = await unit.db.fetch("select name from thing order by name")
    return Tables(
        runs={(row.saga_id, row.step, row.branch): row for row in runs},
        gates={(row.saga_id, row.service): row for row in gates},
        deliveries=[codec.as_delivery(row) for row in deliveries],
        outbox=[as_outbox(row) for row in outbox],
        things=[row["name"] for row in things],
    )


async def read_audits(store: Store, codec: Codec) -> Sequence[AuditRow]:
    async with store.unit(Claim(service="reader", sagas=())) as unit:
        return [as_audit(codec, row) for row in await unit.db.fetch("select * from saga_audit order by id")]


@dataclass
class ManualClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class SqliteBench:
    clock: ManualClock = field(default_factory=ManualClock)
    store: Any = field(init=False)
    other: Any = field(init=False)
    coordination: Any = field(init=False)
    other_coordination: Any = field(init=False)

    def __post_init__(self) -> None:
        name = f"machine{next(_NUMBERS)}"
        self.store, self.other = (SqliteStore(":memory:", name=name, clock=self.clock) for _ in range(2))
        self.coordination, self.other_coordination = (
            SqliteCoordinationStore(":memory:", name=name, clock=self.clock) for _ in range(2)
        )

    async def set_now(self, at: datetime) -> None:
        self.clock.at = at

    async def tables(self) -> Tables:
        return await read_tables(self.store, SQLITE_CODEC)

    async def audits(self) -> Sequence[AuditRow]:
        return await read_audits(self.store, SQLITE_CODEC)


@dataclass
class PostgresBench:
    url: str
    hand: Any
    store: Any = field(init=False)
    other: Any = field(init=False)
    coordination: Any = field(init=False)
    other_coordination: Any = field(init=False)

    def __post_init__(self) -> None:
        self.store, self.other = (PostgresStore(self.url, settings=SMALL) for _ in range(2))
        self.coordination, self.other_coordination = (
            PostgresCoordinationStore(self.url, settings=SMALL) for _ in range(2)
        )

    async def set_now(self, at: datetime) -> None:
        await self.hand.execute("update machine_clock set at = $1", at)

    async def tables(self) -> Tables:
        return await read_tables(self.store, POSTGRES_CODEC)

    async def audits(self) -> Sequence[AuditRow]:
        return await read_audits(self.store, POSTGRES_CODEC)


TABLES = (
    *("saga_run", "saga_gate", "saga_lock", "saga_lock_queue", "saga_outbox", "saga_delivery", "saga_audit"),
    *("saga_lease", "saga_instance", "saga_cursor", "saga_plan", "thing"),
)

Opened = Callable[[], AbstractAsyncContextManager[Bench]]
"""Open an empty database for one example."""


@asynccontextmanager
async def _ready(bench: Bench) -> AsyncGenerator[None]:
    async with bench.store, bench.other, bench.coordination, bench.other_coordination:
        await bench.store.migrate()
        await bench.coordination.migrate()
        async with bench.store.unit(Claim(service="reader", sagas=())) as unit:
            await unit.db.execute("create table thing (name text primary key)")
        yield


Changed = Callable[[Mapping[str, str]], Mapping[str, str]]


@asynccontextmanager
async def sqlite(changed: Changed = dict) -> AsyncGenerator[Opened]:
    """Give every example a database in memory of its own; `changed` may put other statements in place of ours."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Bench]:
        bench = SqliteBench()
        for store in (bench.store, bench.other, bench.coordination, bench.other_coordination):
            store._sql = changed(store._sql)
        async with _ready(bench):
            yield bench

    yield opened


@asynccontextmanager
async def postgres(url: str) -> AsyncGenerator[Opened]:
    """Give all examples one database, emptied in between."""
    hand: Any = await asyncpg.connect(url)
    try:
        await hand.execute(VIRTUAL_CLOCK)
        name = await hand.fetchval("select current_database()")
        await hand.execute(f'alter database "{name}" set search_path = public, pg_catalog')
        bench = PostgresBench(url, hand)

        @asynccontextmanager
        async def opened() -> AsyncGenerator[Bench]:
            await hand.execute("; ".join(f"delete from {table}" for table in TABLES))
            await bench.set_now(NOW)
            yield bench

        async with _ready(bench):
            yield opened
    finally:
        await hand.close()
