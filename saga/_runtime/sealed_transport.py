"""Be a transport whose deliveries come out opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

from saga._core.envelope import Delivery
from saga._runtime.sealing import Sealing
from saga.errors import StoreUnavailable, TransportUnavailable
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


class SealedTransport:
    """Be another transport, which carries closed payloads: what is fetched is opened.

    It publishes as it is told: rows are closed where they are written.
    """

    def __init__(self, inner: Transport, sealing: Sealing) -> None:
        self._inner = inner
        self._sealing = sealing

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inner.__aexit__(*exc)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create and check topics; see the port."""
        await self._inner.ensure_topics(topics)

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """Open a publisher; see the port."""
        return self._inner.publisher()

    @asynccontextmanager
    async def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AsyncGenerator[Subscription]:
        """Join a group; see the port."""
        async with self._inner.subscribe(group, on_assigned=on_assigned, on_revoked=on_revoked) as subscription:
            yield _Subscription(subscription, self._sealing)

    def table(self, topic: str) -> AbstractAsyncContextManager[Table]:
        """Open a reader of a compacted topic; see the port."""
        return self._inner.table(topic)


class _Subscription:
    def __init__(self, inner: Subscription, sealing: Sealing) -> None:
        self._inner = inner
        self._sealing = sealing

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        deliveries = await self._inner.fetch(limit, timeout_seconds)
        try:
            return [await self._sealing.open_delivery(delivery) for delivery in deliveries]
        except (OSError, StoreUnavailable) as error:
            # The group is joined again, from what it has committed.
            raise TransportUnavailable(f"keys or blobs are out of reach: {error}") from error

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._inner.commit(positions)

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._inner.seek(positions)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        return await self._inner.end_offsets()

    def positions(self) -> Mapping[TopicPartition, int]:
        return self._inner.positions()
