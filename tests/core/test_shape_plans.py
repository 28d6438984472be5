"""Prove that fan-outs, joins and events from outside are accepted where they can always end, and refused elsewhere."""

from __future__ import annotations

import pytest

from saga._core.closure import demanded
from saga._core.plan import topology_of
from saga._core.planning import build_plan, plan_from_json, plan_to_json
from saga._core.words import RunKey, RunStatus
from saga.errors import PlanError
from tests.core.drafts import manifests
from tests.core.protocol_examples import a_fact

SOUND: dict[str, tuple[str, ...]] = {
    "fan-out and gather": ("a.f: step, s -> x*", "b.e: step, x -> y", "a.g: step, y* -> z"),
    "a gather of the elements themselves": ("a.f: step, s -> x*", "b.g: step, x* -> z"),
    "a fan-out that nobody gathers": ("a.f: step, s -> x*", "b.e: step, x -> none"),
    "a fan-out or another way": ("a.f: step, s -> x* | y", "b.e: step, x -> none", "c.e: step, y -> none"),
    "alternatives in a branch that meet": (
        "a.f: step, s -> x*",
        "b.e: step, x -> l | r",
        "c.l: step, l -> y",
        "d.r: step, r -> y",
        "a.g: step, y* -> none",
    ),
    "two gathers of one fan-out": (
        "a.f: step, s -> x*",
        "b.e: step, x -> y",
        "c.e: step, x -> z",
        "a.g: step, y* + z* -> none",
    ),
    "a join in a branch": (
        "a.f: step, s -> x*",
        "b.e: step, x -> y",
        "c.e: step, x -> z",
        "d.j: step, y + z -> w",
        "a.g: step, w* -> none",
    ),
    "a join of parallel ways": ("a.l: step, s -> x", "b.r: step, s -> y", "c.j: step, x + y -> none"),
    "a join of two sides of one alternative": (
        "a.one: step, s -> x | y",
        "b.l: step, x -> p",
        "c.r: step, x -> q",
        "d.j: step, p + q -> none",
    ),
    "a gather beside another way": (
        "a.f: step, s -> x*",
        "b.e: step, x -> y",
        "c.side: step, s -> z",
        "d.j: step, y* + z -> none",
    ),
    "an event from outside": ("a.one: step, s -> x", "b.in: receive,  -> m", "c.j: step, x + m -> none"),
    "a pivot that joins": ("a.l: step, s -> x", "b.r: step, s -> y", "c.j: pivot, x + y -> none"),
    "a fan-out after the pivot": (
        "a.p: pivot, s -> x*",
        "b.e: retriable, x -> y",
        "c.g: retriable, y* -> none",
    ),
    "a gather after a retriable branch needs no undo": (
        "a.p: pivot, s -> x",
        "b.side: retriable local, s -> y",
        "c.j: retriable, x + y -> none",
    ),
}


@pytest.mark.parametrize("steps", SOUND.values(), ids=SOUND.keys())
def test_what_can_always_end_is_a_plan_and_survives_its_file(steps: tuple[str, ...]) -> None:
    plan = build_plan("checkout", 1, manifests(*steps))
    assert plan_from_json(plan_to_json(plan)) == plan


