# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Wrap the client library's idempotent producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import anyio

from saga._core.envelope import Message
from saga.errors import TransportError
from transports.kafka.library import ERRORS, KAFKA
from transports.kafka.line import Line
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.waits import closed, cut_off

_PROPAGATION_SECONDS = 2.0
_SENDER_SECONDS = 0.5
_RIGHTS = {
    "TopicAuthorizationFailedError": "Write and Describe on that topic",
    "ClusterAuthorizationFailedError": "Write on the topics it publishes to (before Kafka 3 also IdempotentWrite)",
}


class Producer:
    """Be one idempotent producer; it sends batches and is thrown away after the first that fails."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._settings = settings
        self._line = Line(bootstrap, settings, _RIGHTS)
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
            await self._line.bounded(
                "cannot start a Kafka producer", self._raw.start, self._settings.connect_timeout_seconds
            )
            _watched(self._raw)
        except BaseException:
            await self.stop()
            raise

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions; raises TransportRefused for an unknown topic."""
        known: Any = self._raw.client.cluster.partitions_for_topic(topic)
        if known is None:
            what = f"cannot publish to {topic!r}"
            known = await self._line.bounded(what, lambda: self._find(topic), self._settings.query_timeout_seconds)
        return len(known)

    async def _find(self, topic: str) -> Any:
        # The library asks for an unknown topic until its own timeout; a topic just made needs a moment only.
        with anyio.move_on_after(_PROPAGATION_SECONDS):
            return await self._raw.partitions_for(topic)
        found: Any = await self._raw.client.fetch_all_metadata()
        if topic not in found.topics():
            raise ERRORS.UnknownTopicOrPartitionError(topic)
        return found.partitions_for_topic(topic)

    def queue(self, topic: str, partition: int, messages: Sequence[Message]) -> tuple[asyncio.Future[Any], int]:
        """Put messages, in order, into the partition's next batch, and return its future and how many it has taken.

        It takes one at least, however large. Batches of a partition go out one after the other, each at once; what
        is queued while one is on its way shares the next. Give the future to `failure` once it is done. Raises
        TransportError when the producer has failed.
        """
        unsent: Any = self._raw._message_accumulator
        if unsent._exception is not None:
            raise self._line.translated(f"cannot publish to {topic}[{partition}]", unsent._exception)
        place: Any = KAFKA.TopicPartition(topic, partition)
        # The library's own queue, and not send_batch: that waits, for each batch, until the one before has gone.
        waiting: Any = unsent._batches.get(place)
        # One that has been on its way has its sequence numbers already.
        if waiting and waiting[-1].retry_count == 0 and (taken := _fill(waiting[-1]._builder, messages)):
            return waiting[-1].future, taken
        batch: Any = self._raw.create_batch()
        taken = _fill(batch, messages)
        future: Any = unsent._append_batch(batch, place).future
        future.add_done_callback(_seen)
        return future, taken

    def failure(self, topic: str, partition: int, acknowledged: asyncio.Future[Any]) -> TransportError | None:
        """Return why a batch has not reached all in-sync replicas; None when it has."""
        error: Any = ERRORS.ProducerClosed() if acknowledged.cancelled() else acknowledged.exception()
        return error and self._line.translated(f"cannot publish to {topic}[{partition}]", error)

    async def stop(self) -> None:
        """Give up what is unsent and close, within the time."""
        # Not by the public stop(), which flushes for ever without a broker. The sender goes before its batches:
        # one that finds a batch failed behind its back ends in an error of its own.
        raw, self._raw._closed = self._raw, True
        sender: Any = raw._sender.sender_task
        if sender is not None:
            sender.cancel()
        cut_off(raw.client)
        await closed(raw.client.close, self._settings.close_timeout_seconds)
        if sender is not None:
            for _ in range(2):  # the second time also what it has under way
                if await closed(lambda: asyncio.wait([sender]), _SENDER_SECONDS):
                    break
                sender.cancel()
        _fail(raw._message_accumulator, ERRORS.ProducerClosed())


def _watched(raw: Any) -> None:
    """Take over from the library when the sender ends: its own callback itself fails without transactions."""
    sender: Any = raw._sender

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _fail(raw._message_accumulator, error)

    sender.sender_task.remove_done_callback(sender._fail_all)
    sender.sender_task.add_done_callback(ended)


def _fail(unsent: Any, error: BaseException) -> None:
    batches = [*unsent._pending_batches, *(one for queue in unsent._batches.values() for one in queue)]
    # Or else a batch that waits for its next try raises in a callback of the library when it fails.
    unsent._pending_batches.update(batches)
    unsent.fail_all(error)
    for batch in batches:
        _seen(batch.future)  # its caller has given up, or raises it
        if batch._drain_waiter.done():
            _seen(batch._drain_waiter)  # nobody waits for it here


def _fill(batch: Any, messages: Sequence[Message]) -> int:
    """Add messages until one does not fit any more; return how many did."""
    now_ms = time.time_ns() // 1_000_000
    for taken, message in enumerate(messages):
        headers = list(message.headers)
        if batch.append(timestamp=now_ms, key=message.key, value=message.value, headers=headers) is None:
            return taken
    return len(messages)


def _seen(acknowledged: asyncio.Future[Any]) -> None:
    """Look at the error of a batch: whoever has waited for it may have given up."""
    if not acknowledged.cancelled():
        acknowledged.exception()
