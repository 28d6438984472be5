"""Run yesterday's and today's replicas of one service side by side: nothing is lost, every saga ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import PlanError, PlanUnknown
from saga._core.resolve import resolve_all
from saga._runtime.planbook import PlanBook
from saga.ports import Transport
from tests.runtime.fleet import Code, Fleet, Ordered, Placed, Replica, fleet, write_plan
from tests.runtime.world import TUNING, VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def virtual_fleet() -> AsyncGenerator[Fleet]:
    """Give a fleet on SQLite in memory and the memory transport, in virtual time."""
    address = f"sqlite:///:memory:?name=fleet{next(_NUMBERS)}"
    clock = VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        yield await stack.enter_async_context(fleet(store, coordination, transport, TUNING))


async def yesterday(there: Fleet, old: Code, tmp_path: Path) -> dict[str, Replica]:
    """Bring yesterday's fleet up: a coordinator and one replica of each service but packing, which is new."""
    found = {"coordinator": await there.coordinate(write_plan(tmp_path / "old", old.plan()), "old")}
    for name in ("orders", "inventory", "shipping"):
        found[name] = await there.up([old.services[name]], "old")
    return found


async def test_a_deploy_with_the_coordinator_first_loses_nothing(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    started: list[str] = []
    enough = anyio.Event()
    async with virtual_fleet() as there, anyio.create_task_group() as tasks:
        running = await yesterday(there, old, tmp_path)
        place = old.place

        async def keep_ordering() -> None:
            while not enough.is_set():
                started.append((await place(Placed(order=str(len(started))))).saga_id)
                await anyio.sleep(0.2)

        tasks.start_soon(keep_ordering)
        await anyio.sleep(2)
        today = {"coordinator": await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")}
        await running.pop("coordinator").leave()
        for name in ("packing", "shipping", "inventory", "orders"):
            await anyio.sleep(2)
            today[name] = await there.up([new.services[name]], "new")
            await anyio.sleep(2)
            if name == "orders":
                place = new.place
            if name in running:
                await running.pop(name).leave()
        await anyio.sleep(2)
        enough.set()
        ended = await there.ended(len(started))
        assert dict.fromkeys(started, "completed") == ended
        effects = await there.effects()
        assert effects["reserve"] == effects["ship"] == len(started)
        assert 0 < effects["pack"] < len(started), "some sagas ran under each plan"
    assert [row for row in old.seen if row[0] == "ship"], "the old replica has shipped some"


async def test_what_an_old_replica_parks_a_new_one_takes(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        for name in ("packing", "shipping"):
            await there.up([new.services[name]], "new")
        for number in range(20):
            await old.place(Placed(order=str(number)))
        await anyio.sleep(10)
        parked = await there.rows("select step, reason, error from saga_delivery where service = 'inventory'")
        assert [(row["step"], row["reason"]) for row in parked] == [("inventory.reserve", "parked")] * 20
        assert "emits is stock.backordered.v1 | stock.reserved.v1 in this code" in parked[0]["error"]
        # Both poll the same rows from now on: the old one must not be the first for ever.
        await there.up([new.services["inventory"]], "new")
        ended = await there.ended(20, at_most_seconds=60)
        assert set(ended.values()) == {"completed"}
        assert running["inventory"].app.context("inventory").counts["parked"] >= 20
        assert await there.rows("select * from saga_delivery") == []


async def test_a_saga_whose_step_nobody_has_any_more_is_undone_at_its_deadline(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        await running["shipping"].leave()
        handle = await old.place(Placed(order="1"))
        await anyio.sleep(1)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        await there.up([new.services["packing"]], "new")
        await there.up([new.services["shipping"]], "new")
        ended = await there.ended(1, at_most_seconds=300)
        assert ended == {handle.saga_id: "compensated"}
        assert await there.effects() == {}
        await anyio.sleep(10)
        assert await there.rows("select * from saga_delivery") == [], "the closed gate turns away what is parked"


async def test_a_change_of_times_alone_parks_nothing(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=False, timeout=timedelta(minutes=3))
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        await running["shipping"].leave()
        await old.place(Placed(order="1"))
        await anyio.sleep(1)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        shipping = await there.up([new.services["shipping"]], "new")
        assert set((await there.ended(1, at_most_seconds=10)).values()) == {"completed"}
        assert "parked" not in shipping.app.context("shipping").counts


async def test_a_replica_of_yesterday_comes_up_again_during_the_deploy(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        for name in ("shipping", "inventory"):
            await running[name].leave()
            running[name] = await there.up([old.services[name]], "old")
        for name in ("packing", "shipping", "inventory"):
            await there.up([new.services[name]], "new")
        await old.place(Placed(order="1"))
        assert set((await there.ended(1)).values()) == {"completed"}


async def test_code_of_which_no_plan_is_published_does_not_come_up(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with virtual_fleet() as there:
        await yesterday(there, old, tmp_path)
        app = there.up([new.services["shipping"]], "new")
        with pytest.raises(PlanError, match=r"shipping\.ship \(checkout v1\): reacts_to is parcel\.packed\.v1"):
            await app


async def test_a_starter_starts_under_the_newest_plan_its_code_matches(tmp_path: Path) -> None:
    old, new, newest = Code(today=False), Code(today=True), Code(today=True, starts_with=Ordered)
    async with virtual_fleet() as there:
        await yesterday(there, old, tmp_path)
        for revision, code in ((2, new), (3, newest)):
            plan = code.plan(revision)
            await there.coordinate(write_plan(tmp_path / f"new{revision}", plan), f"new{revision}")
            await anyio.sleep(1)
            handle = await old.place(Placed(order="1"))
            sql = "select plan from saga_run where saga_id = $1 and step = 'orders.start'"
            (row,) = await there.rows(sql, handle.saga_id)
            # Its own part is the same in revision 2; revision 3 begins with an event it does not know.
            assert row["plan"] == new.plan().hash


async def test_two_versions_run_side_by_side_and_nothing_waits(tmp_path: Path) -> None:
    old = Code(today=False)
    both_old = Code(today=False)
    both = Code(today=True, version=2, older=both_old)
    folder = tmp_path / "new"
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        write_plan(folder, both_old.plan())
        await there.coordinate(write_plan(folder, both.plan()), "new")
        started = [(await old.place(Placed(order="before"))).saga_id]
        for name in ("packing", "shipping", "inventory"):
            await there.up([both.services[name]], "new")
            started.append((await old.place(Placed(order=name))).saga_id)
        await running["inventory"].leave()
        await running["shipping"].leave()
        orders = await there.up([both.services["orders"]], "new")
        # Both replicas of orders hear of every end; the one of yesterday knows no version 2.
        started += [(await both.place(Placed(order=f"new {n}"))).saga_id for n in range(10)]
        started += [(await old.place(Placed(order=f"old {n}"))).saga_id for n in range(10)]
        ended = await there.ended(len(started), at_most_seconds=60)
        assert ended == dict.fromkeys(started, "completed")
        assert await there.rows("select * from saga_delivery") == []
        assert orders.app.context("orders").counts.get("dead", 0) == 0


class Deaf:
    """Be a transport that never tells of a plan."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    @asynccontextmanager
    async def table(self, topic: str) -> AsyncGenerator[Any]:
        async with self._inner.table("saga.manifests" if topic == "saga.plans" else topic) as table:
            yield table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_coordinator_finds_a_plan_in_its_database_that_it_has_not_heard_of(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with virtual_fleet() as there:
        heard = there.transport
        there.transport = cast("Transport", Deaf(heard))
        deaf = await there.coordinate(write_plan(tmp_path / "old", old.plan()), "old")
        there.transport = heard
        coordinator = await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        for name, service in new.services.items():
            await there.up([service], name)
        await coordinator.leave()
        assert {plan.revision for plan in deaf.app.plans} == {1}
        handle = await new.place(Placed(order="1"))
        assert await there.ended(1, at_most_seconds=30) == {handle.saga_id: "completed"}
        assert {plan.revision for plan in deaf.app.plans} == {1, 2}


def test_a_starter_without_a_matching_plan_says_so() -> None:
    old, new = Code(today=False), Code(today=True)
    book = PlanBook(resolve_all([old.services["shipping"]]))
    book.learn(new.plan(2))
    with pytest.raises(PlanUnknown, match="shipping's code matches none up to revision 2"):
        book.current("checkout", 1, "shipping")
