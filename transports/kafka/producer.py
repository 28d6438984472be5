# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Wrap the client library's idempotent producer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from saga._core.envelope import Message
from transports.kafka.library import ERRORS, KAFKA
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.waits import bounded, closed, translated

_PROPAGATION_SECONDS = 2.0


class Producer:
    """Be one idempotent producer; it sends batches and is thrown away after the first that fails."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._settings = settings
        self._raw: Any = KAFKA.AIOKafkaProducer(
            **connection(bootstrap, settings),
            enable_idempotence=True,
            acks="all",
            max_batch_size=settings.batch_bytes,
            max_request_size=settings.max_message_bytes,
        )

    async def start(self) -> None:
        """Connect and get a producer ID."""
        try:
            await bounded("cannot start a Kafka producer", self._raw.start, self._settings.connect_timeout_seconds)
        except BaseException:
            await self.stop()
            raise

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions; raises TransportRefused for an unknown topic."""
        known: Any = self._raw.client.cluster.partitions_for_topic(topic)
        if known is None:
            what = f"cannot publish to {topic!r}"
            known = await bounded(what, lambda: self._find(topic), self._settings.query_timeout_seconds)
        return len(known)

    async def _find(self, topic: str) -> Any:
        # The library asks for an unknown topic until its own timeout; a topic just made needs a moment only.
        with anyio.move_on_after(_PROPAGATION_SECONDS):
            return await self._raw.partitions_for(topic)
        found: Any = await self._raw.client.fetch_all_metadata()
        if topic not in found.topics():
            raise ERRORS.UnknownTopicOrPartitionError(topic)
        return found.partitions_for_topic(topic)

    def batches(self, messages: Iterable[tuple[int, Message]]) -> list[tuple[Any, list[int]]]:
        """Fill batches in order, each with the indices it holds; a message larger than a batch gets its own."""
        made: list[tuple[Any, list[int]]] = []
        for index, message in messages:
            if not made or not _append(made[-1][0], message):
                made.append((self._raw.create_batch(), []))
                _append(made[-1][0], message)
            made[-1][1].append(index)
        for batch, _ in made:
            batch.close()
        return made

    async def send(self, batch: Any, topic: str, partition: int) -> None:
        """Send a batch and wait for all in-sync replicas; unbounded, the caller bounds it."""
        try:
            acknowledged: Any = await self._raw.send_batch(batch, topic, partition=partition)
            await acknowledged
        except ERRORS.KafkaError as error:
            raise translated(f"cannot publish to {topic}[{partition}]", error) from error

    async def stop(self) -> None:
        """Give up what is unsent and close, within the time."""
        # stop() flushes for ever without a broker: what is unsent is failed first, the outbox has it.
        raw = self._raw
        unsent: Any = raw._message_accumulator
        batches = [*unsent._pending_batches, *(one for queue in unsent._batches.values() for one in queue)]
        unsent.fail_all(ERRORS.ProducerClosed())
        for batch in batches:
            if not batch.future.cancelled():
                batch.future.exception()  # seen: its caller has given up
        if not await closed(raw.stop, self._settings.close_timeout_seconds):
            if raw._sender.sender_task is not None:
                raw._sender.sender_task.cancel()
            await closed(raw.client.close, 1.0)


def _append(batch: Any, message: Message) -> bool:
    added: Any = batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
    return added is not None
