from __future__ import annotations

from collections.abc import Awaitable, Callable

from saga.testing import Scenario, simulate
from tests.runtime.shapes import Approved, Ordered, ShapeWorld

ALL = sorted(["hotel", "leave", "load", "pack", "weigh/1of3", "weigh/2of3", "weigh/3of3"])


def test_a_saga_of_every_shape_happens_whole_or_not_at_all() -> None:
    world = ShapeWorld()
    found: list[list[str]] = []

    async def whole_or_nothing(s: Scenario) -> None:
        rows = [row for service in world.services for row in await s.rows(service, "select name from effect")]
        found.append(sorted(row["name"] for row in rows))
        assert found[-1] in ([], ALL)

    simulate(world.services, _start(world), invariant=whole_or_nothing, schedules=12, seed="d")
    assert [] in found
    assert ALL in found


def test_a_handler_that_hangs_as_long_as_the_wait_for_its_database_is_waited_for() -> None:
    world = ShapeWorld()
    simulate(world.services, _start(world), schedules=1, seed="d-23")


def _start(world: ShapeWorld) -> Callable[[Scenario], Awaitable[None]]:
    async def start(s: Scenario) -> None:
        for service in world.services:
            await s.given(service, "create table effect (run text, name text, primary key (run, name))")
        await s.when(world.place(Ordered(parcels=3), key="o-1"))
        await s.when(world.approve(Approved(by="ada"), key="o-1"))

    return start
