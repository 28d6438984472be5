"""Be a broker inside one process, durable together with the outbox rows it does not acknowledge."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Self
from uuid import uuid4

import anyio
from anyio.lowlevel import checkpoint

from saga._core.envelope import Message
from saga.errors import SettingsError, TransportRefused, TransportUnavailable
from saga.ports import Cleanup, GroupSpec, OnAssigned, OnRevoked, TopicSpec
from transports.memory.group import Group, Member
from transports.memory.signal import Signal
from transports.memory.subscription import MemorySubscription, MemoryTable, committed_positions
from transports.memory.topic import Topic, Waiting


def _incarnation() -> str:
    return uuid4().hex


class MemoryTransport:
    """Carry messages between tasks of one process; works on asyncio and trio, on one loop.

    **Acknowledgement.** `publish` answers for a message of a DELETE topic only when every group that
    reads the topic has committed past it: until then its outbox row stays, so that after a `kill -9`
    the sweep publishes it again. Groups with `Positions.SUBSCRIBER` count through `commit` too, which
    they call after their own database commit. A group is known from `declare`, `groups=` or its first
    `subscribe` on, and stays known. Compacted topics and topics without a group are acknowledged at
    once: declare every group before the first publish. A topic that no live member of a group reads
    any more, as after a deploy, does not wait for that group. A message whose publisher gave up or was
    cancelled is not stored again while it is still there: publishing the equal message waits for it.

    **Incarnations.** Offsets begin at `base`, microseconds of the wall clock at construction, so that
    every incarnation's offsets lie above all earlier ones. A position returned from `on_assigned`
    below the base or past the end belongs to another incarnation and starts at the earliest record;
    `Subscription.positions()` tells where. `incarnation` is a random token.

    **Memory.** What every known group has committed past is dropped, the end offset stays. A topic
    without a group keeps its last `keep_records` per partition. A partition with `max_records`
    uncommitted ones refuses more with TransportUnavailable.
    """

    def __init__(
        self,
        *,
        groups: Mapping[str, tuple[str, ...]] | None = None,
        publish_timeout_seconds: float = 60.0,
        rebalance_budget_seconds: float = 30.0,
        max_records: int = 100_000,
        keep_records: int = 10_000,
        clock_ns: Callable[[], int] = time.time_ns,
        incarnation: Callable[[], str] = _incarnation,
    ) -> None:
        if min(max_records, keep_records) < 1:
            raise SettingsError("max_records and keep_records must be at least 1")
        self.incarnation = incarnation()
        self.base = clock_ns() // 1000
        self._publish_timeout_seconds = publish_timeout_seconds
        self._rebalance_budget_seconds = rebalance_budget_seconds
        self._max_records = max_records
        self._keep_records = keep_records
        self._topics: dict[str, Topic] = {}
        self._groups: dict[str, Group] = {}
        for name, topics in (groups or {}).items():
            self.declare(GroupSpec(name=name, slot="", topics=topics))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await checkpoint()

    def declare(self, *groups: GroupSpec) -> None:
        """Make groups known before they subscribe: publishers wait for them from now on."""
        for spec in groups:
            self._group(spec.name).topics.update(spec.topics)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create what is missing and check what exists; more partitions than asked for are accepted."""
        await checkpoint()
        for spec in topics:
            found = self._topics.get(spec.name)
            if found is None:
                self._topics[spec.name] = Topic(
                    spec, self.base, max_records=self._max_records, keep_records=self._keep_records
                )
                continue
            if found.spec.partitions < spec.partitions:
                raise TransportRefused(
                    f"topic {spec.name!r}: partitions is {found.spec.partitions}, wanted at least {spec.partitions}"
                )
            if found.spec.cleanup is not spec.cleanup:
                raise TransportRefused(
                    f"topic {spec.name!r}: cleanup.policy is {found.spec.cleanup}, wanted {spec.cleanup}"
                )

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[MemoryPublisher]:
        """Open a publisher."""
        await checkpoint()
        yield MemoryPublisher(self._topics, self._groups, self._publish_timeout_seconds)

    @asynccontextmanager
    async def subscribe(
        self, group: GroupSpec, *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> AsyncGenerator[MemorySubscription]:
        """Join a group; the member has its partitions when the context is entered.

        `on_revoked` is called when partitions move to others, not when the member itself leaves:
        drain and commit before leaving. The callbacks run in whichever task joins or leaves, each
        within the budget. A member with the slot of a live one replaces it.
        """
        topics = [self._topic(name) for name in group.topics]
        self.declare(group)
        known = self._group(group.name)
        member = Member(spec=group, on_assigned=on_assigned, on_revoked=on_revoked)
        for topic in topics:
            topic.signals.append(member.signal)
        before = frozenset(known.topics)
        try:
            await known.join(member)
            self._answer(before - known.topics)
            if member.failure is not None:
                raise member.failure
            yield MemorySubscription(known, member, self._topics, self._groups)
        finally:
            for topic in topics:
                topic.signals.remove(member.signal)
            before = frozenset(known.topics)
            await known.leave(member)
            self._answer(before - known.topics)

    @asynccontextmanager
    async def table(self, topic: str) -> AsyncGenerator[MemoryTable]:
        """Open a reader of a compacted topic, at its beginning."""
        await checkpoint()
        found = self._topic(topic)
        if found.spec.cleanup is not Cleanup.COMPACT:
            raise TransportRefused(f"topic {topic!r}: cleanup.policy is {found.spec.cleanup}, a table needs compact")
        signal = Signal()
        positions = {one: log.start for one, log in zip(found.partitions, found.logs, strict=True)}
        found.signals.append(signal)
        found.tables.append(positions)
        try:
            yield MemoryTable(found, positions, signal)
        finally:
            found.signals.remove(signal)
            # By identity: two tables at the same place are equal.
            found.tables[:] = [one for one in found.tables if one is not positions]

    def _answer(self, names: frozenset[str]) -> None:
        """Answer publishers that waited for a group which does not read their topics any more."""
        for name in names & self._topics.keys():
            for index in range(len(self._topics[name].logs)):
                self._topics[name].advance(index, committed_positions(self._groups, name))

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, self._topics, self._rebalance_budget_seconds)
        return self._groups[name]

    def _topic(self, name: str) -> Topic:
        if name not in self._topics:
            raise TransportRefused(f"topic {name!r} does not exist; call ensure_topics first")
        return self._topics[name]


