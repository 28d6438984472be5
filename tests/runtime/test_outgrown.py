"""Come up with code that lacks a step which open sagas need: refused, unless somebody says otherwise."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest
import trio.testing

from saga import Ending, PlanError, Run
from saga.app import MissingSteps
from tests.runtime.fleet import Code, write_plan
from tests.runtime.fleet import Placed as Order
from tests.runtime.test_rolling_deploy import virtual_fleet, yesterday

pytestmark = pytest.mark.anyio

REFUSED = r"inventory\.reserve \(checkout v1 revision 1\): emits .*; 1 open saga may need it"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_a_step_that_open_sagas_wait_for_keeps_the_code_from_coming_up(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True, reserved_as="stock.set_aside")
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        held = await hold_shipping(old)
        handle = await old.place(Order(order="1"))
        await anyio.sleep(1)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        # Nothing waits at inventory, but what it has done may have to be undone.
        with pytest.raises(PlanError, match=REFUSED) as refused:
            await there.up([new.services["inventory"]], "new")
        assert "App(missing_steps=MissingSteps.GO_ON)" in str(refused.value)
        held.set()
        assert await there.ended(1) == {handle.saga_id: Ending.COMPLETED.value}
        assert running["inventory"].app.context("inventory").counts.get("dead", 0) == 0
        # Nobody here knows that it has ended; its timeout says that nothing is undone any more.
        await anyio.sleep(old.timeout.total_seconds() + 61)
        await there.up([new.services["inventory"]], "new")


async def test_it_comes_up_all_the_same_when_told_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = Code(today=False), Code(today=True, reserved_as="stock.set_aside")
    async with virtual_fleet() as there:
        await yesterday(there, old, tmp_path)
        held = await hold_shipping(old)
        await old.place(Order(order="1"))
        await anyio.sleep(1)
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "new")
        there.options["missing_steps"] = MissingSteps.GO_ON
        with caplog.at_level(logging.ERROR, "saga"):
            await there.up([new.services["inventory"]], "new")
        assert "1 open saga may need it" in caplog.text
        held.set()


async def test_a_starter_does_not_leave_ends_unheard(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True, version=2)
    async with virtual_fleet() as there:
        running = await yesterday(there, old, tmp_path)
        await running["shipping"].leave()
        await old.place(Order(order="1"))
        await anyio.sleep(1)
        await there.coordinate(write_plan(tmp_path / "new", new.plan()), "new")
        said = r"orders\.start \(checkout v1 revision 1\): .*does not start the saga any more, .*1 open saga end"
        with pytest.raises(PlanError, match=said):
            await there.up([new.services["orders"]], "new")
        await there.up([old.services["shipping"]], "old")
        await there.ended(1)
        await there.up([new.services["orders"]], "new")


async def hold_shipping(code: Code) -> anyio.Event:
    """Let the pivot wait for an event."""
    event = anyio.Event()

    async def wait(run: Run) -> None:
        del run
        with anyio.move_on_after(4):
            await event.wait()

    code.behaviour["ship"] = wait
    return event
