"""The outbox alone on a real Kafka and a real PostgreSQL: two processes' worth of relays, one order a key."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from saga.outbox import Outbox
from saga.ports import GroupSpec, TopicPartition
from tests.outbox.joined import OrderPlaced
from tests.testbed.services import Kafka
from transports.urls import open_transport

pytestmark = [pytest.mark.anyio, pytest.mark.kafka, pytest.mark.postgres]

EVENTS = 60
KEYS = 5


async def test_events_of_a_key_arrive_in_order(kafka: Kafka, database: str) -> None:
    broker = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    engine = create_async_engine(database.replace("postgresql", "postgresql+asyncpg"))
    sessions = async_sessionmaker(engine)
    outboxes = [Outbox("orders", store=database, transport=broker, partitions=3) for _ in range(2)]
    async with outboxes[0], outboxes[1]:
        for number in range(EVENTS):
            async with sessions.begin() as session:
                event = OrderPlaced(order=str(number % KEYS), number=number)
                await outboxes[number % 2].join(session).publish(event, key=event.order)
    await engine.dispose()
    found: dict[str, list[int]] = {}

    async def nothing(partitions: frozenset[TopicPartition]) -> None:
        del partitions
        await anyio.lowlevel.checkpoint()

    async def earliest(partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        del partitions
        await anyio.lowlevel.checkpoint()
        return {}

    group = GroupSpec(name="reader", slot="0", topics=("orders.events",))
    with anyio.fail_after(60):
        async with (
            open_transport(broker) as transport,
            transport.subscribe(group, on_assigned=earliest, on_revoked=nothing) as subscription,
        ):
            while sum(map(len, found.values())) < EVENTS:
                for delivery in await subscription.fetch(100, 1.0):
                    event = OrderPlaced.model_validate_json(delivery.value or b"")
                    assert delivery.key == event.order.encode()
                    found.setdefault(event.order, []).append(event.number)
    assert found == {str(key): list(range(key, EVENTS, KEYS)) for key in range(KEYS)}
