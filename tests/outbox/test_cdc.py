"""Let a stand-in for Debezium publish: it builds messages from the table and the documented configuration alone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from outbox.captured import captured_values
from outbox.postgres import PostgresCoordinationStore, PostgresStore
from outbox.sqlite import SqliteStore
from saga import NOTHING, Ending, Event, Refusal, Run, Saga, Service, SettingsError
from saga._core.cloudevents import ATTRIBUTE_HEADERS, decode, encode_headers
from saga._core.envelope import Delivery, Envelope, Message
from saga._core.keeping import Aging, Publishing
from saga._core.limits import Limits
from saga._core.relay import messages_of
from saga._core.rows import Changes, CoordinatorChanges, OutboxRow
from saga._core.words import Kind, Priority
from saga.app import App, Coordinator
from saga.errors import StoreError
from saga.ports import Transport
from tests.contracts.store_rows import NOW, put
from transports import MemoryTransport

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

DOCUMENT = Path(__file__).parents[2] / "docs" / "cdc.md"
ROUTER = "transforms.outbox."
POLL_SECONDS = 0.02


def configuration() -> dict[str, str]:
    """Return the connector's configuration as it stands in the document."""
    found = re.search(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    config: dict[str, str] = json.loads(found[1])["config"]
    return config


def publication() -> str:
    found = re.search(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


class EventRouter:
    """Do with a row what Debezium's event router does, as far as the document asks for it, and nothing else."""

    def __init__(self, config: Mapping[str, str]) -> None:
        left = {name.removeprefix(ROUTER): value for name, value in config.items() if name.startswith(ROUTER)}
        assert config["transforms"] == "outbox"
        assert left.pop("type") == "io.debezium.transforms.outbox.EventRouter"
        self.topic_field = left.pop("route.by.field", "aggregatetype")
        self.topic = left.pop("route.topic.replacement", "outbox.event.${routedByValue}")
        self.id_field = left.pop("table.field.event.id", "id")
        self.key_field = left.pop("table.field.event.key")
        self.payload_field = left.pop("table.field.event.payload", "payload")
        placed = [entry.split(":") for entry in left.pop("table.fields.additional.placement", "").split(",")]
        assert not left, left
        assert all(entry[1] == "header" and len(entry) in (2, 3) for entry in placed)
        self.headers = [(entry[0], entry[-1] if len(entry) == 3 else entry[0]) for entry in placed]
        text = "org.apache.kafka.connect.storage.StringConverter"
        assert config["key.converter"] == config["header.converter"] == text
        assert config["value.converter"] == "io.debezium.converters.BinaryDataConverter"

    def route(self, row: Mapping[str, Any]) -> Message:
        payload = row[self.payload_field]
        assert isinstance(payload, bytes)
        placed = [(alias, str(row[column]).encode()) for column, alias in self.headers]
        return Message(
            topic=self.topic.replace("${routedByValue}", row[self.topic_field]),
            key=row[self.key_field].encode(),
            value=payload,
            headers=(("id", row[self.id_field].encode()), *placed),
        )


@dataclass
class StandIn:
    """Read the captured table in the order of its rows, and publish; it knows nothing else of ours."""

    url: str
    transport: Transport
    sent: list[Message] = field(default_factory=list[Message])

    async def run(self) -> None:
        router, seen = EventRouter(configuration()), set[int]()
        connection = await asyncpg.connect(self.url)
        try:
            async with self.transport.publisher() as publisher, anyio.create_task_group() as tasks:
                while True:
                    rows = await connection.fetch("select * from saga_outbox_cdc order by seq")
                    new = [row for row in rows if row["seq"] not in seen]
                    seen |= {row["seq"] for row in new}
                    messages = [router.route(dict(row)) for row in new]
                    self.sent += messages
                    if messages:
                        tasks.start_soon(publisher.publish, messages)
                    await anyio.sleep(POLL_SECONDS)
        finally:
            with anyio.move_on_after(2, shield=True):
                await connection.close()


# --- a saga ----------------------------------------------------------------------------------------------------------


class Placed(Event, name="cdc.placed", version=1):
    sku: str


class Reserved(Event, name="cdc.reserved", version=1):
    sku: str


class Shipped(Event, name="cdc.shipped", version=1):
    sku: str


class NoVan(Refusal, name="cdc.no_van", version=1):
    sku: str


class Shop:
    """Be an order that is reserved and shipped, or called back where there is no van."""

    def __init__(self) -> None:
        saga = Saga("cdc", version=1, timeout=timedelta(minutes=5))
        orders, stock, ship = map(Service, ("orders", "stock", "ship"))
        self.services = [orders, stock, ship]
        self.place = orders.starts(saga, Placed)
        self.called: list[str] = []

        @stock.step(saga)
        async def reserve(placed: Placed, run: Run) -> Reserved:
            self.called.append(f"reserve {placed.sku}")
            return Reserved(sku=placed.sku)

        @reserve.compensation
        async def release(reserved: Reserved, run: Run) -> None:
            self.called.append(f"release {reserved.sku}")

        @ship.step(saga, compensation=NOTHING)
        async def send(reserved: Reserved, run: Run) -> Shipped | NoVan:
            return NoVan(sku=reserved.sku) if reserved.sku == "piano" else Shipped(sku=reserved.sku)


async def count(url: str, table: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(f"select count(*) from {table}"))
    finally:
        await connection.close()


@asynccontextmanager
async def connected(database: str, shop: Shop) -> AsyncGenerator[tuple[App, StandIn]]:
    async with MemoryTransport() as transport:
        app = App(
            shop.services,
            store=database,
            transport=transport,
            coordinator=Coordinator(),
            publishing=Publishing.CDC,
            drain_seconds=1,
        )
        async with app, anyio.create_task_group() as tasks:
            connector = StandIn(database, transport)
            tasks.start_soon(connector.run)
            yield app, connector
            tasks.cancel_scope.cancel()


async def test_sagas_complete_and_are_undone_by_what_a_connector_reads(database: str) -> None:
    shop = Shop()
    with anyio.fail_after(60):
        async with connected(database, shop) as (_, connector):
            cup = await shop.place(Placed(sku="cup"))
            piano = await shop.place(Placed(sku="piano"))
            assert (await cup.outcome(30)).ending is Ending.COMPLETED
            assert (await piano.outcome(30)).ending is Ending.COMPENSATED
            assert sorted(shop.called) == ["release piano", "reserve cup", "reserve piano"]
            assert await count(database, "saga_outbox") == 0, "the relay has nothing to do"
            assert len(connector.sent) == await count(database, "saga_outbox_cdc")
            topics = {message.topic for message in connector.sent}
            assert topics == {"saga.runs", "saga.outcomes"} | {
                f"{name}.events" for name in ("orders", "stock", "ship")
            } | {f"{name}.commands" for name in ("stock", "ship")}


async def test_what_was_written_for_the_relay_still_goes_out(database: str) -> None:
    shop = Shop()
    with anyio.fail_after(60):
        async with connected(database, shop) as (app, _):
            piano = await shop.place(Placed(sku="piano"))
            assert (await piano.outcome(30)).ending is Ending.COMPENSATED
            row = replace(plain(None), aggregatetype="stock.events")
            async with PostgresStore(database) as elsewhere:
                await put(elsewhere, Changes(outbox=(row,)))
            assert await count(database, "saga_outbox") == 1
            for relay in app._crew.relays if app._crew is not None else ():  # pyright: ignore[reportPrivateUsage]
                relay._tuning = replace(relay._tuning, older_than_seconds=0.0)  # pyright: ignore[reportPrivateUsage]
                relay.sweep_now()
            while await count(database, "saga_outbox"):  # noqa: ASYNC110 - the server does not tell
                await anyio.sleep(POLL_SECONDS)


# --- rows ------------------------------------------------------------------------------------------------------------

EVENT = Envelope(
    id="id-1",
    source="/saga/stock",
    type="stock.reserved.v1",
    kind=Kind.EVENT,
    time=NOW,
    payload=b'{"a":"\xc3\xa4"}',
    saga_id="s1",
    plan="p",
    step="stock.reserve",
    branch="1of2",
    tenant="ä",
    causation_id="id-0",
    expires_at=NOW,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    lane=Priority.URGENT,
)
PLAIN_HEADERS = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"id-2"),
    ("ce_source", b"/saga/stock"),
    ("ce_type", b"stock.level.v1"),
    ("ce_time", b"2026-03-01T12:00:00.000000Z"),
    ("content-type", b"application/json"),
    ("ce_correlationid", b"c"),
    ("ce_tenant", b"acme"),
)


