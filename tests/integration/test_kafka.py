from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import anyio
import pytest

from saga._core.envelope import Message
from saga.errors import TooLarge, TransportUnavailable
from saga.ports import TopicPartition
from tests.contracts.transport_contract import (
    Bench,
    Seen,
    TransportContract,
    accepted,
    after,
    collect,
    group,
    member,
    messages,
    publish,
    topic,
    values,
)
from transports.kafka import KafkaSettings, KafkaTransport

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

# Short, so that a member that stays away is noticed while the test waits; 6 s is the broker's minimum.
QUICK = KafkaSettings(session_seconds=6.0, heartbeat_seconds=0.3, max_message_bytes=900_000)


class Broker(Protocol):
    bootstrap: str


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def bench(kafka: Broker, anyio_backend: str) -> AsyncGenerator[Bench]:
    run = uuid.uuid4().hex[:8]
    async with KafkaTransport(kafka.bootstrap, settings=QUICK) as transport:
        yield Bench(transport=transport, name=lambda hint: f"{hint}-{run}")


class TestKafka(TransportContract):
    pass


def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_message_over_the_limit_is_its_own_error(bench: Bench) -> None:
    name = await topic(bench, "large")
    large = Message(topic=name, key=b"k0", value=b"x" * 950_000)
    async with bench.transport.publisher() as publisher:
        results = await publisher.publish([*messages(name, 2), large, *messages(name, 2, start=2)])
    assert [type(one) for one in results] == [type(None), type(None), TooLarge, type(None), type(None)]
    async with member(bench, group(bench.name("g"), name)) as one:
        assert values(await collect(one, 4)) == [0, 1, 2, 3]


async def test_several_batches_of_a_partition_keep_their_order(bench: Bench) -> None:
    name = await topic(bench, "batches")
    sent = [Message(topic=name, key=b"k", value=f"{index:05}".encode() * 10_000) for index in range(40)]
    await publish(bench, sent)
    async with member(bench, group(bench.name("g"), name)) as one:
        assert [one.value for one in await collect(one, 40)] == [one.value for one in sent]


async def test_nothing_listening_is_unavailable_with_the_real_reason() -> None:
    settings = KafkaSettings(connect_timeout_seconds=2.0, publish_timeout_seconds=4.0)
    address = f"127.0.0.1:{unused_port()}"
    async with KafkaTransport(address, settings=settings) as transport:
        with pytest.raises(TransportUnavailable, match=f"nothing listens at {address}"):
            await transport.ensure_topics([])
        async with transport.publisher() as publisher:
            (error,) = await publisher.publish(messages("t", 1))
        assert isinstance(error, TransportUnavailable)
        assert f"nothing listens at {address}" in str(error)
        seen = Seen()
        with pytest.raises(TransportUnavailable, match=f"nothing listens at {address}"):
            async with transport.subscribe(group("g", "t"), on_assigned=seen.on_assigned, on_revoked=seen.on_revoked):
                pass


async def test_a_producer_the_broker_no_longer_accepts_is_replaced(bench: Bench) -> None:
    name = await topic(bench, "replaced")
    async with bench.transport.publisher() as publisher:
        await accepted(publisher, messages(name, 2))
        inner: Any = publisher
        first = inner._current.producer
        # A hole in the sequence, as a lost batch would leave it.
        first._raw._txn_manager.increment_sequence_number(first_partition(name), 5)
        with anyio.fail_after(20.0):
            results = await publisher.publish(messages(name, 2, start=2))
            assert all(isinstance(one, TransportUnavailable) for one in results)
            await accepted(publisher, messages(name, 2, start=2))
        assert inner._current.producer is not first
    async with member(bench, group(bench.name("g"), name)) as one:
        assert values(await collect(one, 4)) == [0, 1, 2, 3]


def first_partition(name: str) -> Any:
    from aiokafka import TopicPartition as Theirs

    return Theirs(name, 0)


async def test_a_consumer_whose_fetcher_died_is_rebuilt(bench: Bench) -> None:
    name, reader = await topic(bench, "died"), bench.name("g")
    await publish(bench, messages(name, 3))
    seen = Seen()
    async with member(bench, group(reader, name), seen) as one:
        await one.commit(after(await collect(one, 3)))
        inner: Any = one
        inner._consumer._raw._fetcher._fetch_task.cancel()
        await publish(bench, messages(name, 3, start=3))
        found: list[int] = []
        with anyio.fail_after(20.0):
            while len(found) < 3:
                try:
                    found += values(await one.fetch(10, 0.5))
                except TransportUnavailable:
                    continue
        assert found == [3, 4, 5]
    assert seen.assigned == [frozenset({TopicPartition(topic=name, partition=0)})] * 2


async def test_a_slot_that_comes_back_with_other_topics_is_served(bench: Bench) -> None:
    old, new, reader = await topic(bench, "old"), await topic(bench, "new"), bench.name("g")
    async with member(bench, group(reader, old)) as one:
        await publish(bench, messages(old, 2))
        await one.commit(after(await collect(one, 2)))
    # A deploy: the same slot, one topic more. The old member's partitions are free when its session has passed.
    async with member(bench, group(reader, old, new)) as one:
        await publish(bench, [*messages(old, 1, start=2), *messages(new, 2)])
        found: dict[str, list[int]] = {old: [], new: []}
        with anyio.fail_after(40.0):
            while [len(found[old]), len(found[new])] != [1, 2]:
                for delivery in await one.fetch(10, 1.0):
                    found[delivery.topic] += values([delivery])
    assert found == {old: [2], new: [0, 1]}
