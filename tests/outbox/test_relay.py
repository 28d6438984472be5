from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from outbox.relay import Relay, RelayTuning
from outbox.sqlite import SqliteStore
from saga._core.envelope import Message
from saga._core.relay import Pace, consider, messages_of, pace_after, settle
from saga._core.rows import Changes, OutboxRow
from saga.errors import StoreUnavailable, TransportUnavailable
from tests.contracts.store_rows import NOW, outgoing, put

pytestmark = pytest.mark.anyio

QUICK = RelayTuning(delete_pause_seconds=0.0, sweep_every_seconds=60.0, quiet_seconds=0.05)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class ManualClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class ScriptedPublisher:
    """Acknowledge at once, or fail, or wait until told."""

    seen: list[Message] = field(default_factory=list[Message])
    failing: int = 0
    gate: anyio.Event | None = None
    calls: int = 0
    under_way: int = 0

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        self.calls += 1
        self.under_way += 1
        try:
            await anyio.lowlevel.checkpoint()
            if self.gate is not None:
                await self.gate.wait()
            results: list[BaseException | None] = []
            for message in messages:
                if self.failing:
                    self.failing -= 1
                    results.append(TransportUnavailable("scripted"))
                else:
                    self.seen.append(message)
                    results.append(None)
            return results
        finally:
            self.under_way -= 1

    def sent(self, topic: str = "stock.events") -> list[str]:
        return [message.key.decode() for message in self.seen if message.topic == topic]


@dataclass
class Bench:
    clock: ManualClock
    store: SqliteStore
    publisher: ScriptedPublisher = field(default_factory=ScriptedPublisher)

    async def commit(self, *keys: str, record: bytes | None = None) -> list[OutboxRow]:
        rows = [outgoing(key, record=record) for key in keys]
        seqs = await put(self.store, Changes(outbox=tuple(rows)))
        return [replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)]

    def age(self, seconds: float = 6) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def relay(self, tuning: RelayTuning = QUICK) -> Relay:
        return Relay(self.store, self.publisher, owner="test", tuning=tuning)

    async def stored(self) -> int:
        return (await self.store.pending())[0]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench]:
    clock = ManualClock()
    async with SqliteStore(str(tmp_path / "one.db"), clock=clock) as store:
        await store.migrate()
        yield Bench(clock, store)


@asynccontextmanager
async def running(*relays: Relay) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        for relay in relays:
            tasks.start_soon(relay.run)
        yield
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - a condition of the product, not of the test
            await anyio.sleep(0.001)


async def until_empty(bench: Bench) -> None:
    with anyio.fail_after(10):
        while await bench.stored():  # noqa: ASYNC110 - likewise
            await anyio.sleep(0.001)


async def test_rows_handed_over_go_out_in_order_and_are_deleted(bench: Bench) -> None:
    relay = bench.relay()
    async with running(relay):
        first = await bench.commit("a", "b", "a")
        relay.hand_over(first)
        relay.hand_over(await bench.commit("a", "c"))
        relay.hand_over(first)  # again: they are in hand, or gone
        await until_empty(bench)
        await until(lambda: relay.in_hand == 0)
    assert [key for key in bench.publisher.sent() if key == "a"] == ["a"] * 3
    assert sorted(bench.publisher.sent()) == ["a", "a", "a", "b", "c"]


async def test_a_row_is_an_event_a_record_or_both(bench: Bench) -> None:
    both, event = outgoing("k", b"e", b"r"), outgoing("k", b"e")
    record, nothing = outgoing("k", None, b"r"), outgoing("k", None)
    assert [message.topic for message in messages_of(both)] == ["stock.events", "saga.runs"]
    assert messages_of(both)[1] == Message(topic="saga.runs", key=b"k", value=b"r", headers=both.record_headers)
    assert messages_of(both)[0] == Message(topic="stock.events", key=b"k", value=b"e", headers=both.headers)
    assert len(messages_of(event)) == len(messages_of(record)) == 1
    assert messages_of(nothing) == ()
    rows = (both, event, record, nothing)
    seqs = await put(bench.store, Changes(outbox=rows))
    relay = bench.relay()
    async with running(relay):
        relay.hand_over([replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)])
        await until_empty(bench)
    assert len(bench.publisher.seen) == 4


