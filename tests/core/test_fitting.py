"""Say which steps code can run under a plan that is older or newer than it, and sort messages by that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from saga._core.envelope import Envelope
from saga._core.fitting import Fitness, fitness, unfit
from saga._core.intake import Obey, Park, React, Settle, sort_message
from saga._core.plan import Plan, PlanStep, Undoing, topology_of
from saga._core.resolve import resolve
from saga._core.words import Effects, Kind, StepKind
from tests.core import checkout
from tests.core.test_mermaid import checkout_plan

PLANNED = PlanStep(
    name="stock.reserve",
    kind=StepKind.STEP,
    effects=Effects.LOCAL,
    reacts_to="order.placed.v1",
    emits=("stock.reserved.v1", "stock.short.v1"),
    ends=True,
    refuses=("stock.out.v1",),
    undoing=Undoing.LOCAL,
    timeout_ms=1000,
)
MAIL = replace(PLANNED, name="stock.mail", undoing=Undoing.NOTHING)
PLAN = Plan(
    saga="shop",
    version=1,
    revision=3,
    start="orders.start",
    start_event="order.placed.v1",
    timeout_ms=1000,
    forward_window_ms=1000,
    steps=(PLANNED, MAIL),
    hash="h",
)


def code(**changes: object) -> dict[str, PlanStep]:
    return {PLANNED.name: replace(PLANNED, **changes), MAIL.name: MAIL}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"timeout_ms": 5},
        {"refuses": ()},
        {"refuses": ("a.v1", "b.v1")},
        {"emits": ("stock.short.v1", "stock.reserved.v1")},
        {"emits": ("stock.reserved.v1",), "ends": False},
    ],
)
def test_code_that_does_no_more_than_the_plan_allows_fits(changes: dict[str, object]) -> None:
    assert unfit("stock", code(**changes), PLAN) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"emits": (*PLANNED.emits, "stock.late.v1")},
        {"reacts_to": "order.paid.v1"},
        {"undoing": Undoing.NOTHING},
        {"undoing": Undoing.EXTERNAL},
        {"effects": Effects.EXTERNAL},
        {"kind": StepKind.PIVOT},
    ],
)
def test_code_that_does_something_else_does_not_fit(changes: dict[str, object]) -> None:
    (name,) = changes
    ((step, sentence),) = unfit("stock", code(**changes), PLAN).items()
    assert step == PLANNED.name
    assert sentence.startswith(f"stock.reserve (shop v1 revision 3): {name} is ")


def test_what_the_plan_ends_with_and_the_code_does_not_is_no_matter_but_the_reverse_is() -> None:
    ending = replace(PLAN, steps=(replace(PLANNED, ends=False), MAIL))
    assert list(unfit("stock", code(), ending)) == [PLANNED.name]


def test_a_step_that_is_gone_does_not_fit_and_a_new_one_is_no_matter() -> None:
    coded = {MAIL.name: MAIL, "stock.new": replace(PLANNED, name="stock.new")}
    assert unfit("stock", coded, PLAN) == {
        "stock.reserve": "stock.reserve (shop v1 revision 3): this code does not have the step"
    }
    assert unfit("payment", {}, PLAN) == {}


def test_a_services_code_fits_its_own_plan_and_says_when_it_cannot_hear_the_end() -> None:
    plan = checkout_plan()
    for service in checkout.SERVICES:
        assert fitness(resolve(service), plan) == Fitness()
    (starter,) = (resolve(service) for service in checkout.SERVICES if service.name == plan.starter)
    later = replace(plan, start_event="another.v1")
    assert "starts with" in fitness(starter, later).ending
    assert "does not start the saga" in fitness(replace(starter, starts=()), plan).ending


# --- sorting ----------------------------------------------------------------------------------------------


def envelope(kind: Kind, type_: str = "order.placed.v1", step: str = "orders.start") -> Envelope:
    return Envelope(
        id="1",
        source="/saga/orders",
        type=type_,
        kind=kind,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        saga_id="s",
        plan="h",
        step=step,
        payload=b"{}",
        expires_at=datetime(2026, 2, 1, tzinfo=UTC),
    )


def sort(what: Envelope, topic: str, *names: str, service: str = "stock", ending: str = "") -> object:
    unable = Fitness(steps={name: f"no {name}" for name in names}, ending=ending)
    return sort_message(what, topic, service=service, topology=topology_of(PLAN), fitness=unable)


def test_an_event_is_parked_only_for_the_steps_the_code_lacks() -> None:
    event = envelope(Kind.EVENT)
    both = ("stock.reserve", "stock.mail")
    assert sort(event, "orders.events") == React(steps=both)
    assert sort(event, "orders.events", "stock.mail") == React(
        steps=("stock.reserve",), parked=(Park(reason="no stock.mail", steps=("stock.mail",)),)
    )
    assert sort(event, "orders.events", *both) == Park(reason="no stock.reserve; no stock.mail", steps=both)


def test_every_replica_closes_and_only_an_undo_takes_code() -> None:
    topic = "stock.commands"
    assert sort(envelope(Kind.CLOSE, "saga.close", ""), topic, "stock.reserve") == Obey()
    undo = envelope(Kind.UNDO, "saga.undo", "stock.reserve")
    assert sort(undo, topic, "stock.mail") == Obey()
    assert sort(undo, topic, "stock.reserve") == Park(reason="no stock.reserve", steps=("stock.reserve",))
    nothing = envelope(Kind.UNDO, "saga.undo", "stock.mail")
    assert sort(nothing, topic, "stock.mail") == Obey(), "there is nothing to undo"


def test_an_end_waits_for_code_that_starts_the_saga() -> None:
    end = envelope(Kind.OUTCOME, "saga.outcome", "")
    assert sort(end, "saga.outcomes", service="orders") == Settle()
    assert sort(end, "saga.outcomes", service="orders", ending="not here") == Park(reason="not here")
