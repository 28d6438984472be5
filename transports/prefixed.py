"""Put a prefix before every topic and group name, so that several fleets can share one broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Self

from saga._core.envelope import Delivery, Message
from saga._core.frozen import builder
from saga.ports import (
    GroupSpec,
    OnAssigned,
    OnRevoked,
    Publisher,
    Subscription,
    Table,
    TopicPartition,
    TopicSpec,
    Transport,
)

_delivery, _message = builder(Delivery), builder(Message)


class PrefixedTransport:
    """Be another transport whose names all begin with `prefix`; who uses it does not see the prefix."""

    def __init__(self, inner: Transport, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inner.__aexit__(*exc)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create and check topics; see the port."""
        await self._inner.ensure_topics([replace(topic, name=self._prefix + topic.name) for topic in topics])

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[Publisher]:
        """Open a publisher; see the port."""
        async with self._inner.publisher() as publisher:
            yield _Publisher(publisher, self._prefix)

    @asynccontextmanager
    async def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AsyncGenerator[Subscription]:
        """Join a group; see the port."""
        names = _Names(self._prefix)

        async def assigned(places: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
            return names.out(await on_assigned(frozenset(map(names.without, places))))

        async def revoked(places: frozenset[TopicPartition]) -> None:
            await on_revoked(frozenset(map(names.without, places)))

        topics = tuple(self._prefix + topic for topic in group.topics)
        first = frozenset(self._prefix + topic for topic in group.first)
        spec = replace(group, name=self._prefix + group.name, topics=topics, first=first)
        async with self._inner.subscribe(spec, on_assigned=assigned, on_revoked=revoked) as subscription:
            yield _Subscription(subscription, names)

    @asynccontextmanager
    async def table(self, topic: str) -> AsyncGenerator[Table]:
        """Open a reader of a compacted topic; see the port."""
        async with self._inner.table(self._prefix + topic) as table:
            yield _Table(table, _Names(self._prefix))


class _Names:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def without(self, place: TopicPartition) -> TopicPartition:
        return replace(place, topic=place.topic.removeprefix(self._prefix))

    def out(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {replace(place, topic=self._prefix + place.topic): at for place, at in positions.items()}

    def back(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {self.without(place): at for place, at in positions.items()}

    def deliveries(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return [
            _delivery(
                topic=delivery.topic.removeprefix(self._prefix),
                partition=delivery.partition,
                offset=delivery.offset,
                key=delivery.key,
                value=delivery.value,
                headers=delivery.headers,
            )
            for delivery in deliveries
        ]


class _Publisher:
    def __init__(self, inner: Publisher, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        prefix = self._prefix
        return await self._inner.publish(
            [_message(topic=prefix + m.topic, key=m.key, value=m.value, headers=m.headers) for m in messages]
        )


class _Subscription:
    def __init__(self, inner: Subscription, names: _Names) -> None:
        self._inner = inner
        self._names = names

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        return self._names.deliveries(await self._inner.fetch(limit, timeout_seconds))

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._inner.commit(self._names.out(positions))

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._inner.seek(self._names.out(positions))

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        return self._names.back(await self._inner.end_offsets())

    def positions(self) -> Mapping[TopicPartition, int]:
        return self._names.back(self._inner.positions())


class _Table:
    def __init__(self, inner: Table, names: _Names) -> None:
        self._inner = inner
        self._names = names

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        return self._names.deliveries(await self._inner.changes(timeout_seconds))

    async def caught_up(self) -> bool:
        return await self._inner.caught_up()
