"""Draw plans of every shape; nothing parses Mermaid here, so what makes the text sound is checked by itself."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from saga._core.manifest import manifest_of
from saga._core.mermaid import emissions, mermaid
from saga._core.plan import Plan, PlanInput, PlanStep, Undoing
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.words import Effects, StepKind, Takes
from tests.core import checkout

NODE = re.compile(r'    (n\d+)(\(\[|\{\{|\[/|\[)"([^"]*)"(\]\)|\}\}|/\]|\])')
ARROW = re.compile(r'    (n\d+) -->\|"([^"]*)"\| (n\d+|e\d+\(\( \)\))')
STYLE = re.compile(r"    (classDef \w+ [\w:\- ]+|class n\d+(,n\d+)* \w+)")
SHAPES = {"([": "])", "{{": "}}", "[/": "/]", "[": "]"}


def step(name: str, takes: str | tuple[PlanInput, ...] = "", emits: tuple[str, ...] = (), **others: object) -> PlanStep:
    """Return a step; `takes` is one event, several inputs, or nothing for what comes from outside."""
    made = PlanStep(
        name=name,
        kind=StepKind.STEP,
        effects=Effects.LOCAL,
        reacts_to=takes if isinstance(takes, str) else "",
        joins=takes if isinstance(takes, tuple) else (),
        emits=emits,
        ends=not emits,
        refuses=(),
        undoing=Undoing.LOCAL,
        timeout_ms=1000,
    )
    return replace(made, **others)  # type: ignore[arg-type]


def odd_plan() -> Plan:
    """Return a plan with a fan-out, a join of every branch and of an event from outside, a child and a pivot."""
    gathered = (
        PlanInput(event="parcel.packed.v1", takes=Takes.EVERY),
        PlanInput(event="customs.cleared.v1"),
    )
    steps = (
        step("orders.split", "order.placed.v1", ("line.wanted.v1",), fan_out="line.wanted.v1"),
        step("packing.pack", "line.wanted.v1", ("parcel.packed.v1", "parcel.late.v1"), refuses=("shelf.empty.v1",)),
        step("customs.cleared", "", ("customs.cleared.v1",), kind=StepKind.RECEIVE, undoing=Undoing.NEVER),
        step("shipping.ship", gathered, ("order.shipped.v1",), kind=StepKind.PIVOT, undoing=Undoing.NEVER),
        step("shipping.insure", "order.shipped.v1", child="insurance.v1", effects=Effects.CHILD),
        step("mail.tell", "order.shipped.v1", kind=StepKind.RETRIABLE, undoing=Undoing.NOTHING),
    )
    return Plan(
        saga="parcels",
        version=1,
        revision=1,
        start="orders.start",
        start_event="order.placed.v1",
        timeout_ms=1000,
        forward_window_ms=1000,
        steps=steps,
        hash="",
    )


def checkout_plan() -> Plan:
    """Return the plan of the shop that other tests use."""
    return build_plan("checkout", 1, [manifest_of(each) for each in resolve_all(checkout.SERVICES)])


@pytest.mark.parametrize("plan", [checkout_plan(), odd_plan()], ids=lambda plan: plan.saga)
def test_every_step_is_a_node_and_every_event_an_arrow(plan: Plan) -> None:
    head, *lines = mermaid(plan).splitlines()
    assert head == "flowchart TD"
    nodes = {m[1]: m for line in lines if (m := NODE.fullmatch(line))}
    arrows = [m for line in lines if (m := ARROW.fullmatch(line))]
    styles = [line for line in lines if STYLE.fullmatch(line)]
    assert len(nodes) + len(arrows) + len(styles) == len(lines), "every line is one of the three"
    for node in nodes.values():
        assert SHAPES[node[2]] == node[4]
    names = {key: node[3].partition("<br/>")[0] for key, node in nodes.items()}
    assert sorted(names.values()) == sorted([plan.start, *(s.name for s in plan.steps)])
    drawn = {(names[a[1]], a[2].partition(",")[0], names.get(a[3], "end")) for a in arrows}
    takers = {(e, s.name) for s in plan.steps for taken in s.inputs for e in [taken.event]}
    for emitter, event, _ in emissions(plan):
        wanted = {(emitter, event, taker) for taken, taker in takers if taken == event} or {(emitter, event, "end")}
        assert wanted <= drawn
    assert {event for _, event, _ in emissions(plan)} <= {event for _, event, _ in drawn}


def test_what_is_special_is_marked() -> None:
    text = mermaid(odd_plan())
    assert 'n4{{"shipping.ship<br/>pivot<br/>join"}}' in text
    assert 'n3[/"customs.cleared<br/>receive"/]' in text
    assert '"packing.pack<br/>undo: compensation<br/>may refuse: shelf.empty.v1"' in text
    assert '"mail.tell<br/>retriable<br/>undo: nothing to do"' in text
    assert '"shipping.insure<br/>child saga insurance.v1<br/>undo: compensation"' in text
    assert 'n1 -->|"line.wanted.v1, one each"| n2' in text
    assert 'n2 -->|"parcel.packed.v1, all"| n4' in text
    assert 'n2 -->|"parcel.late.v1"| e1(( ))' in text
    assert 'n5 -->|"nothing"| e2(( ))' in text
    assert "    class n4 pivot\n    class n1,n2,n5 undone\n" in text


def test_the_same_plan_is_the_same_text() -> None:
    assert mermaid(odd_plan()) == mermaid(odd_plan())
