"""Publish in batches per partition through a producer that is replaced after the first failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

import anyio

from saga._core.envelope import Message
from saga._core.partition import partition_of
from saga.errors import TooLarge, TransportError, TransportUnavailable
from transports.kafka.producer import Producer
from transports.kafka.settings import KafkaSettings
from transports.kafka.waits import translated

WhyLate = Callable[[Collection[str]], Awaitable[TransportError | None]]

# The header of a batch (61), a record's own fields and lengths at their longest.
_OVERHEAD = 61 + 21 + 15

Place = tuple[str, int]
"""A topic and one of its partitions."""


class _Use:
    """Count who uses a producer; a doomed one is stopped by its last user."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.users = 0
        self.doomed = False


class KafkaPublisher:
    """Send messages; calls may run concurrently, a cancelled call leaves the publisher usable.

    A failed or overdue batch leaves a hole in the producer's sequence and would be sent late, next to
    its second copy: so the producer is doomed, new calls get a new one, and its other callers either
    still succeed or get an error. The outbox publishes again what had one.
    """

    def __init__(self, connect: Callable[[], Producer], settings: KafkaSettings, why_late: WhyLate) -> None:
        self._connect = connect
        self._settings = settings
        self._why_late = why_late
        self._current: _Use | None = None
        self._connecting = anyio.Lock()

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Send a batch and return, message by message, None once all in-sync replicas have it, or the error."""
        timeout_seconds = self._settings.publish_timeout_seconds
        late = TransportUnavailable(f"not acknowledged within {timeout_seconds:g} s")
        results: list[BaseException | None] = [late] * len(messages)
        try:
            with anyio.move_on_after(timeout_seconds) as scope:
                use = await self._enter()
                try:
                    await self._publish(use, messages, results)
                finally:
                    await self._leave(use, overdue=scope.cancel_called)
        except TransportError as error:  # no producer to be had
            results = [error] * len(messages)
        if late in results:
            told = await self._told(late, {message.topic for message in messages})
            results = [told if result is late else result for result in results]
        return results

    async def _told(self, late: TransportError, topics: set[str]) -> TransportError:
        why = await self._why_late(topics)
        return late if why is None else type(why)(f"{late}: {why}")

    async def close(self) -> None:
        """Stop the producer."""
        use, self._current = self._current, None
        if use is not None:
            await use.producer.stop()

    async def _publish(self, use: _Use, messages: Sequence[Message], results: list[BaseException | None]) -> None:
        shares: dict[Place, list[int]] = {}
        counts: dict[str, int] = {}
        refused: dict[str, TransportError] = {}
        for index, message in enumerate(messages):
            size, topic = record_bytes(message), message.topic
            if size > self._settings.max_message_bytes:
                results[index] = TooLarge(
                    f"a message to {topic!r} has {size} bytes, the limit is {self._settings.max_message_bytes}"
                )
                continue
            if topic not in counts and topic not in refused:
                await _count(use.producer, topic, counts, refused)
            if topic in refused:
                results[index] = refused[topic]
                continue
            shares.setdefault((topic, partition_of(message.key, counts[topic])), []).append(index)
        while shares:
            shares = await _send(use, messages, shares, results)

    async def _enter(self) -> _Use:
        async with self._connecting:
            if self._current is None:
                producer = self._connect()
                await producer.start()
                self._current = _Use(producer)
            self._current.users += 1
            return self._current

    async def _leave(self, use: _Use, *, overdue: bool) -> None:
        # Overdue batches would go out next to their second copies; a cancelled call's may go out.
        use.doomed = use.doomed or overdue
        use.users -= 1
        if use.doomed:
            if self._current is use:
                self._current = None
            if not use.users:
                await use.producer.stop()


async def _count(producer: Producer, topic: str, counts: dict[str, int], refused: dict[str, TransportError]) -> None:
    try:
        counts[topic] = await producer.partitions(topic)
    except TransportError as error:
        refused[topic] = error


async def _send(
    use: _Use, messages: Sequence[Message], shares: dict[Place, list[int]], results: list[BaseException | None]
) -> dict[Place, list[int]]:
    """Send a batch to each partition, and return the shares that did not fit into one.

    The rest of a share waits until what is before it has arrived: else it could overtake.
    """
    queued: dict[Place, tuple[asyncio.Future[Any], int]] = {}
    for (topic, partition), share in shares.items():
        try:
            queued[topic, partition] = use.producer.queue(topic, partition, [messages[index] for index in share])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this partition's error and not the call's
            use.doomed = True
            _note(results, share, translated("cannot publish", error))
    left: dict[Place, list[int]] = {}
    try:
        if queued:
            await asyncio.wait({acknowledged for acknowledged, _ in queued.values()})
    finally:
        # Also when the time is up or the call is cancelled: what has arrived by then has arrived.
        for place, (acknowledged, taken) in queued.items():
            share = shares[place]
            if acknowledged.done():
                failure = use.producer.failure(*place, acknowledged)
                use.doomed = use.doomed or failure is not None
                _note(results, share if failure else share[:taken], failure)
                if failure is None and len(share) > taken:
                    left[place] = share[taken:]
    return left


def _note(results: list[BaseException | None], indices: Iterable[int], result: BaseException | None) -> None:
    for index in indices:
        results[index] = result


def record_bytes(message: Message) -> int:
    """Return the upper bound of a message's size in a batch of its own."""
    size = _OVERHEAD + len(message.key) + len(message.value or b"") + 10 * len(message.headers)
    for name, value in message.headers:
        size += len(value) + (len(name) if name.isascii() else len(name.encode()))
    return size
