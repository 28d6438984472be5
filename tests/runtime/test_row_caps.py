"""Refuse starts while a database holds too much, prune both databases, and warn of an outbox that stands still."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import Ending, Overloaded, SettingsError
from saga._core.keeping import OpenRows, RowCaps, overload
from saga._core.rows import Changes, CoordinatorChanges
from saga._runtime.capping import RowCapWatch
from saga.app import App, Coordinator, Retention
from tests.contracts.keeping_contract import ended
from tests.contracts.store_rows import outgoing, put, run, saga_id
from tests.runtime.world import TUNING, Placed, Running, VirtualClock, World, make_tables
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

CAP = 3


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def running(world: World, **settings: Any) -> AsyncGenerator[tuple[Running, Any]]:
    address, clock = "sqlite:///:memory:?name=caps", VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        await store.migrate()
        await coordination.migrate()
        await make_tables(store)
        app = App(
            world.services,
            coordinator=Coordinator(store=coordination),
            store=store,
            transport=transport,
            tuning=TUNING,
            **settings,
        )
        async with app:
            yield Running(world=world, app=app, store=store, transport=transport), coordination


async def test_starts_are_refused_while_the_outbox_is_full_and_open_sagas_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(World(), row_caps=RowCaps(outbox_rows=CAP)) as (up, _):
        before = await up.world.place(Placed(order="1"))
        nobody_takes_them = tuple(replace(outgoing(), aggregatetype="nobody.knows") for _ in range(CAP))
        seqs = await put(up.store, Changes(outbox=nobody_takes_them))
        await anyio.sleep(6)
        with pytest.raises(Overloaded, match=r"orders.start: 3 rows wait in the outbox .* RowCaps\(outbox_rows=3\)"):
            await up.world.place(Placed(order="2"))
        assert (await before.outcome(60)).ending is Ending.COMPLETED
        await anyio.sleep(60)
        assert "the oldest row of the outbox is" in caplog.text
        await up.store.delete(seqs)
        await anyio.sleep(6)
        assert (await (await up.world.place(Placed(order="2"))).outcome(60)).ending is Ending.COMPLETED
        assert "sagas start again" in caplog.text
        assert "the outbox has caught up" in caplog.text


async def test_an_app_prunes_the_tables_of_both_sides() -> None:
    async with running(World(), retention=Retention(every_seconds=60, ended_days=7)) as (up, coordination):
        now = await coordination.now()
        old = replace(run(saga_id()), expires_at=now - timedelta(days=2))
        await put(up.store, Changes(insert_runs=(old,)))
        gone, kept = ended(now, 8), ended(now, 6)
        await coordination.write(CoordinatorChanges(instances=(gone, kept)))
        await anyio.sleep(61)
        assert await up.rows("select saga_id from saga_run") == []
        assert set(await coordination.load([gone.saga_id, kept.saga_id])) == {kept.saga_id}


async def test_a_coordinators_outbox_is_watched_too(caplog: pytest.LogCaptureFixture) -> None:
    address = "sqlite:///:memory:?name=alone"
    async with MemoryTransport() as transport, open_coordination_store(address, clock=VirtualClock()) as coordination:
        await coordination.migrate()
        async with App(coordinator=Coordinator(store=coordination, plans=None), transport=transport):
            row = replace(outgoing(), aggregatetype="nobody.knows")
            await coordination.write(CoordinatorChanges(outbox=(row,)))
            await anyio.sleep(70)
            assert "the oldest row of the outbox is" in caplog.text


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (OpenRows(outbox_rows=3), "outbox_rows"),
        (OpenRows(waiting_deliveries=3), "waiting_deliveries"),
        (OpenRows(open_runs=3), "open_runs"),
        (OpenRows(outbox_rows=2, waiting_deliveries=2, open_runs=2), ""),
    ],
)
def test_each_kind_has_a_cap(rows: OpenRows, name: str) -> None:
    reason = overload(rows, RowCaps(outbox_rows=3, waiting_deliveries=3, open_runs=3))
    assert (name in reason) if name else reason == ""
    assert overload(rows, RowCaps(outbox_rows=None, waiting_deliveries=None, open_runs=None)) == ""


def test_what_changes_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "saga")
    watch = RowCapWatch(RowCaps(outbox_rows=1), outbox_alarm_seconds=10)
    watch.check("a.start")
    for _ in range(3):
        watch.take(OpenRows(outbox_rows=1, outbox_age_seconds=11))
    with pytest.raises(Overloaded, match=r"a\.start: 1 rows wait"):
        watch.check("a.start")
    watch.take(OpenRows())
    watch.check("a.start")
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "WARNING", "WARNING"]


@pytest.mark.parametrize("wrong", [{"outbox_rows": -1}, {"refresh_seconds": 0}])
def test_caps_are_numbers_that_can_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"RowCaps\("):
        RowCaps(**wrong)
