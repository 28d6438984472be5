"""Hold a topic's partitions and the publishers that wait for its groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import anyio

from saga._core.envelope import Message
from saga._core.partition import partition_of
from saga.errors import TransportUnavailable
from saga.ports import Cleanup, TopicPartition, TopicSpec
from transports.memory.log import new_log
from transports.memory.signal import Signal


class Waiting:
    """Be one publish call: its results, and an event for when the last one is known."""

    def __init__(self, size: int) -> None:
        self.results: list[BaseException | None] = [None] * size
        self.done = anyio.Event()
        self._open = set(range(size))
        if not size:
            self.done.set()

    @property
    def unsettled(self) -> frozenset[int]:
        """Return the indices nothing is known of."""
        return frozenset(self._open)

    def settle(self, index: int, error: BaseException | None) -> None:
        """Store one message's result."""
        self._open.discard(index)
        self.results[index] = error
        if not self._open:
            self.done.set()


@dataclass(slots=True, kw_only=True)
class Pending:
    """Be one stored record its groups have not all committed past; `waiting` is None once its publisher gave up."""

    offset: int
    message: Message
    waiting: Waiting | None
    index: int


class Topic:
    """Keep the logs of one topic, in step with the groups and tables that read it."""

    def __init__(self, spec: TopicSpec, base: int, *, max_records: int, keep_records: int) -> None:
        self.spec = spec
        self.logs = [new_log(spec.name, index, base, spec.cleanup) for index in range(spec.partitions)]
        self.signals: list[Signal] = []
        self.tables: list[dict[TopicPartition, int]] = []
        self.partitions = tuple(TopicPartition(topic=spec.name, partition=index) for index in range(spec.partitions))
        self._pending: list[deque[Pending]] = [deque() for _ in self.logs]
        self._abandoned: dict[Message, Pending] = {}
        self._max_records = max_records
        self._keep_records = keep_records

    def publish(
        self, message: Message, waiting: Waiting, index: int, groups: Iterable[dict[TopicPartition, int]]
    ) -> None:
        """Store a message and settle it now, or once every group has committed past it."""
        at = partition_of(message.key, len(self.logs))
        held = any(True for _ in groups) and self.spec.cleanup is Cleanup.DELETE
        if held and self._attach(message, waiting, index):
            return
        if held and len(self.logs[at]) >= self._max_records:
            error = TransportUnavailable(
                f"{self.spec.name}[{at}] holds {self._max_records} records its groups have not committed"
            )
            waiting.settle(index, error)
            return
        offset = self.logs[at].append(message)
        if held:
            self._pending[at].append(Pending(offset=offset, message=message, waiting=waiting, index=index))
        else:
            waiting.settle(index, None)
            self.advance(at, groups)
        for signal in self.signals:
            signal.notify()

    def advance(self, at: int, groups: Iterable[dict[TopicPartition, int]]) -> None:
        """Settle what every group has committed past, and drop the records nobody needs."""
        log, partition = self.logs[at], self.partitions[at]
        committed = [positions.get(partition, log.start) for positions in groups]
        if self.spec.cleanup is Cleanup.COMPACT:
            log.trim(min([*committed, *(table[partition] for table in self.tables)], default=log.end))
            return
        floor = min(committed, default=log.end)
        pending = self._pending[at]
        while pending and pending[0].offset < floor:
            self._settle(pending.popleft())
        # Without any group the tail is kept for the first one to come, which starts at the earliest record.
        log.trim(floor if committed else log.end - self._keep_records)

    def abandon(self, waiting: Waiting) -> None:
        """Forget a publisher that gave up; its records stay, and publishing the same again finds them."""
        for pending in (one for queue in self._pending for one in queue if one.waiting is waiting):
            pending.waiting = None
            self._abandoned[pending.message] = pending

    def _attach(self, message: Message, waiting: Waiting, index: int) -> bool:
        # Without this every sweep of a slow group's rows would store one more copy of each.
        pending = self._abandoned.pop(message, None) if self._abandoned else None
        if pending is None:
            return False
        pending.waiting, pending.index = waiting, index
        return True

    def _settle(self, pending: Pending) -> None:
        if pending.waiting is not None:
            pending.waiting.settle(pending.index, None)
        elif self._abandoned.get(pending.message) is pending:
            del self._abandoned[pending.message]
