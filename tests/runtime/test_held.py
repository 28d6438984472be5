"""What the coordinator holds for a moment: it is stored soon, all of it, and a crash before that loses nothing."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from saga._core.bodies import CancelRequested
from saga._runtime import holding
from saga.desk import SagaDesk
from tests.runtime.test_coordinating import STEPS, Coordinating, coordinating

pytestmark = pytest.mark.anyio

HOLD_SECONDS = 20.0
"""Longer than by itself: while a thread commits, the clock of these tests jumps on."""
A_MOMENT = 0.05


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps as soon as nobody has anything to do."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture(autouse=True)
def _held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(holding, "HOLD_SECONDS", HOLD_SECONDS)


async def phases(here: Coordinating, *saga_ids: str) -> dict[str, str]:
    """Return what is stored of sagas."""
    return {saga_id: row.phase for saga_id, row in sorted((await here.store.load(saga_ids)).items())}


async def position(here: Coordinating) -> int:
    """Return how much has been read by what is stored."""
    return sum(cursor.position for cursor in (await here.store.cursors(range(3))).values())


async def test_an_end_is_stored_at_once_and_whatever_only_goes_on_a_moment_later() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        tasks.start_soon(here.run, "open", "orders.start")
        tasks.start_soon(here.run, "over", *STEPS)
        await anyio.sleep(A_MOMENT)
        assert [row.type for _, row in here.sent] == ["saga.outcome"]
        assert await phases(here, "open", "over") == {"over": "completed"}
        assert await position(here) == 0, "a position is ahead of what is stored"
        await anyio.sleep(2 * HOLD_SECONDS)
        assert await phases(here, "open", "over") == {"open": "running", "over": "completed"}
        assert await position(here) > 0


async def test_a_coordinator_killed_before_it_has_stored_what_it_holds_leaves_it_to_the_next() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        tasks.start_soon(here.run, "open", "orders.start", "inventory.reserve")
        tasks.start_soon(here.run, "over", *STEPS)
        await anyio.sleep(A_MOMENT)
        await here.killed()
        assert await phases(here, "open", "over") == {"over": "completed"}
        await anyio.sleep(3 * HOLD_SECONDS)
        assert await phases(here, "open", "over") == {"open": "running", "over": "completed"}
        assert len((await here.instance("open")).runs) == 2
        await here.run("open", *STEPS[2:])
        assert (await here.instance("open")).phase == "completed"
        assert [row.aggregateid for _, row in here.sent] == ["over", "open"]


async def test_somebody_elses_write_to_one_saga_costs_the_others_that_are_held_nothing() -> None:
    async with coordinating() as here, SagaDesk(here.address) as desk, anyio.create_task_group() as tasks:
        await here.run("one", "orders.start")
        await desk.hold("one", who="me", why="to see")
        await desk.release("one", who="me", why="seen")
        tasks.start_soon(here.run, "two", "orders.start", "inventory.reserve")
        await anyio.sleep(A_MOMENT)
        await here.report("one", CancelRequested(reason="never mind"), "orders")
        assert here.shell.counts["conflict"] == 1
        assert len((await here.instance("two")).runs) == 2
        await here.run("two", *STEPS[2:])
        assert await phases(here, "one", "two") == {"one": "asking", "two": "completed"}
        assert here.shell.counts["conflict"] == 1


async def test_what_is_held_and_told_again_follows_from_all_that_is_held() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        tasks.start_soon(here.run, "one", *STEPS[:2])
        await anyio.sleep(A_MOMENT)
        for step in STEPS[1:3]:
            tasks.start_soon(here.run, "one", step)
            await anyio.sleep(A_MOMENT)
        await here.run("one", STEPS[3])
        assert here.store.asked["load"] == 0, "what is held need not be looked up"
        assert await phases(here, "one") == {"one": "completed"}


async def test_a_coordinator_that_stops_stores_what_it_holds() -> None:
    async with coordinating() as here, anyio.create_task_group() as tasks:
        await anyio.sleep(1)
        tasks.start_soon(here.run, "open", "orders.start")
        await anyio.sleep(A_MOMENT)
        assert await phases(here, "open") == {}
        here.shell.stop()
        await here.shell.stopped.wait()
        assert await phases(here, "open") == {"open": "running"}
