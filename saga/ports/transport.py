"""Declare what the runtime asks of a transport, six methods a port at most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from saga._core.envelope import Delivery, Message


class Cleanup(StrEnum):
    """Say how a topic forgets: by age, or by keeping the last value of each key."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """Describe a topic that must exist; an existing one is checked, never changed."""

    name: str
    partitions: int
    cleanup: Cleanup = Cleanup.DELETE
    retention_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TopicPartition:
    """Name one partition."""

    topic: str
    partition: int


class Positions(StrEnum):
    """Say who keeps a group's positions: the broker (committed offsets), or the subscriber (it seeks)."""

    BROKER = "broker"
    SUBSCRIBER = "subscriber"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """Describe a consumer group membership.

    `slot` makes membership static (`group.instance.id = <name>-<slot>`, KIP-345): it must be unique
    among live members and stable over restarts. A group with no committed offset starts at the
    earliest offset. With `Positions.SUBSCRIBER`, `on_assigned` returns where to start. While there is something
    on one of the topics in `first`, it is fetched before what is on the others.
    """

    name: str
    slot: str
    topics: tuple[str, ...]
    positions: Positions = Positions.BROKER
    first: frozenset[str] = frozenset()


OnAssigned = Callable[[frozenset[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Called on assignment, before anything is fetched; returns the offsets to start from (absent = earliest)."""

OnRevoked = Callable[[frozenset[TopicPartition]], Awaitable[None]]
"""Called before partitions are given up: finish or drop what was fetched, then return (bounded by the adapter)."""


class Publisher(Protocol):
    """Send messages."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Send a batch and return, message by message, `None` once acknowledged by all in-sync replicas, or the error.

        Order per key is kept among acknowledged messages of one call. Bounded by the adapter's timeout.
        Raises nothing but cancellation; a message with an error may or may not have been stored.
        """
        ...


class Subscription(Protocol):
    """Read as a member of a group."""

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        """Return up to `limit` deliveries of the assigned partitions, in order per partition; empty after the timeout.

        Raises TransportUnavailable, PositionLost.
        """
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read; bounded. Raises Revoked or TransportUnavailable: then not committed."""
        ...

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Move the read positions of assigned partitions; fetched but unreturned deliveries are dropped."""
        ...

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written of every assigned partition."""
        ...

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return, for every assigned partition, the offset after the last delivery `fetch` returned, or the start."""
        ...


class Table(Protocol):
    """Follow a compacted topic from its beginning, outside of any group."""

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        """Return records since the last call (the first call starts at the beginning); empty after the timeout."""
        ...

    async def caught_up(self) -> bool:
        """Return whether everything that was in the topic at the time of the call has been returned."""
        ...


class Transport(Protocol):
    """Open the ways in and out of one broker; an async context manager owns all connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing and check what exists; raises TransportRefused naming topic and setting."""
        ...

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """Open a publisher."""
        ...

    def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join a group; leaving the context leaves within a bounded time."""
        ...

    def table(self, topic: str) -> AbstractAsyncContextManager[Table]:
        """Open a reader of a compacted topic."""
        ...
