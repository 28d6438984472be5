"""Publish and read at the same time, as an outbox and services would, and hold that nothing is lost or overtaken."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from saga._core.envelope import Delivery, Message
from saga.errors import Revoked, TransportUnavailable
from saga.ports import GroupSpec, Publisher, Subscription, TopicPartition, Transport

KEYS = 8
BATCH = 40


@dataclass(kw_only=True)
class Load:
    """Count what was acknowledged and what was read; one for all publishers and readers of a test."""

    topic: str
    ahead: int = 1000
    sent: int = 0
    acknowledged: int = 0
    read: list[Delivery] = field(default_factory=list[Delivery])
    values: set[int] = field(default_factory=set[int])
    longest_publish_seconds: float = 0.0
    longest_silence_seconds: float = 0.0
    last_read: float = field(default_factory=time.monotonic)
    ended: bool = False
    _changed: anyio.Event = field(default_factory=anyio.Event)

    async def publish(self, publisher: Publisher) -> None:
        """Publish until ended; what failed is published again, before anything newer."""
        while not self.ended:
            # Readers must be able to get through it.
            await self.until(lambda: self.ended or self.sent - len(self.values) < self.ahead)
            batch = [
                Message(topic=self.topic, key=f"k{index % KEYS}".encode(), value=str(index).encode())
                for index in range(self.sent, self.sent + BATCH)
            ]
            self.sent += BATCH
            began = time.monotonic()
            while batch:
                results = await publisher.publish(batch)
                batch = [one for one, error in zip(batch, results, strict=True) if error is not None]
            self.longest_publish_seconds = max(self.longest_publish_seconds, time.monotonic() - began)
            self.acknowledged = self.sent
            self.notify()
            await anyio.sleep(0.005)  # a steady load, and not all that two cores can do

    def seen(self, found: Delivery) -> None:
        now = time.monotonic()
        self.longest_silence_seconds = max(self.longest_silence_seconds, now - self.last_read)
        self.last_read = now
        self.read.append(found)
        self.values.add(int(found.value or b"-1"))
        self.notify()

    async def reach(self, count: int) -> None:
        """Wait until so many are acknowledged and read."""
        await self.until(lambda: self.acknowledged >= count and len(self.values) >= count)

    async def drained(self) -> None:
        """End the publisher and wait until all has been read."""
        self.ended = True
        self.notify()
        await self.until(lambda: len(self.values) == self.acknowledged == self.sent)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so that depends on what was published, read or assigned."""
        while not reached():
            await self._changed.wait()

    def notify(self) -> None:
        """Have those who wait look again."""
        self._changed.set()
        self._changed = anyio.Event()

    def check(self) -> None:
        """Hold that all was read, each key in order, if repetitions are left out."""
        assert self.values == set(range(self.sent))
        for key in range(KEYS):
            mine = [int(one.value or b"-1") for one in self.read if one.key == f"k{key}".encode()]
            assert list(dict.fromkeys(mine)) == sorted(set(mine))


class Worker:
    """Read as one member: finish what is in hand before partitions go, work on nothing that has gone."""

    def __init__(self, load: Load, slot: str, working: dict[TopicPartition, str], slow_seconds: float = 0.0) -> None:
        self._load = load
        self._slot = slot
        self._working = working
        self._slow_seconds = slow_seconds
        self._busy = anyio.Lock()
        self.mine: frozenset[TopicPartition] = frozenset()
        self._finished: dict[TopicPartition, int] = {}
        self._subscription: Subscription | None = None
        self.assigned = anyio.Event()
        self.assignments = 0
        self.handled = 0

    async def run(self, transport: Transport, spec: GroupSpec) -> None:
        """Read until cancelled; a broker that is away is waited for."""
        async with transport.subscribe(spec, on_assigned=self._take, on_revoked=self._give) as one:
            self._subscription = one
            while True:
                try:
                    found = await one.fetch(50, 0.5)
                except TransportUnavailable:
                    continue
                async with self._busy:
                    await self._handle(found)
                await self._commit(one)

    async def _handle(self, found: Sequence[Delivery]) -> None:
        deliveries = [one for one in found if _place(one) in self.mine]
        places = {_place(one) for one in deliveries}
        for place in places:
            assert self._working.setdefault(place, self._slot) == self._slot, "two members work on one partition"
        try:
            if deliveries and self._slow_seconds:
                await anyio.sleep(self._slow_seconds)
            for one in deliveries:
                self._load.seen(one)
                self._finished[_place(one)] = one.offset + 1
            self.handled += len(deliveries)
        finally:
            for place in places:
                del self._working[place]

    async def _commit(self, one: Subscription) -> None:
        finished, self._finished = self._finished, {}
        try:
            await one.commit(finished)
        except (Revoked, TransportUnavailable):
            return  # it comes again

    async def _take(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.mine = partitions
        self.assignments += 1
        self._load.notify()
        self.assigned.set()
        return {}

    async def _give(self, partitions: frozenset[TopicPartition]) -> None:
        self.mine -= partitions
        async with self._busy:
            if self._subscription is not None:
                await self._commit(self._subscription)


def _place(delivery: Delivery) -> TopicPartition:
    return TopicPartition(topic=delivery.topic, partition=delivery.partition)
