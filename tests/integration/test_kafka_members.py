"""Members of a group that come, go, die, are slow or do not fetch."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from anyio.abc import TaskStatus

from saga._core.envelope import Message
from saga.errors import TransportRefused, TransportUnavailable
from saga.ports import Cleanup, Subscription, TopicPartition
from tests.contracts.transport_contract import Bench, Seen, collect, group, member, messages, publish, topic, values
from tests.integration.kafka_load import BATCH, Load, Worker
from transports.kafka import KafkaSettings, KafkaTransport, subscription, table

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

log = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
QUICK = KafkaSettings(session_seconds=6.0, heartbeat_seconds=0.3, stalled_after_seconds=0.5, join_timeout_seconds=5.0)


class Broker(Protocol):
    bootstrap: str


@pytest.fixture
async def bench(kafka: Broker, anyio_backend: str) -> AsyncGenerator[Bench]:
    run = uuid.uuid4().hex[:8]
    async with KafkaTransport(kafka.bootstrap, settings=QUICK) as transport:
        yield Bench(transport=transport, name=lambda hint: f"{hint}-{run}")


async def test_slow_members_come_and_go_and_nothing_is_lost(bench: Bench) -> None:
    name, reader = await topic(bench, "slow", partitions=6), bench.name("g")
    load, working = Load(topic=name, ahead=3 * BATCH), dict[TopicPartition, str]()
    workers = {slot: Worker(load, slot, working, slow_seconds=0.2) for slot in "abc"}
    async with bench.transport.publisher() as publisher, anyio.create_task_group() as tasks:
        tasks.start_soon(load.publish, publisher)
        leaving = anyio.CancelScope()

        async def work(slot: str, scope: anyio.CancelScope) -> None:
            with scope:
                await workers[slot].run(bench.transport, group(reader, name, slot=slot))

        with anyio.fail_after(60.0):
            for slot, scope in (("a", anyio.CancelScope()), ("b", leaving), ("c", anyio.CancelScope())):
                tasks.start_soon(work, slot, scope)
                await workers[slot].assigned.wait()
                await load.reach(load.sent + 2 * BATCH)
            assert workers["a"].assignments == 3  # two rebalances while batches were in hand
            leaving.cancel()  # in the middle of whatever it does; its partitions go when its session has passed
            await load.reach(load.sent + 2 * BATCH)
            await load.drained()
        tasks.cancel_scope.cancel()
    load.check()
    assert all(worker.handled for worker in workers.values())


async def test_a_handler_that_outlasts_the_revocation_loses_nothing(kafka: Broker) -> None:
    settings = KafkaSettings(session_seconds=6.0, heartbeat_seconds=0.3, callback_seconds=0.2)
    bench = Bench(
        transport=KafkaTransport(kafka.bootstrap, settings=settings), name=lambda hint: f"{hint}-{uuid.uuid4().hex[:8]}"
    )
    name, reader = await topic(bench, "outlasts", partitions=2), bench.name("g")
    load = Load(topic=name, ahead=BATCH)
    async with bench.transport.publisher() as publisher, anyio.create_task_group() as tasks:
        tasks.start_soon(load.publish, publisher)
        with anyio.fail_after(60.0):
            for slot in "ab":
                # The partition goes while the first is still at work on it: so each has a book of its own.
                worker = Worker(load, slot, {}, slow_seconds=1.0)
                tasks.start_soon(worker.run, bench.transport, group(reader, name, slot=slot))
                await worker.assigned.wait()
                await load.reach(BATCH)
            await load.drained()
        tasks.cancel_scope.cancel()
    assert load.values == set(range(load.sent))


@contextmanager
def process(kafka: Broker, reader: str, slot: str, name: str) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.kafka_member", kafka.bootstrap, reader, slot, name]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        try:
            yield one
        finally:
            one.kill()


async def joined(one: subprocess.Popen[str]) -> float:
    assert one.stdin is not None
    assert one.stdout is not None
    one.stdin.write("\n")
    one.stdin.flush()
    return float(await anyio.to_thread.run_sync(one.stdout.readline))


async def test_the_rest_of_a_static_group_hardly_stands_still_when_one_is_killed(kafka: Broker) -> None:
    settings = KafkaSettings(session_seconds=6.0)  # the heartbeat as it is by default
    bench = Bench(
        transport=KafkaTransport(kafka.bootstrap, settings=settings), name=lambda hint: f"{hint}-{uuid.uuid4().hex[:8]}"
    )
    name, reader = await topic(bench, "static", partitions=6), bench.name("g")
    load = Load(topic=name, ahead=100_000)  # what the dead member has left unread must not stop the publisher
    workers = {slot: Worker(load, slot, {}) for slot in "ab"}
    async with bench.transport.publisher() as publisher, anyio.create_task_group() as tasks:
        tasks.start_soon(load.publish, publisher)
        with process(kafka, reader, "c", name) as first, process(kafka, reader, "c", name) as again:
            await joined(first)
            for slot, worker in workers.items():
                tasks.start_soon(worker.run, bench.transport, group(reader, name, slot=slot))
            with anyio.fail_after(30.0):
                await load.until(lambda: {len(worker.mine) for worker in workers.values()} == {2})
            # Back with its slot before its session has passed: nobody else hears of it.
            first.send_signal(signal.SIGKILL)
            before = [worker.assignments for worker in workers.values()]
            back_seconds = await joined(again)
            assert [worker.assignments for worker in workers.values()] == before
            again.send_signal(signal.SIGKILL)
            # And for good: the others get its partitions when its session has passed.
            load.longest_silence_seconds, killed = 0.0, time.monotonic()
            with anyio.fail_after(30.0):
                await load.until(lambda: {len(worker.mine) for worker in workers.values()} == {3})
            taken_over_seconds = time.monotonic() - killed
            told = "a killed member was back in %.1f s; taken over in %.1f s, of which the rest stood still %.1f s"
            log.info(told, back_seconds, taken_over_seconds, load.longest_silence_seconds)
            assert back_seconds < 5.0
            assert load.longest_silence_seconds < 5.0
            tasks.cancel_scope.cancel()


async def test_two_processes_with_one_slot_are_told(bench: Bench) -> None:
    name, reader = await topic(bench, "twice"), bench.name("g")
    told: list[str] = []

    async def read(*, task_status: TaskStatus[None]) -> None:
        try:
            async with member(bench, group(reader, name)) as one:
                task_status.started()
                while True:
                    await one.fetch(10, 0.1)
        except TransportRefused as error:
            told.append(str(error))
            tasks.cancel_scope.cancel()

    with anyio.fail_after(30.0):
        async with anyio.create_task_group() as tasks:
            await tasks.start(read)
            await tasks.start(read)
    (only,) = told
    assert "another process has the same slot" in only
    assert "give every process a slot of its own" in only


async def test_who_does_not_fetch_stays_a_member_and_takes_little_memory(bench: Bench) -> None:
    name, reader = await topic(bench, "idle", partitions=4), bench.name("g")
    sent = [Message(topic=name, key=f"k{index}".encode(), value=b"x" * 200_000) for index in range(100)]
    await publish(bench, sent)
    seen = Seen()
    async with member(bench, group(reader, name), seen) as one:
        raw: Any = one
        raw = raw._consumer._raw
        raw._subscription._last_fetch_ended -= 7 * 86_400.0  # a handler that takes a week
        await heartbeats(raw._coordinator, 5)
        held = sum(result._partition_records._records.size_in_bytes() for result in raw._fetcher._records.values())
        assert 0 < held <= 4 * 2 * QUICK.partition_fetch_bytes
        found = await collect(one, 100)
    assert {delivery.key for delivery in found} == {message.key for message in sent}
    assert len(seen.assigned) == 1
    assert seen.revoked == []


async def heartbeats(coordinator: Any, count: int) -> None:
    """Wait until the member has sent so many heartbeats and had them answered."""
    beat, answered, done = coordinator._do_heartbeat, 0, anyio.Event()

    async def counted() -> bool:
        nonlocal answered
        good: bool = await beat()
        answered += good
        if answered == count:
            done.set()
        return good

    coordinator._do_heartbeat = counted
    with anyio.fail_after(20.0):
        await done.wait()


async def values_of(one: Subscription, count: int) -> list[int]:
    """Read as an application does: a transport that is away for the moment is asked again."""
    found: list[int] = []
    with anyio.fail_after(20.0):
        while len(found) < count:
            try:
                found += values(await one.fetch(10, 0.1))
            except TransportUnavailable:
                continue
    return found


async def test_a_consumer_that_stands_still_is_rebuilt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "_LOOK_EVERY_SECONDS", 0.1)
    name, reader = await topic(bench, "stalled"), bench.name("g")
    seen = Seen()
    async with member(bench, group(reader, name), seen) as one:
        inner: Any = one
        inner._consumer._raw.pause(*inner._consumer._raw.assignment())
        await publish(bench, messages(name, 3))
        assert await values_of(one, 3) == [0, 1, 2]
    assert len(seen.assigned) == 2


async def test_a_table_that_stands_still_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_LOOK_EVERY_SECONDS", 0.1)
    name = await topic(bench, "still", cleanup=Cleanup.COMPACT)
    async with bench.transport.table(name) as one:
        inner: Any = one
        inner._consumer._raw.pause(*inner._consumer._raw.assignment())
        await publish(bench, messages(name, 1))
        with anyio.fail_after(20.0), pytest.raises(TransportUnavailable, match=f"reader of '{name}' stands still"):
            await forever(lambda: one.changes(0.1))


async def forever(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await call()


async def test_what_goes_wrong_between_two_assignments_is_raised(bench: Bench) -> None:
    name, reader = await topic(bench, "between"), bench.name("g")
    async with member(bench, group(reader, name)) as one:
        inner: Any = one
        await inner._give_up(frozenset({TopicPartition(topic=name, partition=0)}))
        # The library keeps such an error for the next call of getmany, which nobody makes without partitions.
        inner._consumer._raw._coordinator._pending_exception = GroupAuthorizationFailedError(reader)
        with pytest.raises(TransportRefused, match=f"grant Read on group '{reader}'"):
            await one.fetch(10, 0.1)


async def test_a_member_that_is_assigned_nothing_for_too_long_joins_anew(bench: Bench) -> None:
    name, reader = await topic(bench, "unassigned"), bench.name("g")
    await publish(bench, messages(name, 3))
    seen = Seen()
    async with member(bench, group(reader, name), seen) as one:
        inner: Any = one
        # As if the library had begun a rebalance and never come to its end.
        await inner._give_up(frozenset({TopicPartition(topic=name, partition=0)}))
        assert await values_of(one, 3) == [0, 1, 2]
    assert len(seen.assigned) == 2
