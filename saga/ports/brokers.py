"""Declare what people ask of a broker that keeps messages on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from saga._core.brokers import GroupState, TopicState
from saga.ports.transport import TopicSpec


class Broker(Protocol):
    """Look at a broker, with the rights of its user; an async context manager that owns its connections.

    Every call is bounded. Raises TransportRefused, TransportUnavailable with the reason, SettingsError.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def topics(self, specs: Sequence[TopicSpec]) -> Sequence[TopicState]:
        """Return each topic as it is, in the order of `specs`, with what is wrong about it; changes nothing."""
        ...

    async def create(self, specs: Sequence[TopicSpec]) -> Sequence[str]:
        """Create those topics that are missing, and return their names; raises TransportRefused."""
        ...

    async def groups(self, names: Sequence[str]) -> Sequence[GroupState]:
        """Return each group as it is: its members, and how far they are behind."""
        ...

    async def ahead(self, topics: Sequence[str], seconds: float) -> Sequence[str]:
        """Return those topics in which a message is dated more than so many seconds after this machine's time."""
        ...
