from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import anyio
import pytest

from saga._core.envelope import Message
from saga.errors import TransportUnavailable
from saga.ports import Cleanup, GroupSpec, Positions, TopicPartition, TopicSpec
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
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(transport: MemoryTransport) -> Bench:
    numbers = count()
    return Bench(transport=transport, name=lambda hint: f"{hint}-{next(numbers)}")


@pytest.fixture
def bench() -> Bench:
    return made(MemoryTransport())


class TestMemory(TransportContract):
    pass


async def test_a_publish_is_acknowledged_once_every_group_has_committed_past_it() -> None:
    transport = MemoryTransport(groups={"one": ("t",), "two": ("t",)})
    bench = made(transport)
    await transport.ensure_topics([TopicSpec(name="t", partitions=1)])
    acknowledged: list[str] = []

    async def send() -> None:
        await publish(bench, messages("t", 3))
        acknowledged.append("yes")

    spec = group("two", "t", positions=Positions.SUBSCRIBER)
    async with (
        member(bench, group("one", "t")) as one,
        member(bench, spec) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(send)
        found = await collect(one, 3)
        await one.commit(after(found))
        await two.commit(after((await collect(two, 3))[:2]))
        await anyio.lowlevel.checkpoint()
        assert acknowledged == []
        await two.commit(after(found))
    assert acknowledged == ["yes"]


async def test_a_waiting_publish_does_not_hold_up_others() -> None:
    transport = MemoryTransport(groups={"slow": ("a",)})
    await transport.ensure_topics([TopicSpec(name="a", partitions=1), TopicSpec(name="b", partitions=1)])
    async with transport.publisher() as publisher, anyio.create_task_group() as tasks:
        tasks.start_soon(publisher.publish, messages("a", 1))
        await anyio.lowlevel.checkpoint()
        await accepted(publisher, messages("b", 1))
        tasks.cancel_scope.cancel()


async def test_an_overdue_publish_is_an_error_and_its_repetition_is_stored_once() -> None:
    transport = MemoryTransport(groups={"g": ("t",)}, publish_timeout_seconds=0.01)
    bench = made(transport)
    await transport.ensure_topics([TopicSpec(name="t", partitions=1)])
    async with transport.publisher() as publisher:
        for _ in range(3):
            results = await publisher.publish(messages("t", 5))
            assert all(isinstance(one, TransportUnavailable) for one in results)
    async with member(bench, group("g", "t")) as one:
        found = await collect(one, 5)
        assert list(await one.fetch(10, 0.01)) == []
        await one.commit(after(found))
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, bench, messages("t", 5))
            again = await collect(one, 5)
            await one.commit(after(again))
            assert values(again) == values(found)
            assert again[0].offset > found[-1].offset


async def test_what_everybody_has_committed_is_dropped_and_the_end_stays() -> None:
    transport = MemoryTransport(groups={"g": ("t",)})
    bench = made(transport)
    await transport.ensure_topics([TopicSpec(name="t", partitions=1)])
    async with member(bench, group("g", "t")) as one, anyio.create_task_group() as tasks:
        tasks.start_soon(publish, bench, messages("t", 100))
        await one.commit(after(await collect(one, 100)))
        inner: Any = transport
        (log,) = inner._topics["t"].logs
        assert len(log) == 0
        assert (
            await one.end_offsets() == one.positions() == {TopicPartition(topic="t", partition=0): transport.base + 100}
        )


async def test_a_topic_without_groups_keeps_a_bounded_tail() -> None:
    bench = made(MemoryTransport(keep_records=10))
    name = await topic(bench, "t")
    await publish(bench, messages(name, 100))
    async with member(bench, group("g", name)) as one:
        assert values(await collect(one, 10)) == list(range(90, 100))


async def test_a_full_partition_refuses_more() -> None:
    transport = MemoryTransport(groups={"g": ("t",)}, max_records=3, publish_timeout_seconds=0.01)
    await transport.ensure_topics([TopicSpec(name="t", partitions=1)])
    async with transport.publisher() as publisher:
        results = await publisher.publish(messages("t", 4))
    assert "holds 3 records" in str(results[3])


@pytest.mark.parametrize("old", [0, 999, 10**18])
async def test_a_position_of_another_incarnation_starts_at_the_beginning(old: int) -> None:
    bench = made(MemoryTransport(clock_ns=lambda: 1_000_000))
    name = await topic(bench, "t")
    await publish(bench, messages(name, 2))
    at = TopicPartition(topic=name, partition=0)
    spec = GroupSpec(name="g", slot="0", topics=(name,), positions=Positions.SUBSCRIBER)
    async with member(bench, spec, Seen(starts={at: old})) as one:
        assert one.positions() == {at: 1000}
        assert [delivery.offset for delivery in await collect(one, 2)] == [1000, 1001]


def test_incarnations_differ() -> None:
    tokens: Callable[[], MemoryTransport] = MemoryTransport
    assert tokens().incarnation != tokens().incarnation


async def test_a_second_member_with_a_live_slot_replaces_the_first() -> None:
    bench = made(MemoryTransport())
    name = await topic(bench, "t")
    async with member(bench, group("g", name)) as one, member(bench, group("g", name)) as two:
        with pytest.raises(TransportUnavailable, match="slots must be unique"):
            await one.fetch(1, 0.0)
        assert len(two.positions()) == 1


async def test_partitions_move_on_when_the_callbacks_of_another_fail_or_hang() -> None:
    bench = made(MemoryTransport(rebalance_budget_seconds=0.01))
    name = await topic(bench, "t", partitions=2)
    seen = Seen(before_revoke=anyio.sleep_forever)
    async with member(bench, group("g", name, slot="a"), seen) as one, member(bench, group("g", name, slot="b")) as two:
        assert len(one.positions()) == len(two.positions()) == 1


async def test_a_table_forgets_superseded_values_and_passed_tombstones() -> None:
    transport = MemoryTransport()
    bench = made(transport)
    name = await topic(bench, "t", cleanup=Cleanup.COMPACT)
    async with transport.publisher() as publisher:
        for index in range(500):
            key = f"k{index % 50}".encode()
            await accepted(
                publisher, [Message(topic=name, key=key, value=b"v"), Message(topic=name, key=key, value=None)]
            )
        await accepted(publisher, [Message(topic=name, key=b"last", value=b"v")])
    inner: Any = transport
    (log,) = inner._topics[name].logs
    assert len(log) == 1
    async with transport.table(name) as table:
        assert [one.key for one in await table.changes(0.0)] == [b"last"]
        assert await table.caught_up()
