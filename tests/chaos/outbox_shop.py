"""Declare what is published and taken in the outbox run: plain events, a saga of two steps, and their tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from saga import Event, Refusal, Retry, Run, Saga, Service

KEYS = 300
SHAKY = 0.02
"""The share of events whose first attempt at one of the subscribers fails."""

SHOP_TABLES = """
create table counter (key text primary key, n integer not null);
create table written (message_id text not null, uid text not null, key text, n integer not null);
create table placed (order_id text not null);
"""
DESK_TABLES = """
create table kept (id bigint generated always as identity, uid text, key text, n integer);
create table shaken (id bigint generated always as identity, uid text, key text, n integer);
create table effect (order_id text, what text);
"""

buying = Saga("buying", version=1, timeout=timedelta(minutes=15))
shop, stock, till, reader = Service("shop"), Service("stock"), Service("till"), Service("reader")


class Moved(Event, name="moved", version=1):
    """Be an event with a key, and its place among those of the key."""

    uid: str
    key: str
    number: int


class Noted(Event, name="noted", version=1):
    """Be an event without a key."""

    uid: str


class Bought(Event, name="bought", version=1):
    order_id: str
    declined: bool


class Reserved(Event, name="reserved", version=1):
    order_id: str
    declined: bool


class Paid(Event, name="paid", version=1):
    order_id: str


class Declined(Refusal, name="declined", version=1):
    order_id: str


place = shop.starts(buying, Bought)


@stock.step(buying)
async def reserve(bought: Bought, run: Run) -> Reserved:
    await _effect(run, bought.order_id, "reserved")
    return Reserved(order_id=bought.order_id, declined=bought.declined)


@reserve.compensation
async def release(reserved: Reserved, run: Run) -> None:
    await _effect(run, reserved.order_id, "released")


@till.step(buying)
async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
    if reserved.declined:
        return Declined(order_id=reserved.order_id)
    await _effect(run, reserved.order_id, "paid")
    return Paid(order_id=reserved.order_id)


@pay.compensation
async def pay_back(paid: Paid, run: Run) -> None:
    await _effect(run, paid.order_id, "paid back")


async def _effect(run: Run, order_id: str, what: str) -> None:
    await run.db.execute("insert into effect values ($1, $2)", order_id, what)


@reader.on(Moved, source=shop)
async def keep(event: Moved, run: Run) -> None:
    await _handled(run, "kept", event.uid, event.key, event.number)


@reader.on(Noted, source=shop)
async def keep_note(event: Noted, run: Run) -> None:
    await _handled(run, "kept", event.uid, None, 0)


@reader.on(
    Moved, source=shop, timeout=timedelta(seconds=5), retry=Retry(attempts=20, base_seconds=0.05, cap_seconds=1.0)
)
async def shake(event: Moved, run: Run) -> None:
    await _handled(run, "shaken", event.uid, event.key, event.number)
    if run.attempt == 1 and int(event.uid[:4], 16) < SHAKY * 0x10000:
        raise RuntimeError("the first attempt fails")


async def _handled(run: Run, table: str, uid: str, key: str | None, number: int) -> None:
    await run.db.execute(f"insert into {table} (uid, key, n) values ($1, $2, $3)", uid, key, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """Say where everything is."""

    folder: Path
    kafka: str
    shop: str
    desk: str

    def up(self, name: str) -> Path:
        """Return the file a process touches once it is up."""
        return self.folder / f"{name}.up"

    @property
    def stop(self) -> Path:
        """Return the file that tells writers to stop."""
        return self.folder / "stop"
