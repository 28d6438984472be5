"""Draw a plan at the terminal and as a flowchart."""

from __future__ import annotations

import pytest
from rich.console import Console

from saga._core.mermaid import mermaid
from saga._core.planning import plan_from_json
from saga.cli.drawing import plan_trees
from saga.cli.words import plan_lines
from tests.cli.test_commands import PLAN, cwd, fresh_modules, saga, shop
from tests.core.test_mermaid import odd_plan

__all__ = ["cwd", "fresh_modules", "shop"]


def test_a_tree_draws_forks_joins_and_what_comes_from_outside() -> None:
    console = Console(width=200, highlight=False, markup=False)
    with console.capture() as captured:
        for tree in plan_trees(odd_plan()):
            console.print(tree)
    assert [line.rstrip() for line in captured.get().splitlines()] == [
        "orders.start",
        "└── order.placed.v1 -> orders.split (undo: compensation)",
        "    └── line.wanted.v1, one each -> packing.pack (undo: compensation, may refuse: shelf.empty.v1)",
        "        ├── parcel.packed.v1, all -> shipping.ship (pivot, join)",
        "        │   ├── order.shipped.v1 -> shipping.insure (child saga insurance.v1, undo: compensation)",
        "        │   │   └── nothing",
        "        │   └── order.shipped.v1 -> mail.tell (retriable, undo: nothing to do)",
        "        │       └── nothing",
        "        └── parcel.late.v1",
        "customs.cleared (receive)",
        "└── customs.cleared.v1 -> shipping.ship, drawn above",
    ]


def test_words_tell_every_shape() -> None:
    said = "\n".join(plan_lines(odd_plan()))
    assert "shipping.ship (pivot) reacts to parcel.packed.v1 of every branch and customs.cleared.v1, emits" in said
    assert "orders.split (step) reacts to order.placed.v1, emits line.wanted.v1 for each element of a list" in said
    assert ", 0:00:00" not in said
    assert "customs.cleared (receive) waits for what comes from outside, emits customs.cleared.v1" in said
    assert "emits nothing, starts insurance.v1 as a child" in said


@pytest.mark.usefixtures("shop")
def test_show_takes_what_graph_takes() -> None:
    saga("plan", "shop:services")
    said = saga("show", str(PLAN))
    assert (said.code, ", revision " in said.out.splitlines()[0]) == (0, True)
    assert saga("show", str(PLAN.parent)).out == said.out
    coded = saga("show", "shop:services")
    assert (coded.code, coded.out.splitlines()[1:]) == (0, said.out.splitlines()[1:])
    assert saga("show", "nowhere").code == 2


@pytest.mark.usefixtures("shop")
def test_graph_prints_a_flowchart() -> None:
    saga("plan", "shop:services")
    said = saga("graph", str(PLAN), "--format", "mermaid")
    assert (said.code, said.out) == (0, mermaid(plan_from_json(PLAN.read_bytes())))
    assert said.out.startswith("flowchart TD\n")
