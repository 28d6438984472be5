"""One suite for the Transport port; every adapter runs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import pytest

from saga._core.envelope import Delivery, Message
from saga._core.partition import partition_of
from saga.errors import PositionLost, Revoked, TransportRefused
from saga.ports import (
    Cleanup,
    GroupSpec,
    Positions,
    Publisher,
    Subscription,
    Table,
    TopicPartition,
    TopicSpec,
    Transport,
)

PATIENCE_SECONDS = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Hold the adapter under test and names nobody else uses."""

    transport: Transport
    name: Callable[[str], str]


@dataclass(kw_only=True)
class Seen:
    """Record what the callbacks were told."""

    starts: Mapping[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    assigned: list[frozenset[TopicPartition]] = field(default_factory=list[frozenset[TopicPartition]])
    revoked: list[frozenset[TopicPartition]] = field(default_factory=list[frozenset[TopicPartition]])
    before_revoke: Callable[[], Awaitable[None]] | None = None

    async def on_assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.assigned.append(partitions)
        return self.starts

    async def on_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        if self.before_revoke is not None:
            await self.before_revoke()
        self.revoked.append(partitions)


@asynccontextmanager
async def member(bench: Bench, group: GroupSpec, seen: Seen | None = None) -> AsyncGenerator[Subscription]:
    told = seen or Seen()
    async with bench.transport.subscribe(group, on_assigned=told.on_assigned, on_revoked=told.on_revoked) as one:
        yield one


async def topic(bench: Bench, hint: str, partitions: int = 1, cleanup: Cleanup = Cleanup.DELETE) -> str:
    name = bench.name(hint)
    await bench.transport.ensure_topics([TopicSpec(name=name, partitions=partitions, cleanup=cleanup)])
    return name


def messages(name: str, count: int, keys: int = 1, start: int = 0) -> list[Message]:
    return [
        Message(topic=name, key=f"k{index % keys}".encode(), value=str(index).encode())
        for index in range(start, start + count)
    ]


async def publish(bench: Bench, batch: Sequence[Message]) -> None:
    async with bench.transport.publisher() as publisher:
        await accepted(publisher, batch)


async def accepted(publisher: Publisher, batch: Sequence[Message]) -> None:
    assert list(await publisher.publish(batch)) == [None] * len(batch)


async def collect(one: Subscription, count: int, limit: int = 500) -> list[Delivery]:
    found: list[Delivery] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            found += await one.fetch(limit, 5.0)
    assert len(found) == count
    return found


async def read(table: Table, *, until_caught_up: bool = True) -> list[Delivery]:
    found: list[Delivery] = []
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            caught_up = await table.caught_up()
            if caught_up and until_caught_up:
                return found
            found += await table.changes(1.0)


def after(found: Iterable[Delivery]) -> dict[TopicPartition, int]:
    positions: dict[TopicPartition, int] = {}
    for one in found:
        positions[TopicPartition(topic=one.topic, partition=one.partition)] = one.offset + 1
    return positions


def values(found: Iterable[Delivery]) -> list[int]:
    return [int(one.value or b"-1") for one in found]


def group(name: str, *topics: str, slot: str = "0", positions: Positions = Positions.BROKER) -> GroupSpec:
    return GroupSpec(name=name, slot=slot, topics=topics, positions=positions)


class TransportContract:
    """Inherit, and give a `bench` fixture."""

    async def test_keeps_order_per_key_and_puts_keys_where_java_does(self, bench: Bench) -> None:
        name = await topic(bench, "order", partitions=4)
        await publish(bench, messages(name, 1200, keys=12))
        async with member(bench, group(bench.name("g"), name)) as one:
            found = await collect(one, 1200)
        for key in {one.key for one in found}:
            assert key is not None
            mine = [one for one in found if one.key == key]
            assert values(mine) == sorted(values(mine))
            assert {one.partition for one in mine} == {partition_of(key, 4)}
        assert len({(one.partition, one.offset) for one in found}) == 1200

    async def test_what_is_on_a_first_topic_comes_before_the_rest(self, bench: Bench) -> None:
        bulk, urgent = await topic(bench, "a-bulk"), await topic(bench, "urgent")
        await publish(bench, messages(bulk, 400))
        await publish(bench, messages(urgent, 20))
        spec = replace(group(bench.name("g"), bulk, urgent), first=frozenset((urgent,)))
        found: list[str] = []
        async with member(bench, spec) as one:
            with anyio.fail_after(PATIENCE_SECONDS):
                while len(found) < 420:
                    found += [delivery.topic for delivery in await one.fetch(7, 5.0)]
        # Once they are there, nothing comes between them.
        first = found.index(urgent)
        assert found[first : first + 20] == [urgent] * 20

    async def test_round_trips_headers_and_tombstones(self, bench: Bench) -> None:
        name = await topic(bench, "bytes")
        headers = (("ce_id", b"\x00\xff"), ("empty", b""), ("ce_id", "ümlaut".encode()))
        sent = [
            Message(topic=name, key=b"a", value=b"\x00" * 300_000, headers=headers),
            Message(topic=name, key=b"a", value=None),
            Message(topic=name, key=b"", value=b""),
        ]
        await publish(bench, sent)
        async with member(bench, group(bench.name("g"), name)) as one:
            found = await collect(one, 3)
        assert [(one.key, one.value, one.headers) for one in found] == [(m.key, m.value, m.headers) for m in sent]

    async def test_an_empty_publish_is_fine(self, bench: Bench) -> None:
        await publish(bench, [])

    async def test_an_unknown_topic_is_the_error_of_its_message_only(self, bench: Bench) -> None:
        name = await topic(bench, "known")
        lost = bench.name("unknown")
        async with bench.transport.publisher() as publisher:
            results = await publisher.publish([*messages(lost, 1), *messages(name, 1)])
        assert isinstance(results[0], TransportRefused)
        assert lost in str(results[0])
        assert results[1] is None

    async def test_publishes_concurrently(self, bench: Bench) -> None:
        name = await topic(bench, "concurrent", partitions=3)
        async with bench.transport.publisher() as publisher, anyio.create_task_group() as tasks:
            for part in range(10):
                tasks.start_soon(accepted, publisher, messages(name, 50, keys=7, start=part * 50))
        async with member(bench, group(bench.name("g"), name)) as one:
            assert sorted(values(await collect(one, 500))) == list(range(500))

    async def test_a_cancelled_publish_leaves_the_publisher_usable(self, bench: Bench) -> None:
        name = await topic(bench, "cancelled")
        async with bench.transport.publisher() as publisher:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await publisher.publish(messages(name, 10))
            await accepted(publisher, messages(name, 10, start=100))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher.publish, messages(name, 10, start=200))
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await accepted(publisher, messages(name, 1, start=300))
        async with member(bench, group(bench.name("g"), name)) as one:
            found: list[int] = []
            with anyio.fail_after(PATIENCE_SECONDS):
                while 300 not in found:
                    found += values(await one.fetch(100, 1.0))
        assert [value for value in found if 100 <= value < 110] == list(range(100, 110))

    async def test_a_fetch_takes_no_more_than_its_limit(self, bench: Bench) -> None:
        name = await topic(bench, "limit", partitions=2)
        await publish(bench, messages(name, 40, keys=8))
        async with member(bench, group(bench.name("g"), name)) as one:
            with anyio.fail_after(PATIENCE_SECONDS):
                while not (first := await one.fetch(7, 1.0)):
                    pass
                assert len(first) <= 7
            assert len(await collect(one, 40 - len(first), limit=7)) + len(first) == 40

    async def test_a_fetch_without_anything_is_empty_after_its_timeout(self, bench: Bench) -> None:
        name = await topic(bench, "empty")
        async with member(bench, group(bench.name("g"), name)) as one:
            assert list(await one.fetch(10, 0.0)) == []
            assert list(await one.fetch(10, 0.05)) == []

    async def test_a_cancelled_fetch_has_taken_nothing(self, bench: Bench) -> None:
        name = await topic(bench, "cancel")
        async with member(bench, group(bench.name("g"), name)) as one:
            with anyio.move_on_after(0.02) as scope:
                await one.fetch(10, PATIENCE_SECONDS)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish, bench, messages(name, 20))
                found: list[Delivery] = []
                with anyio.fail_after(PATIENCE_SECONDS):
                    while len(found) < 20:
                        with anyio.move_on_after(0.001):
                            found += await one.fetch(3, 1.0)
                assert values(found) == list(range(20))
                await one.commit(after(found))

    async def test_an_unknown_group_starts_at_the_earliest(self, bench: Bench) -> None:
        name = await topic(bench, "earliest")
        await publish(bench, messages(name, 5))
        for _ in range(2):
            async with member(bench, group(bench.name("g"), name)) as one:
                assert values(await collect(one, 5)) == list(range(5))

    async def test_the_same_slot_comes_back_quickly_to_what_was_committed(self, bench: Bench) -> None:
        name, reader = await topic(bench, "restart"), bench.name("g")
        await publish(bench, messages(name, 10))
        async with member(bench, group(reader, name)) as one:
            found = await collect(one, 10)
            await one.commit(after(found[:4]))
        with anyio.fail_after(5.0):
            async with member(bench, group(reader, name)) as one:
                again = await collect(one, 6)
        assert values(again) == [4, 5, 6, 7, 8, 9]

    async def test_two_members_share_and_handle_each_message_once(self, bench: Bench) -> None:
        name, reader = await topic(bench, "share", partitions=4), bench.name("g")
        handled: dict[str, list[Delivery]] = {"a": [], "b": []}
        seen = {"a": Seen(), "b": Seen()}

        async def work(slot: str, one: Subscription) -> None:
            while sum(map(len, handled.values())) < 200:
                found = await one.fetch(10, 0.1)
                await one.commit(after(found))
                handled[slot] += found

        async with (
            member(bench, group(reader, name, slot="a"), seen["a"]) as one,
            member(bench, group(reader, name, slot="b"), seen["b"]) as two,
        ):
            with anyio.fail_after(PATIENCE_SECONDS):
                while len(one.positions()) != 2 or len(two.positions()) != 2:
                    await one.fetch(1, 0.05)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(publish, bench, messages(name, 200, keys=16))
                    tasks.start_soon(work, "a", one)
                    tasks.start_soon(work, "b", two)
            assert not one.positions().keys() & two.positions().keys()
        assert sorted(values([*handled["a"], *handled["b"]])) == list(range(200))
        assert handled["a"]
        assert handled["b"]
        assert not {one.partition for one in handled["a"]} & {one.partition for one in handled["b"]}
        assert len(seen["a"].revoked[0]) == 4

    async def test_what_a_leaver_did_not_commit_goes_to_the_others(self, bench: Bench) -> None:
        name, reader = await topic(bench, "leave", partitions=2), bench.name("g")
        await publish(bench, messages(name, 40, keys=10))
        seen = Seen()
        async with member(bench, group(reader, name, slot="a")) as one:
            first = await collect(one, 40)
            await one.commit(after(first[:10]))
        async with member(bench, group(reader, name, slot="b"), seen) as two:
            found: list[Delivery] = []
            with anyio.fail_after(PATIENCE_SECONDS):
                while len(found) < 30:
                    found += await two.fetch(100, 1.0)
        assert sorted(values(found)) == sorted(values(first[10:]))

    async def test_a_commit_while_being_revoked_counts_and_one_afterwards_raises(self, bench: Bench) -> None:
        name, reader = await topic(bench, "revoke", partitions=2), bench.name("g")
        await publish(bench, messages(name, 20, keys=10))
        seen = Seen()
        async with member(bench, group(reader, name, slot="a"), seen) as one:
            found = await collect(one, 20)

            async def drain() -> None:
                await one.commit(after(found))

            seen.before_revoke = drain
            async with member(bench, group(reader, name, slot="b")) as two:
                with anyio.fail_after(PATIENCE_SECONDS):
                    while len(one.positions()) != 1 or len(two.positions()) != 1:
                        await two.fetch(10, 0.05)
                lost = {at: end for at, end in after(found).items() if at in two.positions()}
                with pytest.raises(Revoked):
                    await one.commit(lost)
                with pytest.raises(Revoked):
                    await one.seek(lost)
                assert list(await two.fetch(10, 0.3)) == []
                assert list(await one.fetch(10, 0.3)) == []

    async def test_seek_moves_back_and_forward(self, bench: Bench) -> None:
        name = await topic(bench, "seek")
        await publish(bench, messages(name, 10))
        async with member(bench, group(bench.name("g"), name)) as one:
            found = await collect(one, 10)
            at = TopicPartition(topic=name, partition=0)
            await one.seek({at: found[3].offset})
            assert values(await collect(one, 7)) == [3, 4, 5, 6, 7, 8, 9]
            await one.seek({at: found[8].offset})
            assert one.positions() == {at: found[8].offset}
            assert values(await collect(one, 2)) == [8, 9]
            assert one.positions() == await one.end_offsets()

    async def test_a_position_that_does_not_exist_is_lost_and_never_reset(self, bench: Bench) -> None:
        name = await topic(bench, "lost")
        await publish(bench, messages(name, 3))
        async with member(bench, group(bench.name("g"), name)) as one:
            found = await collect(one, 3)
            await one.seek({TopicPartition(topic=name, partition=0): found[-1].offset + 1000})
            for _ in range(2):
                with pytest.raises(PositionLost):
                    await collect(one, 1)

    async def test_a_subscriber_keeps_its_own_positions(self, bench: Bench) -> None:
        name, reader = await topic(bench, "own", partitions=2), bench.name("g")
        await publish(bench, messages(name, 40, keys=10))
        spec = group(reader, name, positions=Positions.SUBSCRIBER)
        async with member(bench, spec) as one:
            found = await collect(one, 40)
            zero = [one for one in found if one.partition == 0]
            await one.commit(after(zero[:2]))
        seen = Seen(starts={TopicPartition(topic=name, partition=0): zero[2].offset})
        # Partition 1 is absent from the answer: it starts at the earliest record there is.
        async with member(bench, spec, seen) as one:
            again: list[Delivery] = []
            with anyio.fail_after(PATIENCE_SECONDS):
                while one.positions() != await one.end_offsets():
                    again += await one.fetch(100, 1.0)
        assert [one.offset for one in again if one.partition == 0] == [one.offset for one in zero[2:]]

    async def test_end_offsets_grow_with_what_is_published(self, bench: Bench) -> None:
        name = await topic(bench, "ends", partitions=2)
        async with member(bench, group(bench.name("g"), name)) as one:
            before = await one.end_offsets()
            assert len(before) == 2
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish, bench, messages(name, 9, keys=5))
                found = await collect(one, 9)
                await one.commit(after(found))
            ends = await one.end_offsets()
            assert sum(ends.values()) - sum(before.values()) == 9
            assert one.positions() == ends

    async def test_a_table_reads_the_last_values_and_follows(self, bench: Bench) -> None:
        name = await topic(bench, "table", partitions=3, cleanup=Cleanup.COMPACT)
        await publish(bench, messages(name, 60, keys=6))
        await publish(bench, [Message(topic=name, key=b"k5", value=None)])
        async with bench.transport.table(name) as table:
            state: dict[bytes | None, bytes | None] = {}
            for one in await read(table):
                state[one.key] = one.value
            assert {key: value for key, value in state.items() if value is not None} == {
                f"k{index}".encode(): str(54 + index).encode() for index in range(5)
            }
            assert list(await table.changes(0.05)) == []
            await publish(bench, [Message(topic=name, key=b"k0", value=b"new")])
            assert not await table.caught_up()
            assert [(one.key, one.value) for one in await read(table)] == [(b"k0", b"new")]
            await publish(bench, [Message(topic=name, key=b"k0", value=None)])
            assert [(one.key, one.value) for one in await read(table)] == [(b"k0", None)]

    async def test_an_empty_table_is_caught_up(self, bench: Bench) -> None:
        name = await topic(bench, "nothing", cleanup=Cleanup.COMPACT)
        async with bench.transport.table(name) as table:
            assert await table.caught_up()

    async def test_a_table_survives_a_cancelled_wait(self, bench: Bench) -> None:
        name = await topic(bench, "wait", cleanup=Cleanup.COMPACT)
        async with bench.transport.table(name) as table:
            with anyio.move_on_after(0.02):
                await table.changes(PATIENCE_SECONDS)
            await publish(bench, messages(name, 1))
            assert values(await read(table)) == [0]

    async def test_existing_topics_are_checked_and_never_changed(self, bench: Bench) -> None:
        name = await topic(bench, "exists", partitions=2)
        await bench.transport.ensure_topics([TopicSpec(name=name, partitions=2)])
        await bench.transport.ensure_topics([TopicSpec(name=name, partitions=1)])
        with pytest.raises(TransportRefused, match=rf"{name}.*partitions is 2, wanted at least 3"):
            await bench.transport.ensure_topics([TopicSpec(name=name, partitions=3)])
        with pytest.raises(TransportRefused, match=rf"{name}.*cleanup.policy is delete, wanted compact"):
            await bench.transport.ensure_topics([TopicSpec(name=name, partitions=2, cleanup=Cleanup.COMPACT)])

    async def test_many_topics_in_one_group(self, bench: Bench) -> None:
        names = [await topic(bench, f"many{index}") for index in range(3)]
        for index, name in enumerate(names):
            await publish(bench, messages(name, 5, start=index * 10))
        async with member(bench, group(bench.name("g"), *names)) as one:
            found = await collect(one, 15)
        assert {one.topic for one in found} == set(names)
