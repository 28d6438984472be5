"""Read from the logs: as a member of a group, or all of a compacted topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio
from anyio.lowlevel import checkpoint

from saga._core.envelope import Delivery
from saga.errors import PositionLost, Revoked
from saga.ports import TopicPartition
from transports.memory.group import Group, Member
from transports.memory.signal import Signal
from transports.memory.topic import Topic

_TABLE_PAGE = 1000


class MemorySubscription:
    """Be a member's way in; a cancelled `fetch` has taken nothing."""

    def __init__(self, group: Group, member: Member, topics: Mapping[str, Topic], groups: Mapping[str, Group]) -> None:
        self._group = group
        self._member = member
        self._topics = topics
        self._groups = groups
        self._turn = 0

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        """Return up to `limit` deliveries, starting with another partition each time; empty after the timeout."""
        await checkpoint()
        taken = self._take(limit)
        if taken:
            return taken
        with anyio.move_on_after(timeout_seconds):
            while not taken:
                await self._member.signal.wait()
                taken = self._take(limit)
        return taken

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read; publishers waiting for these records are answered."""
        await checkpoint()
        self._check(positions)
        for partition, position in positions.items():
            topic = self._topics[partition.topic]
            log = topic.logs[partition.partition]
            self._group.committed[partition] = min(max(position, log.start), log.end)
            topic.advance(partition.partition, committed_positions(self._groups, partition.topic))

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Move the read positions; one that does not exist makes the next fetch raise PositionLost."""
        await checkpoint()
        self._check(positions)
        self._member.positions.update(positions)
        self._member.signal.notify()

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written of every assigned partition."""
        await checkpoint()
        return {one: self._topics[one.topic].logs[one.partition].end for one in self._member.positions}

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be read of every assigned partition."""
        return dict(self._member.positions)

    def _check(self, positions: Mapping[TopicPartition, int]) -> None:
        for partition in positions:
            if partition not in self._member.positions:
                raise Revoked(
                    f"{partition.topic}[{partition.partition}] is not assigned to slot {self._member.spec.slot!r}"
                )

    def _take(self, limit: int) -> list[Delivery]:
        if self._member.failure is not None:
            raise self._member.failure
        if self._member.rebalances:
            return []
        taken: list[Delivery] = []
        for partition in self._in_turn():
            taken += take(self._topics, self._member.positions, partition, limit - len(taken))
            if len(taken) >= limit:
                break
        return taken

    def _in_turn(self) -> list[TopicPartition]:
        """Return the partitions of urgent topics, then the others, each beginning with another one than before."""
        self._turn += 1
        first = self._member.spec.first
        # By tuples: comparing two partitions is slow, and this is done for every fetch.
        found = sorted(self._member.positions, key=lambda one: (one.topic not in first, one.topic, one.partition))
        split = sum(one.topic in first for one in found)
        return [*_rotated(found[:split], self._turn), *_rotated(found[split:], self._turn)]


def _rotated(partitions: list[TopicPartition], turn: int) -> list[TopicPartition]:
    at = turn % len(partitions) if partitions else 0
    return partitions[at:] + partitions[:at]


class MemoryTable:
    """Be a reader of a whole topic outside of any group."""

    def __init__(self, topic: Topic, positions: dict[TopicPartition, int], signal: Signal) -> None:
        self._topics = {topic.spec.name: topic}
        self._topic = topic
        self._positions = positions
        self._signal = signal

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        """Return records since the last call, at most a page; empty after the timeout."""
        await checkpoint()
        taken = self._take()
        if taken:
            return taken
        with anyio.move_on_after(timeout_seconds):
            while not taken:
                await self._signal.wait()
                taken = self._take()
        return taken

    async def caught_up(self) -> bool:
        """Return whether everything that is in the topic now has been returned."""
        await checkpoint()
        return all(
            self._positions[one] >= log.end or not log.read(self._positions[one], 1)
            for one, log in zip(self._topic.partitions, self._topic.logs, strict=True)
        )

    def _take(self) -> list[Delivery]:
        taken: list[Delivery] = []
        for partition in self._topic.partitions:
            taken += take(self._topics, self._positions, partition, _TABLE_PAGE - len(taken))
        return taken


def take(
    topics: Mapping[str, Topic], positions: dict[TopicPartition, int], partition: TopicPartition, limit: int
) -> Sequence[Delivery]:
    """Read a partition from its position and move it on; raises PositionLost outside of the log."""
    log = topics[partition.topic].logs[partition.partition]
    position = positions[partition]
    if not log.start <= position <= log.end:
        raise PositionLost(
            f"{partition.topic}[{partition.partition}] has offsets {log.start} to {log.end}, not {position}"
        )
    found = log.read(position, limit) if limit else ()
    if found:
        positions[partition] = found[-1].offset + 1
    return found


def committed_positions(groups: Mapping[str, Group], topic: str) -> list[dict[TopicPartition, int]]:
    """Return the committed positions of every group that reads a topic."""
    return [group.committed for group in groups.values() if topic in group.topics]
