"""Draw plans and sagas from the command line."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import anyio
import pytest

from outbox.urls import open_coordination_store
from saga._core.instance import Instance
from saga._core.mermaid import mermaid
from saga._core.planning import plan_from_json, plan_to_json
from saga._core.rows import CoordinatorChanges, PlanRow
from saga._core.stored_instance import instance_row
from tests.cli.test_commands import CHECKOUT, PLAN, cwd, fresh_modules, saga, shop
from tests.core.drawing import samples

__all__ = ["cwd", "fresh_modules", "shop"]

pytestmark = pytest.mark.usefixtures("shop")
STORE = "sqlite:///coordinator.db"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_a_plan_is_drawn_from_code_and_from_its_file() -> None:
    saga("plan", "shop:services")
    plan = plan_from_json(PLAN.read_bytes())
    for target in ("shop:services", str(PLAN), "plans"):
        said = saga("graph", target)
        assert (said.code, said.out, said.err) == (0, mermaid(plan), "")
    assert saga("graph", "shop:services", "plans").out == mermaid(plan), "the same plan twice is one"


def test_the_name_of_the_file_says_what_is_written() -> None:
    assert saga("graph", "shop:services", "--out", "docs/booking.svg").code == 0
    drawn = Path("docs/booking.svg").read_text()
    assert {"book", "room.asked.v1", "may refuse: rooms.full.v1"} <= set(texts(drawn))
    assert "<style>" in drawn
    saga("graph", "shop:services", "-o", "booking.dot")
    assert Path("booking.dot").read_text().startswith('digraph "booking.v1" {\n')
    saga("graph", "shop:services", "-o", "booking.mmd")
    assert Path("booking.mmd").read_text().startswith("flowchart TD\n")


def test_dot_says_what_mermaid_says() -> None:
    said = saga("graph", "shop:services", "--format", "dot").out
    assert '  "desk.start" -> "rooms.book" [label="room.asked.v1"];' in said
    assert '[label="rooms.book\\nundo: nothing to do\\nmay refuse: rooms.full.v1"]' in said
    assert said.endswith("}\n")


def test_several_plans_are_drawn_one_by_one_or_as_a_topology() -> None:
    both = ("shop:services", CHECKOUT)
    said = saga("graph", *both)
    assert (said.code, said.out) == (2, "")
    assert "choose one: --saga booking --version 1, --saga checkout --version 1" in said.err
    assert saga("graph", *both, "--saga", "booking").code == 0
    drawn = saga("graph", *both, "--view", "topology").out
    assert {"desk", "rooms", "desk.events", "payment", "starts checkout v1"} <= set(texts(drawn))
    assert saga("graph", *both, "--saga", "boking").err == (
        "error: there is no plan of boking here; known: booking v1, checkout v1\n"
    )


def test_a_wrong_use_is_told() -> None:
    assert saga("graph", "shop:services", "--view", "timeline").code == 2
    assert saga("graph", "shop:services", "--view", "topology", "--format", "dot").code == 2
    assert saga("graph", "nothing.json").code == 2
    assert saga("graph", samples.SAGA, "--store", "sqlite:///none.db").code != 0


def remember() -> None:
    """Have the shop's plan in a coordinator's database, and one saga that has only started."""
    saga("plan", "shop:services")
    plan = plan_from_json(PLAN.read_bytes())
    start = samples.fact("desk.start", 0, emits="room.asked.v1")
    row = instance_row(
        Instance(saga_id=samples.SAGA, expires_at=samples.at(1e6), runs={start.key: start}),
        saga="booking",
        version=1,
        plan=plan.hash,
        tenant="",
        partition=0,
        revision=0,
        started_at=samples.T0,
    )

    async def write() -> None:
        async with open_coordination_store(STORE) as store:
            await store.migrate()
            filed = PlanRow(saga="booking", version=1, revision=1, hash=plan.hash, body=plan_to_json(plan))
            await store.put_plans([filed])
            await store.write(CoordinatorChanges(instances=(row,)))

    anyio.run(write)


@pytest.mark.parametrize("view", ["graph", "timeline", "sequence", "topology"])
def test_one_saga_is_drawn_from_the_coordinators_database(view: str) -> None:
    remember()
    said = saga("graph", samples.SAGA, "--store", STORE, "--view", view)
    assert (said.code, said.err) == (0, "")
    assert f"sg-{view}" in said.out
    assert any("start" in text for text in texts(said.out))


def test_a_terminal_is_asked_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    remember()
    monkeypatch.setattr("saga.cli.graphs.on_terminal", lambda: True)
    said = saga("graph", samples.SAGA, "--store", STORE)
    assert (said.code, said.out, "-o saga.svg" in said.err) == (2, "", True)
    assert saga("graph", samples.SAGA, "--store", STORE, "-o", "saga.svg").code == 0
    assert saga("graph", samples.SAGA, "--store", STORE, "--format", "svg").out.startswith("<svg")


def test_a_saga_nobody_knows_is_told() -> None:
    remember_nothing()
    said = saga("graph", samples.SAGA, "--store", STORE)
    assert said.code == 1
    assert f"knows no saga {samples.SAGA}" in said.err


def remember_nothing() -> None:
    async def write() -> None:
        async with open_coordination_store(STORE) as store:
            await store.migrate()

    anyio.run(write)