class MemoryPublisher:
    """Store messages and wait for the groups; many calls may wait at the same time."""

    def __init__(self, topics: Mapping[str, Topic], groups: Mapping[str, Group], timeout_seconds: float) -> None:
        self._topics = topics
        self._groups = groups
        self._timeout_seconds = timeout_seconds

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Store a batch in order and return once each message has taken effect, or the timeout has passed."""
        await checkpoint()
        waiting = Waiting(len(messages))
        readers = {name: committed_positions(self._groups, name) for name in {one.topic for one in messages}}
        for index, message in enumerate(messages):
            topic = self._topics.get(message.topic)
            if topic is None:
                waiting.settle(
                    index, TransportRefused(f"topic {message.topic!r} does not exist; call ensure_topics first")
                )
            else:
                topic.publish(message, waiting, index, readers[message.topic])
        try:
            with anyio.move_on_after(self._timeout_seconds):
                await waiting.done.wait()
        finally:
            for topic in (
                {self._topics[one.topic] for one in messages if one.topic in self._topics} if waiting.unsettled else ()
            ):
                topic.abandon(waiting)
        for index in waiting.unsettled:
            late = f"not every group of {messages[index].topic!r} has committed within {self._timeout_seconds:g} s"
            waiting.settle(index, TransportUnavailable(late))
        return waiting.results
