"""Hold one partition's records; pure, no waiting."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice

from saga._core.envelope import Delivery, Message
from saga.ports import Cleanup


class PartitionLog:
    """Keep the records of one partition of a DELETE topic in offset order, without gaps."""

    def __init__(self, topic: str, partition: int, base: int) -> None:
        self.topic = topic
        self.partition = partition
        self.base = base
        self.start = base
        self.end = base
        self._records: deque[Delivery] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def append(self, message: Message) -> int:
        """Append a message and return its offset."""
        offset = self.end
        self._records.append(_delivery(self, message, offset))
        self.end += 1
        return offset

    def read(self, position: int, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` records from `position` on."""
        skip = position - self.start
        return list(islice(self._records, skip, skip + limit))

    def trim(self, offset: int) -> None:
        """Drop everything below an offset; the end offset stays."""
        while self._records and self.start < offset:
            self._records.popleft()
            self.start += 1


class CompactedLog(PartitionLog):
    """Keep the last value of each key; a tombstone goes once every reader has passed it."""

    def __init__(self, topic: str, partition: int, base: int) -> None:
        super().__init__(topic, partition, base)
        self._kept: list[Delivery] = []
        self._offsets: list[int] = []
        self._latest: dict[bytes, int] = {}
        self._tombstones: deque[tuple[int, bytes]] = deque()
        self._stale = 0

    def __len__(self) -> int:
        return len(self._latest)

    def append(self, message: Message) -> int:
        """Append a message, superseding the key's earlier one, and return its offset."""
        offset = self.end
        self.end += 1
        self._stale += message.key in self._latest
        self._latest[message.key] = offset
        self._kept.append(_delivery(self, message, offset))
        self._offsets.append(offset)
        if message.value is None:
            self._tombstones.append((offset, message.key))
        self._compact()
        return offset

    def read(self, position: int, limit: int) -> Sequence[Delivery]:
        """Return up to `limit` latest records from `position` on."""
        at = bisect_left(self._offsets, position)
        latest = (one for one in islice(self._kept, at, None) if self._latest.get(one.key or b"") == one.offset)
        return list(islice(latest, limit))

    def trim(self, offset: int) -> None:
        """Drop the tombstones below an offset; values stay."""
        while self._tombstones and self._tombstones[0][0] < offset:
            at, key = self._tombstones.popleft()
            if self._latest.get(key) == at:
                del self._latest[key]
                self._stale += 1
        self._compact()

    def _compact(self) -> None:
        # Superseded records are skipped when read and swept out in bulk: constant cost per append.
        if self._stale <= len(self._latest) + 16:
            return
        self._kept = [one for one in self._kept if self._latest.get(one.key or b"") == one.offset]
        self._offsets = [one.offset for one in self._kept]
        self._stale = 0


def new_log(topic: str, partition: int, base: int, cleanup: Cleanup) -> PartitionLog:
    """Make the log a topic's cleanup asks for."""
    return (CompactedLog if cleanup is Cleanup.COMPACT else PartitionLog)(topic, partition, base)


def _delivery(log: PartitionLog, message: Message, offset: int) -> Delivery:
    return Delivery(
        topic=log.topic,
        partition=log.partition,
        offset=offset,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )
