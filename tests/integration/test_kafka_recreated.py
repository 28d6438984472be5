"""Topics that are deleted and made anew under a group whose members are static."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import anyio
import pytest

from saga.errors import TransportUnavailable
from saga.ports import Cleanup, Subscription, TopicPartition, TopicSpec
from tests.contracts.transport_contract import Bench, Seen, after, group, member, messages, publish, topic, values
from transports.kafka import KafkaSettings, KafkaTransport, consumer, subscription
from transports.kafka.admin import Admin, visible
from transports.kafka.looking import KafkaBroker

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

QUICK = KafkaSettings(heartbeat_seconds=0.3)  # the session as it is by default: none must have to run out


class Broker(Protocol):
    bootstrap: str


@pytest.fixture
async def bench(kafka: Broker, anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Bench]:
    monkeypatch.setattr(consumer, "_LISTED_SECONDS", 0.5)
    monkeypatch.setattr(subscription, "_LOOK_EVERY_SECONDS", 0.7)
    run = uuid.uuid4().hex[:8]
    async with KafkaTransport(kafka.bootstrap, settings=QUICK) as transport:
        yield Bench(transport=transport, name=lambda hint: f"{hint}-{run}")


async def delete(kafka: Broker, name: str) -> None:
    admin = Admin(kafka.bootstrap, QUICK)
    await admin.start()
    try:
        await admin.ask("cannot delete", lambda raw: raw.delete_topics([name]))
        with anyio.fail_after(20.0):
            while name in (await admin.topics())[0]:
                await anyio.lowlevel.checkpoint()
    finally:
        await admin.stop()


async def create(kafka: Broker, bench: Bench, name: str, partitions: int) -> None:
    spec = TopicSpec(name=name, partitions=partitions, cleanup=Cleanup.DELETE)
    await bench.transport.ensure_topics([spec])
    admin = Admin(kafka.bootstrap, QUICK)
    await admin.start()
    try:
        await visible(admin, [name])
    finally:
        await admin.stop()


async def read_by(members: Sequence[Subscription], count: int) -> list[int]:
    """Read and commit as services do, until so many have come."""
    found: list[int] = []
    with anyio.fail_after(20.0):
        while len(found) < count:
            for one in members:
                try:
                    got = await one.fetch(100, 0.1)
                    found += values(got)
                    await one.commit(after(got))
                except TransportUnavailable:
                    continue
    return sorted(found)


async def test_a_topic_made_anew_under_a_running_group_is_read_from_its_beginning(kafka: Broker, bench: Bench) -> None:
    name, other = await topic(bench, "anew", partitions=4), await topic(bench, "stays", partitions=2)
    reader = bench.name("g")
    async with (
        member(bench, group(reader, name, other, slot="a")) as a,
        member(bench, group(reader, name, other, slot="b")) as b,
    ):
        await publish(bench, messages(name, 40, keys=12))
        assert await read_by((a, b), 40) == list(range(40))
        await delete(kafka, name)
        with anyio.move_on_after(4.0):  # long enough for the members to notice
            await read_by((a, b), 1)
        await create(kafka, bench, name, 4)
        await publish(bench, messages(name, 12, keys=12))
        assert await read_by((a, b), 12) == list(range(12))


async def test_a_topic_made_anew_before_anybody_noticed_is_read_from_its_beginning(kafka: Broker, bench: Bench) -> None:
    name, reader = await topic(bench, "unnoticed", partitions=2), bench.name("g")
    async with member(bench, group(reader, name)) as one:
        await publish(bench, messages(name, 40, keys=12))
        assert await read_by((one,), 40) == list(range(40))
        await delete(kafka, name)
        await create(kafka, bench, name, 2)
        await publish(bench, messages(name, 12, keys=12))
        assert await read_by((one,), 12) == list(range(12))


async def test_static_members_that_come_back_to_other_partitions_share_them_out(kafka: Broker, bench: Bench) -> None:
    name, reader = await topic(bench, "grown"), bench.name("g")
    seen = Seen()
    async with member(bench, group(reader, name), seen) as one:
        await publish(bench, messages(name, 3))
        assert await read_by((one,), 3) == [0, 1, 2]
    await delete(kafka, name)
    await create(kafka, bench, name, 4)
    await publish(bench, messages(name, 12, keys=12))
    async with member(bench, group(reader, name), seen) as one:
        assert await read_by((one,), 12) == list(range(12))
        assert {len(partitions) for partitions in seen.assigned[:2]} == {1}  # the broker gave the old ones back
        assert seen.assigned[-1] == {TopicPartition(topic=name, partition=index) for index in range(4)}
        assert len(seen.assigned) == 3


async def test_what_nobody_has_is_seen_and_counts_as_unread(
    kafka: Broker, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_LOOK_EVERY_SECONDS", 3600.0)  # nobody mends it meanwhile
    name, reader = await topic(bench, "nobodys"), bench.name("g")
    async with member(bench, group(reader, name)) as one, KafkaBroker(kafka.bootstrap) as broker:
        (whole,) = await broker.groups([reader])
        assert (whole.unowned, whole.lag) == ((), 0)
        await publish(bench, messages(name, 3))
        assert await read_by((one,), 3) == [0, 1, 2]
    await delete(kafka, name)
    await create(kafka, bench, name, 3)
    await publish(bench, messages(name, 12, keys=12))
    async with member(bench, group(reader, name)), KafkaBroker(kafka.bootstrap) as broker:
        (short,) = await broker.groups([reader])
        assert short.unowned == (f"{name}[1]", f"{name}[2]")
        assert short.lag == 12


async def test_what_was_committed_beyond_the_end_is_of_another_topic(bench: Bench) -> None:
    name, reader = await topic(bench, "beyond"), bench.name("g")
    await publish(bench, messages(name, 3))
    async with member(bench, group(reader, name)) as one:
        await one.commit({TopicPartition(topic=name, partition=0): 1000})
    async with member(bench, group(reader, name)) as one:
        assert await read_by((one,), 3) == [0, 1, 2]