UNSOUND: dict[str, tuple[tuple[str, ...], str]] = {
    "a fan-out in a fan-out": (
        ("a.f: step, s -> x*", "b.f: step, x -> y*", "c.e: step, y -> none"),
        "b.f: emits list[y] in a branch of the fan-out of x; fan-outs do not nest",
    ),
    "a pivot in a branch": (
        ("a.f: step, s -> x*", "b.p: pivot, x -> none"),
        "b.p: is the pivot and runs in every branch of the fan-out of x",
    ),
    "an event inside and outside": (
        ("a.one: step, s -> x | q", "c.f: step, q -> w*", "d.e: step, w -> x", "b.e: step, x -> none"),
        "is also emitted",
    ),
    "a list of what is not fanned out": (
        ("a.one: step, s -> x", "b.two: step, s -> y", "c.j: step, x* + y -> none"),
        "c.j: takes list[x], which is emitted outside of a fan-out; take it without list",
    ),
    "a join across branches": (
        ("a.f: step, s -> x*", "b.e: step, x -> y", "c.side: step, s -> z", "d.j: step, y + z -> none"),
        "which are not of one branch; take list[...]",
    ),
    "a join of what excludes each other": (
        ("a.one: step, s -> x | y", "b.l: step, x -> p", "c.r: step, y -> q", "d.j: step, p + q -> none"),
        "one may come without the other (if a.one emits",
    ),
    "a join with a way that may end": (
        ("a.l: step, s -> x | none", "b.r: step, s -> y", "c.j: step, x + y -> none"),
        "one may come without the other (if a.l emits nothing)",
    ),
    "a gather with a branch that may end": (
        ("a.f: step, s -> x*", "b.e: step, x -> y | none", "a.g: step, y* -> none"),
        "a branch of x may end without it (if b.e emits nothing)",
    ),
    "a gather with a way around the fan-out": (
        ("a.f: step, s -> x* | q", "b.e: step, x -> y", "c.side: step, s -> z", "d.j: step, y* + z -> none"),
        "one may come without the other (if a.f emits",
    ),
    "an event from outside by itself": (
        ("a.one: step, s -> x", "b.in: receive,  -> m", "c.two: step, m -> none"),
        "c.two: reacts to m, which is received from outside, by itself",
    ),
    "a join of events from outside only": (
        ("a.one: step, s -> x", "b.in: receive,  -> m", "b.other: receive,  -> n", "c.j: step, m + n -> none"),
        "c.j: joins only events received from outside; add an event of the saga",
    ),
    "an event from outside that nobody takes": (
        ("a.one: step, s -> x", "b.in: receive,  -> m"),
        "b.in: receives m, which no step takes",
    ),
    "an event from outside in a branch": (
        ("a.f: step, s -> x*", "b.in: receive,  -> m", "c.j: step, x + m -> none"),
        "waits for an event from outside in a branch",
    ),
    "an event both received and emitted": (
        ("a.one: step, s -> m", "b.in: receive,  -> m", "c.j: step, m + s -> none"),
        "a.one and b.in both emit m",
    ),
    "a beside step that joins and cannot be undone": (
        ("a.p: pivot, s -> x", "b.side: retriable, s -> y", "c.j: retriable, x + y -> none"),
        "b.side: runs beside the pivot a.p, neither before nor after it",
    ),
    "a cycle through a join": (
        ("a.one: step, s + z -> x", "b.two: step, x -> z"),
        "is a cycle",
    ),
}


@pytest.mark.parametrize(("steps", "sentence"), UNSOUND.values(), ids=UNSOUND.keys())
def test_what_might_wait_for_ever_is_refused(steps: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(PlanError) as raised:
        build_plan("checkout", 1, manifests(*steps))
    assert sentence in str(raised.value)


def test_too_many_alternatives_are_not_looked_at_for_ever() -> None:
    steps = [f"a.s{n}: step, e{n} -> e{n + 1} | f{n}" for n in range(16)]
    ways = [f"b.t{n}: step, f{n} -> e{n + 1}" for n in range(16)]
    fork = ["c.one: step, s -> e0", "c.two: step, s -> y"]
    chain = manifests(*fork, *steps, *ways, "d.j: step, e16 + y -> none")
    with pytest.raises(PlanError, match="too many to be checked"):
        build_plan("checkout", 1, chain)


# --- what a run asks for -------------------------------------------------------------------------------------------


def _asked(steps: tuple[str, ...], step: str, emits: str, branch: str = "", fan_out: int | None = None) -> set[RunKey]:
    topology = topology_of(build_plan("checkout", 1, manifests(*steps)))
    fact = a_fact(step, RunStatus.DONE, branch=branch, emits=emits, fan_out=fan_out)
    return set(demanded(topology, fact))


def test_a_fan_out_asks_for_every_branch_and_an_empty_one_for_the_gather() -> None:
    steps = SOUND["fan-out and gather"]
    assert _asked(steps, "a.f", "x", fan_out=2) == {RunKey(step="b.e", branch=b) for b in ("1of2", "2of2")}
    assert _asked(steps, "a.f", "x", fan_out=0) == {RunKey(step="a.g")}
    assert _asked(steps, "b.e", "y", branch="2of2") == {RunKey(step="a.g")}


def test_an_event_from_outside_asks_for_nothing() -> None:
    steps = SOUND["an event from outside"]
    assert _asked(steps, "b.in", "m") == set()
    assert _asked(steps, "a.one", "x") == {RunKey(step="c.j")}
