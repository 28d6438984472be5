"""Hold what the publisher does with answers that come late, in part, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import anyio
import pytest

from saga._core.envelope import Message
from saga.errors import TooLarge, TransportError, TransportUnavailable
from transports.kafka import KafkaSettings
from transports.kafka.producer import Producer
from transports.kafka.publisher import KafkaPublisher

LATE = KafkaSettings(publish_timeout_seconds=0.01)
KEY = b"k"


class Partitions:
    """Be a producer whose batches hold two messages and are answered by the test."""

    def __init__(self, answers: Sequence[bool | None] = ()) -> None:
        self.answers = list(answers)
        self.batches: list[tuple[str, list[bytes | None]]] = []
        self.stopped = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    async def partitions(self, topic: str) -> int:
        assert topic
        return 1

    def queue(self, topic: str, partition: int, messages: Sequence[Message]) -> tuple[asyncio.Future[Any], int]:
        assert partition == 0
        if topic == "broken":
            raise TransportUnavailable("the producer has failed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.batches.append((topic, [message.value for message in messages[:2]]))
        answer = self.answers.pop(0) if self.answers else True
        if answer is not None:
            future.get_loop().call_soon(future.set_result, answer)
        return future, min(2, len(messages))

    def failure(self, topic: str, partition: int, acknowledged: asyncio.Future[Any]) -> TransportError | None:
        del topic, partition
        return None if acknowledged.result() else TransportUnavailable("refused")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def publisher(*producers: Partitions, settings: KafkaSettings | None = None) -> KafkaPublisher:
    waiting = list(producers)
    connect = cast("Callable[[], Producer]", lambda: waiting.pop(0))

    async def no_reason(topics: Collection[str]) -> None:
        del topics

    return KafkaPublisher(connect, settings or KafkaSettings(), no_reason)


def some(topic: str, *values: bytes) -> list[Message]:
    return [Message(topic=topic, key=KEY, value=value) for value in values]


def texts(results: Sequence[BaseException | None]) -> list[str]:
    return [str(result or "") for result in results]


@pytest.mark.anyio
async def test_what_does_not_fit_into_a_batch_follows_once_it_has_arrived() -> None:
    made = Partitions()
    assert await publisher(made).publish(some("t", b"1", b"2", b"3")) == [None, None, None]
    assert made.batches == [("t", [b"1", b"2"]), ("t", [b"3"])]
    assert not made.stopped


@pytest.mark.anyio
async def test_nothing_overtakes_a_batch_that_failed() -> None:
    made = Partitions([False, True])
    results = await publisher(made).publish([*some("t", b"1", b"2", b"3"), *some("u", b"4")])
    assert texts(results) == ["refused", "refused", "refused", ""]
    assert made.batches == [("t", [b"1", b"2"]), ("u", [b"4"])]
    assert made.stopped


@pytest.mark.anyio
async def test_what_has_arrived_when_the_time_is_up_has_arrived() -> None:
    made = Partitions([None, True])
    results = await publisher(made, settings=LATE).publish([*some("t", b"1"), *some("u", b"2")])
    assert texts(results) == ["not acknowledged within 0.01 s", ""]
    assert made.stopped


@pytest.mark.anyio
async def test_a_partition_that_takes_nothing_does_not_hold_up_the_others() -> None:
    first, second = Partitions(), Partitions()
    made = publisher(first, second)
    assert texts(await made.publish([*some("broken", b"1"), *some("t", b"2")])) == ["the producer has failed", ""]
    assert first.stopped
    assert await made.publish(some("t", b"3")) == [None]
    assert second.batches == [("t", [b"3"])]


@pytest.mark.anyio
async def test_a_call_that_was_cancelled_leaves_the_producer_to_the_others() -> None:
    made = Partitions([None])
    shared = publisher(made)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shared.publish, some("t", b"1"))
        while not made.batches:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert await shared.publish(some("t", b"2")) == [None]
    assert not made.stopped


@pytest.mark.anyio
async def test_a_message_too_large_is_its_own_error() -> None:
    results = await publisher(Partitions(), settings=KafkaSettings(max_message_bytes=200)).publish(
        some("t", b"1", b"x" * 200)
    )
    assert results[0] is None
    assert isinstance(results[1], TooLarge)
