# pyright: reportPrivateUsage=false
"""Hold what the producer queues and what the consumer hands over, without a broker."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest

from saga._core.envelope import Message
from saga.errors import TransportUnavailable
from transports.kafka import KafkaSettings
from transports.kafka.consumer import _delivery
from transports.kafka.library import ERRORS
from transports.kafka.producer import Producer

SMALL = KafkaSettings(batch_bytes=4096)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def producer() -> AsyncGenerator[Producer]:
    made = Producer("127.0.0.1:1", SMALL)
    yield made
    await made.stop()


def some(count: int, size: int = 10) -> list[Message]:
    return [Message(topic="t", key=b"k", value=b"x" * size, headers=(("n", b"1"),)) for _ in range(count)]


def queued(producer: Producer) -> list[int]:
    """Return how many records each waiting batch holds."""
    return [one.record_count for batches in producer._raw._message_accumulator._batches.values() for one in batches]


@pytest.mark.anyio
async def test_what_waits_for_one_partition_shares_a_batch(producer: Producer) -> None:
    first, one = producer.queue("t", 0, some(2))
    second, two = producer.queue("t", 0, some(3))
    other, three = producer.queue("t", 1, some(1))
    assert (one, two, three) == (2, 3, 1)
    assert first is second
    assert other is not first
    assert queued(producer) == [5, 1]


@pytest.mark.anyio
async def test_a_batch_takes_what_fits_and_one_message_at_least(producer: Producer) -> None:
    _, taken = producer.queue("t", 0, some(10, size=1000))
    assert taken == 3
    _, taken = producer.queue("t", 0, some(2, size=5000))
    assert taken == 1
    assert queued(producer) == [3, 1]


@pytest.mark.anyio
async def test_a_batch_that_was_on_its_way_takes_no_more(producer: Producer) -> None:
    first, _ = producer.queue("t", 0, some(1))
    (batch,) = producer._raw._message_accumulator._batches.popitem()[1]
    batch.drain_ready()
    batch.reset_drain()
    producer._raw._message_accumulator._batches[batch.tp].appendleft(batch)
    second, _ = producer.queue("t", 0, some(1))
    assert second is not first
    assert queued(producer) == [1, 1]


@pytest.mark.anyio
async def test_a_producer_that_has_failed_takes_nothing_and_says_why(producer: Producer) -> None:
    waiting, _ = producer.queue("t", 0, some(1))
    producer._raw._message_accumulator.fail_all(ERRORS.OutOfOrderSequenceNumber())
    assert isinstance(producer.failure("t", 0, waiting), TransportUnavailable)
    with pytest.raises(TransportUnavailable, match=r"cannot publish to t\[0\].*OutOfOrderSequenceNumber"):
        producer.queue("t", 0, some(1))


@pytest.mark.anyio
async def test_what_waits_for_its_next_try_ends_without_a_word_at_the_exit(caplog: pytest.LogCaptureFixture) -> None:
    producer = Producer("127.0.0.1:1", SMALL)
    producer.queue("t", 0, some(1))
    (batch,) = next(iter(producer._raw._message_accumulator._batches.values()))
    batch.drain_ready()
    batch.reset_drain()
    await producer.stop()
    del batch, producer
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_header_without_a_value_is_empty() -> None:
    place = SimpleNamespace(topic="t", partition=3)
    record = SimpleNamespace(offset=7, key=None, value=b"v", headers=[("a", b"1"), ("b", None)])
    made = _delivery(place, record)
    assert (made.topic, made.partition, made.offset, made.key, made.value) == ("t", 3, 7, None, b"v")
    assert made.headers == (("a", b"1"), ("b", b""))
