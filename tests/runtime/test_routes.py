# pyright: reportPrivateUsage=false
"""Hold that an event like one before it goes where it would have gone the first time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import pytest

from saga import NOTHING, Event, Run, Saga, Service
from saga._core.branches import EMPTY
from saga._core.cloudevents import message
from saga._core.envelope import Delivery, Envelope
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.words import Kind
from saga._runtime import sorting
from saga._runtime.context import ServiceContext
from saga._runtime.items import AsideItem, Item, StepItem
from saga._runtime.planbook import PlanBook
from saga._runtime.routes import ROUTES
from saga._runtime.sorting import items_of
from saga._runtime.tracing import NullTracer

race = Saga("race", version=1, timeout=timedelta(minutes=5))
first, second = Service("first"), Service("second")
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Started(Event, name="race.started", version=1):
    number: int


class One(Event, name="race.one", version=1):
    number: int


start = first.starts(race, Started)


@first.step(race, compensation=NOTHING)
async def go(event: Started, run: Run) -> One:
    del run
    return One(number=event.number)


@second.step(race, compensation=NOTHING)
async def left(event: One, run: Run) -> None:
    del event, run


@second.step(race, compensation=NOTHING)
async def right(event: One, run: Run) -> None:
    del event, run


@pytest.fixture
def context() -> ServiceContext:
    nothing = cast("Any", None)
    definitions = resolve_all([first, second])
    book = PlanBook(definitions)
    book.learn(build_plan("race", 1, [manifest_of(one) for one in definitions]))
    return ServiceContext(
        definition=definitions[1],
        store=nothing,
        hand_over=nothing,
        expect=nothing,
        plans=book,
        tracer=NullTracer(),
        rng=Random(1),
        owner="test",
    )


def event(context: ServiceContext, number: object = 1, **changed: Any) -> Delivery:
    made = Envelope(
        id="s1/first.go",
        source="/saga/first",
        type=One.wire_type,
        kind=Kind.EVENT,
        time=NOW,
        payload=f'{{"number":{number}}}'.encode(),
        saga_id="s1",
        plan=context.plans.plans()[0].hash,
        step="first.go",
        expires_at=NOW + timedelta(minutes=5),
    )
    sent = message(replace(made, **changed), "first.events", "s1")
    return Delivery(topic=sent.topic, partition=0, offset=0, key=sent.key, value=sent.value, headers=sent.headers)


def told(items: list[Item]) -> list[object]:
    return [
        (item.step.name, item.run_id, item.plan_step.name, item.event, item.envelope, item.topology.plan.hash)
        if isinstance(item, StepItem)
        else (item.reason, item.error, item.message_id)
        for item in items
        if isinstance(item, StepItem | AsideItem)
    ]


def test_the_second_event_goes_where_the_first_went(context: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    before = told(list(items_of(context, event(context, 1), None)))
    monkeypatch.setattr(sorting, "sort_message", None)  # not called any more
    assert told(list(items_of(context, event(context, 1), None))) == before
    steps = list(items_of(context, event(context, 2), None))
    assert [(item.step.name, item.event) for item in steps if isinstance(item, StepItem)] == [
        ("second.left", One(number=2)),
        ("second.right", One(number=2)),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"number": '"x"'},
        {"branch": EMPTY},
        {"type": "race.one.v2"},
        {"type": "race.other.v1"},
        {"plan": "0" * 64},
        {"kind": Kind.UNDO},
        {"kind": Kind.OUTCOME},
        {"saga_id": ""},
    ],
)
def test_what_is_not_like_it_is_sorted_as_ever(context: ServiceContext, changed: dict[str, Any]) -> None:
    odd = event(context, **changed)
    alone = told(list(items_of(context, odd, None)))
    list(items_of(context, event(context), None))
    assert told(list(items_of(context, odd, None))) == alone


def test_the_topic_an_event_comes_from_counts(context: ServiceContext) -> None:
    list(items_of(context, event(context), None))
    (item,) = items_of(context, replace(event(context), topic="second.events"), None)
    assert isinstance(item, AsideItem)
    assert item.error == "event race.one.v1 is not accepted from topic second.events"


def test_routes_have_a_bound(context: ServiceContext) -> None:
    topology = context.plans.topology(context.plans.plans()[0].hash)
    assert topology is not None
    (item, _) = items_of(context, event(context), None)
    assert isinstance(item, StepItem)
    for number in range(3 * ROUTES):
        context.routes.learn(replace(item.envelope, type=f"t.v{number}"), "first.events", topology, [])
    assert len(context.routes._known) <= ROUTES
