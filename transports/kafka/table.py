"""Read a whole topic, outside of any group."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio

from saga._core.envelope import Delivery
from saga.errors import TransportUnavailable
from saga.ports import TopicPartition
from transports.kafka.consumer import Consumer
from transports.kafka.watchdog import Watch, observe, stalled

_PAGE = 1000
_LOOK_EVERY_SECONDS = 5.0


class KafkaTable:
    """Follow all partitions of a topic from the beginning."""

    def __init__(
        self, consumer: Consumer, topic: str, partitions: frozenset[TopicPartition], stalled_after_seconds: float
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partitions = partitions
        self._stalled_after_seconds = stalled_after_seconds
        self._watch: Watch = {}
        self._looked_at_seconds = time.monotonic()

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        """Return records since the last call, at most a page; empty after the timeout.

        Raises TransportUnavailable when the reader has died, stands still or is cut off: open another one;
        TransportRefused when that would not help.
        """
        await anyio.lowlevel.checkpoint()
        deadline = anyio.current_time() + timeout_seconds
        while True:
            if self._consumer.dead:
                raise TransportUnavailable(f"the reader of {self._topic!r} has died")
            found = self._consumer.poll(_PAGE)
            left = deadline - anyio.current_time()
            if found:
                return found
            if left <= 0:
                break
            await self._consumer.wait(left)
        await self._look()
        return ()

    async def caught_up(self) -> bool:
        """Return whether everything that is in the topic now has been returned."""
        ends = await self._consumer.ends(self._partitions)
        positions = self._consumer.positions(self._partitions)
        return all((positions.get(one) or 0) >= end for one, end in ends.items())

    async def _look(self) -> None:
        now_seconds = time.monotonic()
        if now_seconds - self._looked_at_seconds < _LOOK_EVERY_SECONDS:
            return
        self._looked_at_seconds = now_seconds
        what = f"the reader of {self._topic!r}"
        ends = await self._consumer.ends_soon(self._partitions, what)
        self._watch = observe(self._watch, self._consumer.positions(self._partitions), ends, now_seconds)
        if stalled(self._watch, now_seconds, self._stalled_after_seconds):
            raise TransportUnavailable(f"{what} stands still")
