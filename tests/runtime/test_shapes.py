from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest
from trio.testing import MockClock

from saga import Cause, Ending, KeyConflict
from saga.app import Tuning
from tests.runtime.shapes import Approved, HotelFull, Ordered, ShapeWorld, TooHeavy
from tests.runtime.world import Running, World, running, running_for_real
from tests.testbed.services import Kafka

pytestmark = pytest.mark.anyio


# A saga here takes minutes: look less often, it is the same every second.
TUNING = Tuning(fetch_timeout_seconds=5, waiting_poll_seconds=5, pending_poll_seconds=5, commit_every_seconds=0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


def up(world: ShapeWorld) -> AbstractAsyncContextManager[Running]:
    return running(cast("World", world), tuning=TUNING)


async def effects(run: Running) -> list[str]:
    return sorted(row["name"] for row in await run.rows("select name from effect"))


async def test_every_shape_in_one_saga() -> None:
    world = ShapeWorld()
    async with up(world) as run:
        handle = await world.place(Ordered(parcels=3), key="o-1")
        await world.approve(Approved(by="ada"), key="o-1")
        began = anyio.current_time()
        ended = await handle.outcome(timeout_seconds=600)
        assert ended.ending is Ending.COMPLETED
        assert anyio.current_time() - began >= 90
        weighed = [f"weigh/{n}of3" for n in (1, 2, 3)]
        assert await effects(run) == sorted(["hotel", "leave", "load", "pack", *weighed])
        rows = await run.rows("select result from saga_run where step = 'office.leave'")
        assert rows[0]["result"] == b'{"by":"ada","grams":600,"hotel":"ok"}'


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("heavy", "ending", "left"), [("", Ending.COMPLETED, 16), ("7of12", Ending.COMPENSATED, 0)])
async def test_every_shape_on_kafka_and_postgres(
    database: str, kafka: Kafka, heavy: str, ending: Ending, left: int
) -> None:
    world = ShapeWorld(heavy=heavy, pause=timedelta(seconds=0.2))
    async with running_for_real(cast("World", world), database, kafka.bootstrap) as run:
        handle = await world.place(Ordered(parcels=12))
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        assert (await handle.outcome(timeout_seconds=60)).ending is ending
        assert len(await effects(run)) == left


async def test_an_empty_fan_out_fires_its_gather() -> None:
    world = ShapeWorld()
    async with up(world) as run:
        handle = await world.place(Ordered(parcels=0), key="o-1")
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPLETED
        assert await effects(run) == ["hotel", "leave", "load", "pack"]


async def test_a_refusing_branch_undoes_every_shape() -> None:
    world = ShapeWorld(heavy="2of3")
    async with up(world) as run:
        handle = await world.place(Ordered(parcels=3), key="o-1")
        ended = await handle.outcome(timeout_seconds=600)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)
        assert ended.refused_with(TooHeavy) == TooHeavy(number=2)
        assert await effects(run) == []


async def test_a_late_refusal_undoes_a_child_that_has_completed() -> None:
    world = ShapeWorld()
    async with up(world) as run:
        handle = await world.place(Ordered(parcels=30), key="o-1")
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        ended = await handle.outcome(timeout_seconds=600)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)
        assert ("hotel", "") in world.seen
        assert ("unhotel", "") in world.seen
        assert await effects(run) == []
        phases = await run.rows("select saga, phase from saga_instance order by saga")
        assert [(row["saga"], row["phase"]) for row in phases] == [
            ("delivery", "compensated"),
            ("trip", "compensated"),
        ]


async def test_the_refusal_of_a_child_is_its_parents() -> None:
    world = ShapeWorld()
    async with up(world) as run:
        handle = await world.place(Ordered(hotel="full"), key="o-1")
        ended = await handle.outcome(timeout_seconds=600)
        assert ended.refused_with(HotelFull) is not None
        assert await effects(run) == []


async def test_a_child_is_settled_with_its_parent() -> None:
    world = ShapeWorld()
    async with up(world) as run:
        handle = await world.place(Ordered(), key="o-1")
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        await handle.outcome(timeout_seconds=600)
        await anyio.sleep(5)
        phases = await run.rows("select saga, phase, due_at from saga_instance order by saga")
        assert [(row["saga"], row["phase"], row["due_at"]) for row in phases] == [
            ("delivery", "completed", None),
            ("trip", "completed", None),
        ]


async def test_an_event_may_come_long_before_its_saga() -> None:
    world = ShapeWorld()
    async with up(world):
        await world.approve(Approved(by="ada"), key="o-1")
        await anyio.sleep(3600)
        handle = await world.place(Ordered(), key="o-1")
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPLETED


async def test_an_event_that_does_not_come_within_its_time_undoes_the_saga() -> None:
    world = ShapeWorld(timeout=timedelta(hours=5), within=timedelta(minutes=5))
    async with up(world) as run:
        began = anyio.current_time()
        handle = await world.place(Ordered(), key="o-1")
        ended = await handle.outcome(timeout_seconds=3600)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.DEADLINE)
        assert "office.leave" in ended.detail
        assert anyio.current_time() - began < 400
        assert await effects(run) == []


async def test_the_same_event_twice_is_one_and_another_is_refused() -> None:
    world = ShapeWorld()
    async with up(world):
        handle = await world.place(Ordered(), key="o-1")
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        await world.approve(Approved(by="ada"), saga_id=handle.saga_id)
        with pytest.raises(KeyConflict):
            await world.approve(Approved(by="bob"), saga_id=handle.saga_id)
        assert (await handle.outcome(timeout_seconds=600)).ending is Ending.COMPLETED