def both(record: bytes | None = b"[]") -> OutboxRow:
    return OutboxRow(
        id=EVENT.id,
        aggregatetype="stock.events",
        aggregateid="s1",
        type=EVENT.type,
        payload=EVENT.payload,
        headers=encode_headers(EVENT),
        record=record,
        record_headers=encode_headers(replace(EVENT, id="id-r", type="saga.run", kind=Kind.RUN, payload=b"[]")),
        service="stock",
    )


def plain(shard: int | None) -> OutboxRow:
    return OutboxRow(
        id="id-2",
        aggregatetype="levels",
        aggregateid="sku",
        type="stock.level.v1",
        payload=b"{}",
        headers=PLAIN_HEADERS,
        service="stock",
        shard=shard,
    )


async def captured(database: str) -> list[Message]:
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch("select * from saga_outbox_cdc order by seq")
    finally:
        await connection.close()
    router = EventRouter(configuration())
    return [router.route(dict(row)) for row in rows]


def said(message: Message) -> dict[str, bytes]:
    return {name: value for name, value in message.headers if value and name != "id"}


def read(message: Message) -> Envelope:
    assert message.value is not None
    headers, value = message.headers, message.value
    return decode(Delivery(topic="t", partition=0, offset=0, key=b"", value=value, headers=headers), Limits())


