"""Events with a key go out in order, whoever writes them and whatever fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from outbox.relay import Relay, RelayTuning
from outbox.shards import ShardTuning
from outbox.sqlite import SqliteStore
from saga._core.envelope import Message
from saga._core.plain import SHARDS, shard_of
from saga._core.rows import Changes, OutboxRow
from saga.errors import StoreUnavailable, TransportUnavailable
from saga.testing.virtual import VirtualClock
from tests.contracts.store_rows import outgoing, put

pytestmark = pytest.mark.anyio

_numbers = count(1)

QUICK = RelayTuning(quiet_seconds=60.0, shards=ShardTuning(lease_seconds=6.0))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@dataclass
class Topic:
    """Keep what arrives, in order, and say when."""

    log: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    at: list[float] = field(default_factory=list[float])
    news: anyio.Event = field(default_factory=anyio.Event)

    def take(self, message: Message) -> None:
        self.log.append((message.key.decode(), int(dict(message.headers)["ce_sequence"])))
        self.at.append(anyio.current_time())
        self.news.set()
        self.news = anyio.Event()

    def of(self, key: str) -> list[int]:
        return [seq for found, seq in self.log if found == key]


@dataclass
class Line:
    """Be one relay's way to the topic: it can refuse keys, take its time, and die."""

    topic: Topic
    refusing: set[str] = field(default_factory=set[str])
    seconds: Callable[[], float] = lambda: 0.0
    calls: int = 0
    begun: anyio.Event = field(default_factory=anyio.Event)

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        self.calls += 1
        self.begun.set()
        results: list[BaseException | None] = []
        refusing = set(self.refusing)  # as a publisher must: of a key nothing is acknowledged behind an error
        for message in messages:
            if wait := self.seconds():
                await anyio.sleep(wait)
            else:
                await checkpoint()
            if message.key.decode() in refusing:
                results.append(TransportUnavailable("scripted"))
            else:
                self.topic.take(message)
                results.append(None)
        return results


class Flaky(SqliteStore):
    """Be a database that is away now and then, and a process whose death nobody is told of."""

    odds: Callable[[], bool] = staticmethod(lambda: False)
    is_dead = False

    async def give_up(self, owner: str, shards: Sequence[int] | None) -> None:
        if self.is_dead:
            raise StoreUnavailable("killed")
        await super().give_up(owner, shards)

    async def shard_page(
        self, shards: Sequence[int], keys: Sequence[str], *, limit: int, each: int
    ) -> Sequence[OutboxRow]:
        if self.odds():
            raise StoreUnavailable("scripted")
        return await super().shard_page(shards, keys, limit=limit, each=each)

    async def delete(self, seqs: Sequence[int]) -> None:
        if self.odds():
            raise StoreUnavailable("scripted")
        await super().delete(seqs)


@dataclass
class Bench:
    store: Flaky
    topic: Topic
    name: str

    async def commit(self, *keys: str) -> list[OutboxRow]:
        rows = tuple(replace(outgoing(key), shard=shard_of(key)) for key in keys)
        seqs = await put(self.store, Changes(outbox=rows))
        return [replace(row, seq=seq) for row, seq in zip(rows, seqs, strict=True)]

    def relay(self, line: Line, store: SqliteStore | None = None, tuning: RelayTuning = QUICK) -> Relay:
        store = store or self.store
        return Relay(store, line, tuning=tuning, keyed=store)

    async def until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        with anyio.fail_after(seconds):
            while not condition():
                await self.topic.news.wait()

    async def until_empty(self) -> None:
        with anyio.fail_after(120.0):
            while (await self.store.pending())[0]:  # noqa: ASYNC110 - the database does not tell
                await anyio.sleep(0.01)


@asynccontextmanager
async def another(bench: Bench) -> AsyncGenerator[Flaky]:
    """Open the same database as another process would."""
    async with Flaky(":memory:", name=bench.name, clock=VirtualClock()) as store:
        yield store


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    name = f"shards{next(_numbers)}"
    async with Flaky(":memory:", name=name, clock=VirtualClock()) as store:
        await store.migrate()
        yield Bench(store, Topic(), name)


@asynccontextmanager
async def running(*relays: Relay) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as tasks:
        for relay in relays:
            tasks.start_soon(relay.run)
        yield
        tasks.cancel_scope.cancel()