async def test_nothing_is_deleted_before_its_acknowledgement(bench: Bench) -> None:
    bench.publisher.gate = anyio.Event()
    relay = bench.relay()
    async with running(relay):
        relay.hand_over(await bench.commit("a", "b"))
        await until(lambda: bench.publisher.under_way == 1)
        relay.hand_over(await bench.commit("c"))
        await until(lambda: bench.publisher.under_way == 2)  # a slow one does not hold up the next
        assert await bench.stored() == 3
        bench.publisher.gate.set()
        await until_empty(bench)


async def test_a_failed_row_is_left_to_the_sweep(bench: Bench) -> None:
    bench.publisher.failing = 1
    relay = bench.relay()
    async with running(relay):
        relay.hand_over(await bench.commit("a", "b", record=b"r"))
        await until(lambda: relay.counts.get("deleted") == 1 and relay.in_hand == 0)
        assert await bench.stored() == 1
        bench.age()
        relay.sweep_now()
        await until_empty(bench)
    # The record of the first row had been acknowledged; it goes out again with its event.
    assert bench.publisher.sent() == ["b", "a"]
    assert bench.publisher.sent("saga.runs") == ["a", "b", "a"]


async def test_rows_there_is_no_room_for_are_left_to_the_sweep(bench: Bench) -> None:
    bench.publisher.gate = anyio.Event()
    relay = bench.relay(replace(QUICK, in_hand=2))
    async with running(relay):
        relay.hand_over(await bench.commit("a", "b", "c"))
        relay.hand_over(await bench.commit("d"))
        assert relay.in_hand == 2
        assert relay.counts == {"refused": 2}
        bench.publisher.gate.set()
        await until(lambda: relay.in_hand == 0)
        bench.age()
        relay.sweep_now()
        await until_empty(bench)
    assert bench.publisher.sent() == ["a", "b", "c", "d"]


async def test_a_new_process_publishes_what_an_old_one_left(bench: Bench) -> None:
    await bench.commit(*"abcde")
    bench.age()
    relay = bench.relay(replace(QUICK, page=2))
    async with running(relay):
        await until_empty(bench)
    assert bench.publisher.sent() == list("abcde")
    assert relay.counts["swept"] == 5


async def test_what_is_in_hand_is_not_swept(bench: Bench) -> None:
    bench.publisher.gate = anyio.Event()
    relay = bench.relay()
    async with running(relay):
        relay.hand_over(await bench.commit("slow"))
        await until(lambda: bench.publisher.under_way == 1)
        bench.age()
        await bench.commit("left")
        bench.age()
        relay.sweep_now()
        await until(lambda: bench.publisher.under_way == 2)
        bench.publisher.gate.set()
        await until_empty(bench)
    assert sorted(bench.publisher.sent()) == ["left", "slow"]


async def test_two_relays_sweep_under_one_lease(bench: Bench) -> None:
    await bench.commit(*"abcdef")
    bench.age()
    relays = [bench.relay(replace(QUICK, page=2, sweep_every_seconds=0.001)) for _ in range(2)]
    async with running(*relays):
        await until_empty(bench)
    assert sorted(bench.publisher.sent()) == list("abcdef")
    assert sorted(relay.counts.get("swept", 0) for relay in relays) == [0, 6]


async def test_a_failed_page_is_not_repeated_at_once(bench: Bench) -> None:
    await bench.commit("a", "b")
    bench.age()
    bench.publisher.failing = 1
    relay = bench.relay(replace(QUICK, page=2))
    async with running(relay):
        await until(lambda: relay.counts.get("deleted") == 1)
        assert bench.publisher.calls == 1
        relay.sweep_now()
        await until_empty(bench)
    assert bench.publisher.sent() == ["b", "a"]


