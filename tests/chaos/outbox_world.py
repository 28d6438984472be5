"""Be the world of the outbox run: its databases, its processes, and what can be read when all is over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer

from outbox.urls import open_store
from saga._core.manifest import manifest_of
from saga._core.records import decode_outcome
from saga._core.resolve import resolve_all
from saga.cli.planfiles import build_plans, write_plans
from tests.chaos.outbox_audit import Found, Order, Sent, Written
from tests.chaos.outbox_processes import NAMES, live
from tests.chaos.outbox_shop import DESK_TABLES, KEYS, SHOP_TABLES, There, reader, shop, stock, till

PREFIX = "chaos."
QUERY = f"prefix={PREFIX}&publish_timeout_seconds=4"
"""A broker is away for longer than that, so that some of what is published fails, and what comes next does not."""
TOPIC = f"{PREFIX}shop.events"
PLAIN_EVENTS = {b"moved.v1", b"noted.v1"}
END_SECONDS = 25.0

LEFT = {
    "outbox row": "select seq || ' of ' || aggregateid as what from saga_outbox",
    "delivery": "select reason || ' at ' || service || ': ' || error as what from saga_delivery",
}


@dataclass(slots=True)
class Fork:
    """Be one process that may die, freeze and come back; only a process forked here is ever signalled."""

    name: str
    there: There
    seed: int
    lives: int = 0
    frozen: bool = False
    process: ForkServerProcess | None = field(default=None, repr=False)

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.is_alive()

    @property
    def up(self) -> bool:
        """Tell whether the process is at work."""
        return self.alive and not self.frozen and self.there.up(self.name).exists()

    @property
    def owner(self) -> str:
        """Return what the names of its relays begin with."""
        return f"{socket.gethostname()}-{self.process.pid if self.process else 0}-"

    def start(self) -> None:
        """Fork the process unless it is alive; it need not be up when this returns."""
        if self.alive:
            return
        self.lives += 1
        self.there.up(self.name).unlink(missing_ok=True)
        forking = multiprocessing.get_context("forkserver")
        self.process = forking.Process(target=live, args=(self.name, self.there, self.seed + self.lives), daemon=True)
        self.process.start()

    def kill(self) -> bool:
        """Kill the process with SIGKILL; False if it was not alive."""
        process = self.process
        if process is None or not process.is_alive():
            return False
        process.kill()
        process.join()
        self.there.up(self.name).unlink(missing_ok=True)
        self.frozen = False
        return True

    def fell(self) -> int | None:
        """Return the exit code of a process that has ended although nobody killed it, once."""
        process = self.process
        if process is None or process.exitcode in (None, -signal.SIGKILL):
            return None
        self.process = None
        self.there.up(self.name).unlink(missing_ok=True)
        return process.exitcode

    def freeze(self, *, thaw: bool = False) -> None:
        """Stop the process as it is, or let it go on."""
        if self.process is not None and self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGCONT if thaw else signal.SIGSTOP)
            self.frozen = not thaw

    def end(self) -> int | None:
        """Wait for the end of a process that was asked to, and kill it after a time; return its exit code."""
        process = self.process
        if process is None:
            return None
        process.join(END_SECONDS)
        self.kill()
        return process.exitcode


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Hold the processes and where everything is."""

    there: There
    bootstrap: str
    forks: dict[str, Fork]

    @classmethod
    async def make(cls, there: There, bootstrap: str, seed: int) -> World:
        """Make the tables, the plan and the processes, which do not run yet."""
        services = [shop, stock, till, reader]
        write_plans(build_plans([manifest_of(each) for each in resolve_all(services)]), there.folder / "plans")
        for url, tables in ((there.shop, SHOP_TABLES), (there.desk, DESK_TABLES)):
            async with open_store(url) as store:
                await store.migrate()  # writers begin before an app or an outbox is up
            await _execute(url, tables)
        await _execute(there.shop, f"insert into counter select 'k' || n, 0 from generate_series(0, {KEYS - 1}) n")
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["tests.chaos.outbox_processes", "outbox.postgres", "transports.kafka"]
        )
        forks = {name: Fork(name, there, seed + 10_000 * place) for place, name in enumerate(NAMES)}
        return cls(there=there, bootstrap=bootstrap, forks=forks)

    def end_all(self) -> dict[str, int | None]:
        """End every process in order and return the exit codes."""
        for fork in self.forks.values():
            if fork.alive and fork.process is not None:
                fork.freeze(thaw=True)
                fork.process.terminate()
        return {name: fork.end() for name, fork in self.forks.items()}

    async def open(self) -> Counter[str]:
        """Return what is not done yet, by what it is."""
        left: Counter[str] = Counter()
        handled: dict[str, int] = {}
        for url in (self.there.shop, self.there.desk):
            left["outbox rows"] += await _count(url, "saga_outbox")
            left["deliveries"] += await _count(url, "saga_delivery where reason <> 'dead'")
        for table in ("kept", "shaken"):
            handled[table] = await _count(self.there.desk, table)
        left["sagas"] = await _count(self.there.shop, "saga_run where step = 'shop.start' and outcome is null")
        left["kept"] = max(0, await _count(self.there.shop, "written") - handled["kept"])
        left["shaken"] = max(0, await _count(self.there.shop, "written where key is not null") - handled["shaken"])
        return +left

    async def found(self) -> Found:
        """Read everything."""
        there = self.there
        written = await _fetch(there.shop, "select message_id, uid, key, n from written")
        ids = {row["uid"]: row["message_id"] for row in written}
        handled = {
            table: _written(await _fetch(there.desk, f"select uid, key, n from {table} order by id"), ids)
            for table in ("kept", "shaken")
        }
        left: list[str] = []
        for name, url in (("shop", there.shop), ("desk", there.desk)):
            for what, sql in LEFT.items():
                left += [f"{name}: {what} {row['what']} is left over" for row in await _fetch(url, sql)]
        return Found(
            written=_written(written, ids),
            sent=await read_topic(self.bootstrap),
            handled=handled,
            in_order=frozenset({"kept"}),
            unkeyed=frozenset({"kept"}),
            placed=[row["order_id"] for row in await _fetch(there.shop, "select order_id from placed")],
            orders=await self._orders(),
            left=left,
        )

    async def _orders(self) -> Sequence[Order]:
        effects: dict[str, Counter[str]] = {}
        for row in await _fetch(self.there.desk, "select order_id, what from effect"):
            effects.setdefault(row["order_id"], Counter())[row["what"]] += 1
        starts = await _fetch(self.there.shop, "select result, outcome from saga_run where step = 'shop.start'")
        found: list[Order] = []
        for row in starts:
            order_id = str(orjson.loads(bytes(row["result"]))["order_id"])
            outcome = decode_outcome(bytes(row["outcome"])) if row["outcome"] is not None else None
            ending = outcome.ending.value if outcome is not None else None
            found.append(Order(order_id=order_id, ending=ending, effects=effects.get(order_id, Counter())))
        return found


