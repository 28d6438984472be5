"""Hold what a sixth review found: a constraint that speaks up at COMMIT is a failed attempt of who wrote."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest
import trio.testing

from saga import NOTHING, Dependency, Retry, Run, Saga, Service
from saga.ports import Claim
from tests.runtime.test_shapes_review import QUICK, Left, Made, Small, up
from tests.runtime.world import Placed, World, running

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_a_compensation_whose_commit_is_refused_has_failed_and_is_given_up() -> None:
    world = World(undo_retry=Retry(attempts=3, base_seconds=0.01, cap_seconds=0.02))

    async def breaks(run: Run) -> None:
        await run.db.execute("insert into child (of) values ('nobody')")

    world.behaviour["release"] = breaks
    async with running(world) as up:
        await up.rows("create table parent (id text primary key)")
        await up.rows("create table child (of text references parent deferrable initially deferred)")
        handle = await world.place(Placed(order="1", capture="refuse"))
        await anyio.sleep(600)
        rows = await up.rows("select undo, attempt from saga_run where step = 'inventory.reserve'")
        tried = [step for step, saga_id in world.seen if (step, saga_id) == ("release", handle.saga_id)]
        assert [row["undo"] for row in rows] == ["failed"]
        assert len(tried) == 3


async def test_what_is_recorded_of_a_call_and_refused_at_its_commit_counts_as_an_attempt() -> None:
    world = Small()
    saga = Saga("outside", version=1, timeout=timedelta(minutes=5))
    shop, till = map(Service, ("shop", "till"))
    world.services += [shop, till]
    place = shop.starts(saga, Made)

    @till.step(saga, calls=Dependency("gateway"), retry=QUICK, compensation=NOTHING)
    async def book(made: Made, run: Run) -> Left:
        world.saw("book", run)
        return Left()

    @book.recorded
    async def write_down(left: Left, run: Run) -> None:
        await run.db.execute("create table if not exists parent (id text primary key)")
        await run.db.execute("create table if not exists child (p references parent deferrable initially deferred)")
        if run.saga_id:
            await run.db.execute("insert into child values ('nobody')")

    async with up(world) as here:
        await place(Made(number=1), key="k")
        await anyio.sleep(120)
        async with here.store.unit(Claim(service="till", sagas=())) as unit:
            rows = await unit.db.fetch("select attempt, error from saga_run where step = 'till.book'")
        assert [row["attempt"] for row in rows] == [3]
        assert "FOREIGN KEY" in rows[0]["error"]