async def test_a_connector_builds_the_messages_that_the_relay_would(database: str) -> None:
    async with PostgresStore(database) as store, PostgresCoordinationStore(database) as coordination:
        await store.migrate()
        await coordination.migrate()
        store.publish_by(Publishing.CDC)
        coordination.publish_by(Publishing.CDC)
        assert await put(store, Changes(outbox=(both(), plain(None)))) == (0, 0)
        assert await coordination.write(CoordinatorChanges(outbox=(both(None),))) == (0,)
        assert await store.pending() == (0, 0.0)
    found = await captured(database)
    wanted = [message for row in (both(), plain(None), both(None)) for message in messages_of(row)]
    assert [(each.topic, each.key, each.value, said(each)) for each in found] == [
        (each.topic, each.key, each.value, dict(each.headers)) for each in wanted
    ]
    assert [read(each) for each in found] == [read(each) for each in wanted], "empty headers are none"


async def test_the_sequence_of_keyed_events_goes_on_from_the_relays(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        (before,) = await put(store, Changes(outbox=(plain(3),)))
        store.publish_by(Publishing.CDC)
        await put(store, Changes(outbox=(plain(3), both())))
        (event, *others) = await captured(database)
        assert said(event)["ce_sequence"] == f"{before + 1:020}".encode()
        assert all("ce_sequence" not in said(other) for other in others)
        store.publish_by(Publishing.RELAY)
        assert (await put(store, Changes(outbox=(plain(3),))))[0] > before + 3


async def test_rows_go_by_their_age(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
        store.publish_by(Publishing.CDC)
        await put(store, Changes(outbox=(both(), both())))
        assert await store.prune(Aging.CAPTURED, 10, 3600.0) == 0
        assert [await store.prune(Aging.CAPTURED, 3, 0.0) for _ in range(3)] == [3, 1, 0]


async def test_the_documented_publication_can_be_made(database: str) -> None:
    async with PostgresStore(database) as store:
        await store.migrate()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(publication())
        found = await connection.fetchrow("select tablename from pg_publication_tables")
        assert found is not None
        assert found["tablename"] == configuration()["table.include.list"].removeprefix("public.")
        assert configuration()["publication.name"] in publication()
    finally:
        await connection.close()


def test_every_header_has_a_column_and_one_that_has_none_is_refused() -> None:
    placed = {alias for _, alias in EventRouter(configuration()).headers}
    assert ATTRIBUTE_HEADERS | {"traceparent", "ce_sequence"} <= placed
    with pytest.raises(StoreError, match=r"header ce_new .* has no column"):
        captured_values([replace(plain(None), headers=(*PLAIN_HEADERS, ("ce_new", b"1")))])


async def test_only_postgresql_has_a_log_to_read(tmp_path: Path) -> None:
    async with SqliteStore(str(tmp_path / "one.db")) as store:
        app = App(Shop().services, store=store, transport="memory://", publishing=Publishing.CDC)
        with pytest.raises(SettingsError, match="needs a PostgreSQL store"):
            async with app:
                pass
