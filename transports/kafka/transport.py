"""Carry messages over Kafka."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from anyio.lowlevel import checkpoint

from saga.errors import TransportRefused
from saga.ports import GroupSpec, OnAssigned, OnRevoked, TopicSpec
from transports.kafka.admin import Admin
from transports.kafka.consumer import Consumer
from transports.kafka.logs import install
from transports.kafka.producer import Producer
from transports.kafka.publisher import KafkaPublisher
from transports.kafka.settings import KafkaSettings, instance_id
from transports.kafka.subscription import KafkaSubscription, KafkaTable
from transports.kafka.topics import creation, problems


class KafkaTransport:
    """Open producers, group members and tables on one cluster; asyncio only.

    Members are static (`group.instance.id = <group>-<slot>`): one that comes back with its slot goes on
    at once, one that stays away keeps its partitions for the session timeout. With Positions.BROKER
    the committed offsets count and what `on_assigned` returns does not. Nothing rests on Kafka
    transactions; at-least-once, in order per key.
    """

    def __init__(self, bootstrap: str, *, settings: KafkaSettings | None = None) -> None:
        self._bootstrap = bootstrap
        self._settings = settings or KafkaSettings()

    def __repr__(self) -> str:
        return f"KafkaTransport({self._bootstrap!r}, settings={self._settings!r})"

    async def __aenter__(self) -> Self:
        install()
        await checkpoint()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await checkpoint()

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing with the broker's default replication, and check what exists.

        Raises TransportRefused naming every topic, the setting, what was found and what is wanted;
        TransportUnavailable.
        """
        admin = Admin(self._bootstrap, self._settings)
        await admin.start()
        try:
            partitions = await admin.topics()
            missing = {spec.name: creation(spec) for spec in topics if spec.name not in partitions}
            existing = [spec.name for spec in topics if spec.name in partitions]
            policies = await admin.cleanup_policies(existing) if existing else {}
            found = problems(topics, partitions, policies)
            if not found and missing:
                failed = await admin.create(missing)
                found = [f"topic {name!r}: cannot be created: {reason}" for name, reason in failed.items()]
            if found:
                raise TransportRefused("; ".join(found))
        finally:
            await admin.stop()

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[KafkaPublisher]:
        """Open a publisher; it connects with its first publish."""
        await checkpoint()
        publisher = KafkaPublisher(lambda: Producer(self._bootstrap, self._settings), self._settings)
        try:
            yield publisher
        finally:
            await publisher.close()

    @asynccontextmanager
    async def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AsyncGenerator[KafkaSubscription]:
        """Join a group; the member has its partitions when the context is entered.

        `on_revoked` is not called on leaving: drain and commit before. Raises TransportRefused,
        TransportUnavailable.
        """
        instance = instance_id(group.name, group.slot, group.topics)

        def connect() -> Consumer:
            return Consumer(self._bootstrap, self._settings, group=group.name, instance=instance)

        subscription = KafkaSubscription(group, connect, on_assigned, on_revoked, self._settings)
        try:
            await subscription.open()
            yield subscription
        finally:
            await subscription.close()

    @asynccontextmanager
    async def table(self, topic: str) -> AsyncGenerator[KafkaTable]:
        """Open a reader of a compacted topic, at its beginning."""
        consumer = Consumer(self._bootstrap, self._settings)
        partitions = await consumer.read_all(topic)
        try:
            yield KafkaTable(consumer, partitions)
        finally:
            await consumer.stop()
