"""Hold what a broker tells about itself: its topics, and the groups that read them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """Say what a problem means: never to be used like this, not at the moment, or at a risk."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicProblem:
    """Say in a sentence what is wrong with a topic; `command` mends it, "" where none does."""

    weight: Weight
    text: str
    command: str = ""


class Presence(StrEnum):
    """Say whether a topic is there: HIDDEN from a user who has no right to see it."""

    THERE = "there"
    MISSING = "missing"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """Be one topic as it is, held against what it must be; `replicas` of its worst partition."""

    name: str
    presence: Presence
    partitions: int = 0
    replicas: int = 0
    cleanup: str = ""
    retention_ms: int | None = None
    problems: tuple[TopicProblem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """Say how far a group is in one partition: `committed` is the next offset it reads, None before its first.

    `beginning` is the first offset that is there, looked for only where nothing was committed.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    beginning: int = 0

    @property
    def lag(self) -> int:
        """Return how many messages it has not read; before its first commit those that are there."""
        return max(0, self.end - (self.beginning if self.committed is None else self.committed))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """Be one consumer group: how the broker calls its state, its members by ID, how far it is.

    `denied` says which right is missing to look at it, "" where none is. `unowned` are the partitions of the topics it
    reads that no member has, such as `orders.events[3]`; none while it shares them out anew.
    """

    name: str
    state: str = ""
    members: tuple[str, ...] = ()
    partitions: tuple[PartitionLag, ...] = ()
    unowned: tuple[str, ...] = ()
    denied: str = ""

    @property
    def lag(self) -> int:
        """Return how many messages the group has not read."""
        return sum(one.lag for one in self.partitions)
