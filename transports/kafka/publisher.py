"""Publish in batches per partition through a producer that is replaced after the first failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import anyio

from saga._core.envelope import Message
from saga._core.partition import partition_of
from saga.errors import TooLarge, TransportError, TransportUnavailable
from saga.ports import TopicPartition
from transports.kafka.producer import Producer
from transports.kafka.settings import KafkaSettings
from transports.kafka.waits import translated

# The header of a batch (61), a record's own fields and lengths at their longest.
_OVERHEAD = 61 + 21 + 15


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

    def __init__(self, connect: Callable[[], Producer], settings: KafkaSettings) -> None:
        self._connect = connect
        self._settings = settings
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
        return results

    async def close(self) -> None:
        """Stop the producer."""
        use, self._current = self._current, None
        if use is not None:
            await use.producer.stop()

    async def _publish(self, use: _Use, messages: Sequence[Message], results: list[BaseException | None]) -> None:
        shares: dict[TopicPartition, list[tuple[int, Message]]] = {}
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
            partition = TopicPartition(topic=topic, partition=partition_of(message.key, counts[topic]))
            shares.setdefault(partition, []).append((index, message))
        async with anyio.create_task_group() as tasks:
            for partition, share in shares.items():
                tasks.start_soon(_send, use, partition, share, results)

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
    use: _Use, partition: TopicPartition, share: Iterable[tuple[int, Message]], results: list[BaseException | None]
) -> None:
    batches = use.producer.batches(share)
    for at, (batch, indices) in enumerate(batches):
        try:
            await use.producer.send(batch, partition.topic, partition.partition)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this partition's error and not the call's
            use.doomed = True
            # What follows on this partition is not sent: it would overtake.
            for _, failed in batches[at:]:
                for index in failed:
                    results[index] = translated("cannot publish", error)
            return
        for index in indices:
            results[index] = None


def record_bytes(message: Message) -> int:
    """Return the upper bound of a message's size in a batch of its own."""
    headers = sum(len(name.encode()) + len(value) + 10 for name, value in message.headers)
    return _OVERHEAD + len(message.key) + len(message.value or b"") + headers