def shards(relay: Relay) -> frozenset[int]:
    assert relay.shards is not None
    return relay.shards.held


async def test_what_is_committed_here_goes_out_at_once_and_in_order(bench: Bench) -> None:
    relay = bench.relay(Line(bench.topic))
    async with running(relay):
        relay.hand_over(await bench.commit("a", "b", "a"))
        relay.hand_over(await bench.commit("a", "c"))
        await bench.until(lambda: len(bench.topic.log) == 5)
        assert anyio.current_time() - bench.topic.at[0] < 0.001
        await bench.until_empty()
        relay.hand_over(await bench.commit("a"))
        before = anyio.current_time()
        await bench.until(lambda: len(bench.topic.log) == 6)
        assert bench.topic.at[-1] - before < 0.01
    assert bench.topic.of("a") == [1, 3, 4, 6]


async def test_rows_without_a_shard_are_not_the_owners_and_its_rows_are_not_the_sweeps(bench: Bench) -> None:
    relay = Relay(bench.store, Line(bench.topic))  # without keyed=
    async with running(relay):
        relay.hand_over(await bench.commit("a"))
        await anyio.sleep(60)
        assert bench.topic.log == []
        assert relay.counts == {}
        assert relay.in_hand == 0


async def test_a_refused_key_waits_and_nothing_of_it_overtakes(bench: Bench) -> None:
    line = Line(bench.topic, refusing={"bad"})
    relay = bench.relay(line)
    async with running(relay):
        relay.hand_over(await bench.commit("bad", "good", "bad", "good"))
        await bench.until(lambda: bench.topic.of("good") == [2, 4])
        relay.hand_over(await bench.commit("good", "bad"))
        await bench.until(lambda: bench.topic.of("good") == [2, 4, 5])
        await anyio.sleep(30)
        tried = line.calls
        assert 5 < tried < 40
        assert bench.topic.of("bad") == []
        line.refusing.clear()
        await bench.until(lambda: bench.topic.of("bad") == [1, 3, 6])
        await bench.until_empty()


async def test_while_nothing_gets_through_it_is_tried_less_and_less_often(bench: Bench) -> None:
    line = Line(bench.topic, refusing={str(n) for n in range(500)})
    relay = bench.relay(line)
    async with running(relay):
        relay.hand_over(await bench.commit(*line.refusing))
        await anyio.sleep(60)
        assert line.calls < 60
        line.refusing.clear()
        await bench.until(lambda: len(bench.topic.log) == 500)


async def test_two_relays_share_and_what_another_process_writes_is_found(bench: Bench) -> None:
    async with another(bench) as theirs:
        one, two = bench.relay(Line(bench.topic)), bench.relay(Line(bench.topic), theirs)
        async with running(one, two):
            for _ in range(20):
                rows = await bench.commit("a", "b", "c", "d")
                one.hand_over(rows)
                await anyio.sleep(1)
            assert len(shards(one)) == len(shards(two)) == SHARDS // 2
            assert not shards(one) & shards(two)
            before, done = anyio.current_time(), len(bench.topic.log)
            await bench.commit(*(str(n) for n in range(100)))  # nobody is told
            await bench.until(lambda: len(bench.topic.log) == done + 100)
            assert bench.topic.at[-1] - before < 0.2
            await bench.until_empty()
    assert bench.topic.of("a") == sorted(bench.topic.of("a"))


async def test_who_is_killed_is_followed_when_the_lease_has_run_out(bench: Bench) -> None:
    async with another(bench) as theirs:
        stuck = Line(bench.topic, seconds=lambda: 1000.0)
        async with anyio.create_task_group() as tasks:
            one = bench.relay(stuck)
            tasks.start_soon(one.run)
            one.hand_over(await bench.commit("a", "b", "a"))
            with anyio.fail_after(5):
                await stuck.begun.wait()
            bench.store.is_dead = True
            tasks.cancel_scope.cancel()
        killed = anyio.current_time()
        bench.store.is_dead = False
        two = bench.relay(Line(bench.topic), theirs)
        async with running(two):
            two.hand_over(await bench.commit("a"))
            await bench.until(lambda: len(bench.topic.log) == 4)
            assert 4.0 < bench.topic.at[0] - killed < 9.0
            await bench.until_empty()
    assert bench.topic.of("a") == [1, 3, 4]


