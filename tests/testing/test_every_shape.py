from __future__ import annotations

import pytest

from saga.testing import Scenario, simulate
from tests.runtime.shapes import Approved, Ordered, ShapeWorld

ALL = sorted(["hotel", "leave", "load", "pack", "weigh/1of3", "weigh/2of3", "weigh/3of3"])


@pytest.mark.parametrize(("heavy", "usual"), [("", ALL), ("2of3", [])])
def test_a_saga_of_every_shape_happens_whole_or_not_at_all(heavy: str, usual: list[str]) -> None:
    world = ShapeWorld()
    world.heavy = heavy
    found: list[list[str]] = []

    async def start(s: Scenario) -> None:
        for service in world.services:
            await s.given(service, "create table effect (run text, name text, primary key (run, name))")
        await s.when(world.place(Ordered(parcels=3), key="o-1"))
        await s.when(world.approve(Approved(by="ada"), key="o-1"))

    async def whole_or_nothing(s: Scenario) -> None:
        rows = [row for service in world.services for row in await s.rows(service, "select name from effect")]
        found.append(sorted(row["name"] for row in rows))
        assert found[-1] in ([], usual)

    simulate(world.services, start, invariant=whole_or_nothing, schedules=8, seed="d")
    assert usual in found
