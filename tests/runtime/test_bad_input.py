"""Send everything a topic can hold: it ends in dead letters with its raw bytes, and the partition goes on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from saga import Ending
from saga._core.cloudevents import message
from saga._core.envelope import Envelope, Message
from saga._core.topics import OUTCOMES, RUNS
from saga._core.words import Kind
from saga.ports import Publisher
from tests.runtime.world import Placed, Running, World, running, running_for_real
from tests.testbed.services import Kafka

pytestmark = pytest.mark.anyio

SAGA = "00000000-0000-5000-8000-000000000001"


def envelope(plan: str) -> Envelope:
    """Return a sound event, to be spoilt."""
    now = datetime.now(UTC)
    return Envelope(
        id="1",
        source="/saga/orders",
        type="order.placed.v1",
        kind=Kind.EVENT,
        time=now,
        payload=b'{"order":"1"}',
        saga_id=SAGA,
        plan=plan,
        step="orders.start",
        expires_at=now + timedelta(days=1),
    )


def bad_events(plan: str) -> dict[str, tuple[Message, str]]:
    """Return spoilt messages by name, each with a word of the reason it must be buried with."""
    good = envelope(plan)
    key = SAGA

    def on(topic: str, **changes: object) -> Message:
        return message(replace(good, **changes), topic, key)  # type: ignore[arg-type]

    events = "orders.events"
    return {
        "no headers": (Message(topic=events, key=b"1", value=b"{}"), "specversion"),
        "tombstone": (Message(topic=events, key=b"1", value=None), "no value"),
        "not json": (on(events, payload=b"\xff\x00{"), "payload"),
        "wrong fields": (on(events, payload=b'{"order":{"a":1}}'), "payload does not fit"),
        "too deep": (on(events, payload=b'{"order":' + b"[" * 5000 + b"]" * 5000 + b"}"), "nest"),
        "unknown type": (on(events, type="order.eaten.v9"), "has no event"),
        "wrong topic": (on("inventory.events"), "not accepted from topic"),
        "event among commands": (on("payment.commands"), "commands"),
        "command to another service": (on("payment.commands", kind=Kind.CLOSE, payload=b"[]"), "object"),
        "bad undo": (on("payment.commands", kind=Kind.UNDO, payload=b'{"run":7}'), "run"),
        "record among events": (on(events, kind=Kind.RUN), "does not belong"),
        "bad outcome": (on(OUTCOMES, kind=Kind.OUTCOME, payload=b'{"ending":"maybe"}'), "ending"),
        "bad record": (on(RUNS, kind=Kind.RUN, payload=b'{"run":1}'), "run"),
        "event among records": (on(RUNS), "does not belong"),
    }


async def send(publisher: Publisher, messages: list[Message]) -> None:
    """Publish without waiting for what nobody may ever commit."""
    with anyio.fail_after(30):
        for error in await publisher.publish(messages):
            assert error is None


async def check(up: Running) -> None:
    """Send the bad ones, then see a saga complete on the same partitions and the dead letters kept."""
    plan = up.app.plans[0].hash
    cases = bad_events(plan)
    big = message(replace(envelope(plan), payload=b'{"order":"' + b"x" * 1_000_000 + b'"}'), "orders.events", SAGA)
    headers = (*big.headers, *((f"h{n}", b"x" * 1000) for n in range(40)))
    cases["headers too large"] = (replace(big, value=b"{}", headers=headers), "header")
    async with up.transport.publisher() as publisher:
        await send(publisher, [case for case, _ in cases.values()])
        unknown = message(replace(envelope("0" * 64), id="2"), "orders.events", SAGA)
        await send(publisher, [unknown])
    ended = await (await up.world.place(Placed(order="1"))).outcome(60)
    assert ended.ending is Ending.COMPLETED
    with anyio.fail_after(30):
        while True:
            rows = await up.rows("select * from saga_delivery")
            if len([row for row in rows if row["reason"] == "dead"]) >= len(cases):
                break
    dead = [
        (row["raw_topic"], row["raw_value"] and bytes(row["raw_value"]), row["error"])
        for row in rows
        if row["reason"] == "dead"
    ]
    for name, (sent, word) in cases.items():
        reasons = [error for topic, value, error in dead if (topic, value) == (sent.topic, sent.value)]
        assert any(word in reason for reason in reasons), (name, reasons)
    assert len(dead) == len(cases)
    parked = [row for row in rows if row["reason"] == "parked"]
    assert [row["saga_id"] for row in parked] == [SAGA], "an unknown plan is parked, not dead"
    assert await up.rows("select * from saga_run where saga_id = $1", SAGA) == []


def embedded() -> AbstractAsyncContextManager[Running]:
    """Return a small world in this process."""
    return running(World())


async def test_bad_input_embedded() -> None:
    async with embedded() as up:
        await check(up)


@pytest.mark.kafka
@pytest.mark.postgres
async def test_bad_input_on_kafka_and_postgresql(kafka: Kafka, database: str) -> None:
    async with running_for_real(World(), database, kafka.bootstrap) as up:
        await check(up)
