"""Both databases share out shards by leases, and show the rows of a shard in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import anyio
import pytest

from outbox.postgres import PostgresSettings, PostgresStore
from outbox.sqlite import SqliteStore
from saga._core.plain import SHARDS
from saga._core.rows import Changes
from saga.ports import Store
from tests.contracts.store_rows import NOW, outgoing, put
from tests.outbox.test_postgres import ask

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 30.0


@dataclass
class ManualClock:
    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


@dataclass
class Bench:
    store: Store
    pass_lease: Callable[[], Awaitable[object]]

    async def commit(self, *shards: tuple[int | None, str]) -> tuple[int, ...]:
        rows = tuple(replace(outgoing(key), shard=shard) for shard, key in shards)
        return await put(self.store, Changes(outbox=rows))

    async def page(self, *shards: int, without: tuple[str, ...] = (), limit: int = 100, each: int = 100) -> list[int]:
        return [row.seq for row in await self.store.shard_page(shards, without, limit=limit, each=each)]


@pytest.fixture(params=["sqlite", "postgres", "postgres in a schema"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Bench]:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            store: Store = await stack.enter_async_context(SqliteStore(str(tmp_path / "one.db"), clock=clock))

            async def pass_lease() -> None:
                clock.at += timedelta(seconds=LEASE_SECONDS + 1)
                await anyio.lowlevel.checkpoint()

            bench = Bench(store, pass_lease)
        else:
            url = cast("str", request.getfixturevalue("database"))
            schema = "mine" if request.param != "postgres" else None
            store = await stack.enter_async_context(PostgresStore(url, settings=PostgresSettings(schema=schema)))
            table = f"{schema or 'public'}.saga_lease"
            sql = f"update {table} set until = until - interval '31 seconds'"
            bench = Bench(store, lambda: ask(url, sql))
        await store.migrate()
        yield bench


async def test_a_live_lease_is_nobody_elses(bench: Bench) -> None:
    store = bench.store
    assert await store.hold_shards("a", range(10), LEASE_SECONDS) == frozenset(range(10))
    assert await store.hold_shards("b", range(5, 15), LEASE_SECONDS) == frozenset(range(10, 15))
    assert await store.hold_shards("a", range(SHARDS), LEASE_SECONDS) == frozenset(range(SHARDS)) - set(range(10, 15))
    await bench.pass_lease()
    assert await store.hold_shards("b", range(5), LEASE_SECONDS) == frozenset(range(5))
    assert await store.hold_shards("a", range(10), LEASE_SECONDS) == frozenset(range(5, 10))


async def test_attending_tells_who_is_there_and_who_holds_what(bench: Bench) -> None:
    store = bench.store
    await store.attend("a", LEASE_SECONDS)
    await store.hold_shards("a", (1, 2), LEASE_SECONDS)
    await store.attend("b", LEASE_SECONDS)
    await store.hold_shards("b", (3,), LEASE_SECONDS)
    seen = await store.attend("c", LEASE_SECONDS)
    assert seen.relays - {"c"} == {"a", "b"}
    assert seen.holders == {1: "a", 2: "a", 3: "b"}
    await store.give_up("b", (1, 3))  # one of them is not its own
    assert (await store.attend("c", LEASE_SECONDS)).holders == {1: "a", 2: "a"}
    await store.give_up("a", None)
    seen = await store.attend("c", LEASE_SECONDS)
    assert seen.relays - {"c"} == {"b"}
    assert not seen.holders
    await bench.pass_lease()
    seen = await store.attend("d", LEASE_SECONDS)
    assert not seen.relays - {"d"}
    assert not seen.holders


async def test_who_has_gone_long_ago_is_forgotten_and_the_sweeps_lease_is_not_touched(bench: Bench) -> None:
    store = bench.store
    await bench.commit((None, "k"))
    await store.attend("a", LEASE_SECONDS)
    for _ in range(4):
        await bench.pass_lease()
        await store.attend("b", LEASE_SECONDS)
        await store.give_up("b", None)
    assert await store.sweep("b", older_than_seconds=-1.0, limit=1, in_hand=frozenset(), lease_seconds=LEASE_SECONDS)
    await store.attend("b", LEASE_SECONDS)
    await store.give_up("b", None)
    assert not await store.sweep(
        "a", older_than_seconds=-1.0, limit=1, in_hand=frozenset(), lease_seconds=LEASE_SECONDS
    )


async def test_a_page_is_in_order_without_the_keys_under_way(bench: Bench) -> None:
    assert not await bench.store.has_sharded()
    await bench.commit((None, "free"))
    assert not await bench.store.has_sharded()
    one, two, three, four = await bench.commit((1, "a"), (2, "b"), (1, "c"), (3, "d"))
    assert await bench.store.has_sharded()
    (five,) = await bench.commit((1, "a"))
    assert await bench.page(1, 2, 3) == [one, two, three, four, five]
    assert await bench.page(1) == [one, three, five]
    assert await bench.page(1, 2, without=("a", "b")) == [three]
    assert await bench.page(1, 2, limit=2) == [one, two]
    assert await bench.page() == []
    (row,) = await bench.store.shard_page((2,), (), limit=1, each=1)
    assert (row.shard, row.aggregateid, row.headers) == (2, "b", outgoing().headers)


async def test_the_sweep_leaves_the_rows_of_shards_alone(bench: Bench) -> None:
    (_, free) = await bench.commit((1, "a"), (None, "b"))
    rows = await bench.store.sweep(
        "a", older_than_seconds=-1.0, limit=10, in_hand=frozenset(), lease_seconds=LEASE_SECONDS
    )
    assert [row.seq for row in rows] == [free]
    assert [row.shard for row in rows] == [None]


async def test_committed_rows_come_as_they_are_stored(bench: Bench) -> None:
    one, two = await bench.commit((1, "a"), (None, "b"))
    rows = await bench.store.committed([two, one, 999])
    assert [(row.seq, row.shard, row.aggregateid, row.payload) for row in rows] == [
        (one, 1, "a", b"{}"),
        (two, None, "b", b"{}"),
    ]