class FlakyStore(SqliteStore):
    """A database that is away for the first deletions and sweeps."""

    away = 2

    async def delete(self, seqs: Sequence[int]) -> None:
        self._fail()
        await super().delete(seqs)

    async def sweep(
        self,
        owner: str,
        *,
        older_than_seconds: float,
        limit: int,
        in_hand: frozenset[int],
        lease_seconds: float,
    ) -> Sequence[OutboxRow]:
        self._fail()
        return await super().sweep(
            owner,
            older_than_seconds=older_than_seconds,
            limit=limit,
            in_hand=in_hand,
            lease_seconds=lease_seconds,
        )

    def _fail(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("scripted")


async def test_a_database_that_is_away_is_waited_for_and_nothing_goes_out_twice(tmp_path: Path) -> None:
    clock = ManualClock()
    async with FlakyStore(str(tmp_path / "one.db"), clock=clock) as store:
        await store.migrate()
        bench = Bench(clock, store)
        relay = bench.relay(replace(QUICK, sweep_every_seconds=0.001))
        rows = await bench.commit("a", "b")
        bench.age()
        async with running(relay):
            relay.hand_over(rows)
            await until_empty(bench)
    assert bench.publisher.sent() == ["a", "b"]


async def test_draining_publishes_and_deletes_what_is_in_hand(bench: Bench) -> None:
    relay = bench.relay(replace(QUICK, delete_pause_seconds=30))
    async with running(relay):
        relay.hand_over(await bench.commit("a"))
        await until(lambda: relay.counts.get("deleted") == 1)
        relay.hand_over(await bench.commit("b", "c"))
        await relay.drain(10)
        assert relay.in_hand == 0
    assert await bench.stored() == 0


async def test_many_published_rows_are_deleted_before_the_pause_is_over(bench: Bench) -> None:
    relay = bench.relay(replace(QUICK, delete_pause_seconds=math.inf, delete_batch=3))
    async with running(relay):
        relay.hand_over(await bench.commit("a"))
        await until(lambda: relay.counts.get("deleted") == 1)
        relay.hand_over(await bench.commit("b", "c"))
        await until(lambda: relay.counts.get("published") == 3)
        assert relay.in_hand == 2
        relay.hand_over(await bench.commit("d"))
        await until(lambda: relay.counts.get("deleted") == 4)


async def test_draining_gives_up_on_what_nobody_acknowledges(bench: Bench) -> None:
    bench.publisher.gate = anyio.Event()
    relay = bench.relay()
    with anyio.fail_after(5):
        async with running(relay):
            relay.hand_over(await bench.commit("a"))
            await relay.drain(60)
            assert relay.in_hand == 1
    assert await bench.stored() == 1


async def test_a_relay_that_was_stopped_runs_again(bench: Bench) -> None:
    bench.publisher.gate = anyio.Event()
    relay = bench.relay()
    async with running(relay):
        relay.hand_over(await bench.commit("a"))
        await until(lambda: bench.publisher.under_way == 1)
    bench.publisher.gate = None
    relay.hand_over(await bench.commit("b"))
    assert relay.in_hand == 1  # nobody knows whether the first arrived
    bench.age()
    async with running(relay):
        await until_empty(bench)
    assert sorted(bench.publisher.sent()) == ["a", "b"]


def test_the_rules() -> None:
    rows = [replace(outgoing(), seq=n) for n in range(1, 6)]
    offer = consider(rows, {1, 9}, 4)
    assert ([row.seq for row in offer.taken], offer.refused) == ([2, 3], 2)
    assert consider(rows, {1, 2}, 1).taken == ()
    error = ValueError()
    settled = settle(rows[:4], [1, 2, 2, 0], [None, None, error, None, None])
    assert (settled.done, settled.forgotten, settled.error) == ((1, 3, 4), (2,), error)
    good = settle(rows[:1], [1], [None])
    assert pace_after(2, 2, good) is Pace.AT_ONCE
    assert pace_after(1, 2, good) is Pace.LATER
    assert pace_after(2, 2, settled) is Pace.LATER