async def read_topic(bootstrap: str) -> Sequence[Sent]:
    """Return all plain events of the topic."""
    consumer: Any = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()  # of somebody without a group: all
        ends = await consumer.end_offsets(partitions)
        sent: list[Sent] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            fetched = await consumer.getmany(timeout_ms=1000)
            sent += [_sent(record) for records in fetched.values() for record in records if _is_plain(record)]
        return sent
    finally:
        await consumer.stop()


def _is_plain(record: Any) -> bool:
    return dict(record.headers).get("ce_type") in PLAIN_EVENTS


def _sent(record: Any) -> Sent:
    headers = dict(record.headers)
    body = orjson.loads(record.value)
    return Sent(
        partition=record.partition,
        offset=record.offset,
        message_id=headers["ce_id"].decode(),
        uid=body["uid"],
        key=record.key.decode(),
        number=body.get("number", 0),
        sequence=headers.get("ce_sequence", b"").decode(),
    )


def _written(rows: Sequence[Any], ids: dict[str, str]) -> Sequence[Written]:
    return [
        Written(message_id=ids.get(row["uid"], ""), uid=row["uid"], key=row["key"], number=row["n"]) for row in rows
    ]


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _count(url: str, what: str) -> int:
    return int((await _fetch(url, f"select count(*) as n from {what}"))[0]["n"])


async def _fetch(url: str, sql: str) -> Sequence[Any]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        rows: Sequence[Any] = await connection.fetch(sql, timeout=60)
        return rows
    finally:
        await connection.close()
