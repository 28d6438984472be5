"""Carry messages over Kafka."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from anyio.lowlevel import checkpoint

from saga.errors import TransportRefused
from saga.ports import GroupSpec, OnAssigned, OnRevoked, TopicSpec
from transports.kafka.admin import Admin, checked, visible
from transports.kafka.consumer import Consumer
from transports.kafka.late import Lateness
from transports.kafka.logs import install
from transports.kafka.producer import Producer
from transports.kafka.publisher import KafkaPublisher
from transports.kafka.settings import KafkaSettings, instance_id
from transports.kafka.subscription import KafkaSubscription
from transports.kafka.table import KafkaTable
from transports.kafka.topics import creation, raise_findings

_log = logging.getLogger("transports.kafka")


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
        install()

    def __repr__(self) -> str:
        return f"KafkaTransport({self._bootstrap!r}, settings={self._settings!r})"

    async def __aenter__(self) -> Self:
        await checkpoint()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await checkpoint()

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing and check what exists: partitions, cleanup, retention, replicas, message size.

        Raises TransportRefused naming every topic, the setting, what was found, what is wanted and the command
        that mends it; TransportUnavailable, also while too few replicas are in sync. What is only risky is
        logged as a warning.
        """
        admin = Admin(self._bootstrap, self._settings)
        await admin.start()
        try:
            found, brokers = await admin.topics()
            missing = {s.name: creation(s, self._settings.replication_factor) for s in topics if s.name not in found}
            wrong = await checked(admin, self._bootstrap, topics, found, brokers, self._settings)
            raise_findings(wrong)
            if missing:
                failed = await admin.create(missing)
                if failed:
                    raise TransportRefused("; ".join(f"topic {name!r}: {why}" for name, why in failed.items()))
                found, brokers = await visible(admin, missing.keys())
                wrong = await checked(admin, self._bootstrap, topics, found, brokers, self._settings)
            for finding in wrong:
                _log.warning("%s", finding.text)
        finally:
            await admin.stop()

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[KafkaPublisher]:
        """Open a publisher; it connects with its first publish."""
        await checkpoint()
        why = Lateness(self._bootstrap, self._settings).why
        publisher = KafkaPublisher(lambda: Producer(self._bootstrap, self._settings), self._settings, why)
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
            yield KafkaTable(consumer, topic, partitions, self._settings.stalled_after_seconds)
        finally:
            await consumer.stop()