async def test_who_stops_gives_its_shards_to_whoever_is_there(bench: Bench) -> None:
    async with another(bench) as theirs:
        one, two = bench.relay(Line(bench.topic)), bench.relay(Line(bench.topic), theirs)
        async with running(two):
            async with running(one):
                one.hand_over(await bench.commit("a"))
                await bench.until(lambda: len(bench.topic.log) == 1)
            before = anyio.current_time()
            two.hand_over(await bench.commit(*(str(n) for n in range(100))))
            await bench.until(lambda: len(bench.topic.log) == 101)
            assert anyio.current_time() - before < 1.1
            assert len(shards(two)) == SHARDS


async def test_who_cannot_renew_stops_before_anybody_else_begins(bench: Bench) -> None:
    async with another(bench) as theirs:
        slow = Line(bench.topic, seconds=lambda: 20.0)
        one = bench.relay(slow)
        away = False

        async def attend(owner: str, lease_seconds: float) -> Any:
            if away:
                raise StoreUnavailable("scripted")
            return await SqliteStore.attend(bench.store, owner, lease_seconds)

        bench.store.attend = attend  # type: ignore[method-assign]
        async with running(one):
            one.hand_over(await bench.commit("a"))
            with anyio.fail_after(5):
                await slow.begun.wait()
            away = True
            two = bench.relay(Line(bench.topic), theirs)
            async with running(two):
                await bench.until(lambda: len(bench.topic.log) == 1)
                await anyio.sleep(30)
        assert bench.topic.of("a") == [1]


async def test_nothing_is_written_while_there_is_nothing_to_publish(bench: Bench) -> None:
    relay = bench.relay(Line(bench.topic))
    async with running(relay):
        relay.hand_over(await bench.commit("a"))
        await bench.until_empty()
        assert len(shards(relay)) == SHARDS
        await anyio.sleep(60)
        assert shards(relay) == frozenset()
        attendance = await bench.store.attend("somebody", 1.0)
        assert (attendance.holders, attendance.relays - {"somebody"}) == ({}, frozenset())


async def test_draining_publishes_what_is_committed(bench: Bench) -> None:
    relay = bench.relay(Line(bench.topic, seconds=lambda: 0.5))
    async with running(relay):
        await bench.commit("a", "b", "a")  # nobody is told
        await relay.drain(30.0)
        assert len(bench.topic.log) == 3
        assert (await bench.store.pending())[0] == 0
        before = anyio.current_time()
        await relay.drain(30.0)
        assert anyio.current_time() - before < 1.0


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_fails_every_key_keeps_its_order(bench: Bench, seed: int) -> None:
    """Kill relays, lose the database and refuse messages at random: of every key all arrive, none before its elder."""
    rng = Random(seed)
    keys = [f"k{n}" for n in range(6)]
    written: dict[str, list[int]] = {key: [] for key in keys}
    calm = False

    def odds() -> bool:
        return not calm and rng.random() < 0.1

    async def live_and_die(number: int) -> None:
        async with Flaky(":memory:", name=bench.name, clock=VirtualClock()) as store:
            store.odds = odds
            while True:
                line = Line(bench.topic, seconds=lambda: rng.choice((0.0, 0.0, 0.01, 2.0 if odds() else 0.0)))
                relay = bench.relay(line, store)
                store.is_dead = False
                with anyio.move_on_after(1000.0 if calm else rng.uniform(0.5, 25.0)):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(relay.run)
                        while True:
                            await anyio.sleep(rng.random())
                            line.refusing = {key for key in keys if odds()}
                            relay.hand_over([replace(outgoing("any"), shard=1, seq=10**9)])  # only the bell
                            store.is_dead = rng.random() < 0.3 and not calm
                await checkpoint()

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(live_and_die, number)
        for _ in range(40):
            for row in await bench.commit(*rng.choices(keys, k=rng.randint(1, 8))):
                written[row.aggregateid].append(row.seq)
            await anyio.sleep(rng.random() * 2)
        calm = True
        await bench.until_empty()
        tasks.cancel_scope.cancel()
    for key in keys:
        firsts = list(dict.fromkeys(bench.topic.of(key)))
        assert firsts == written[key]
