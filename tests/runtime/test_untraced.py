# pyright: reportPrivateUsage=false
"""Hold that a step comes to the same where nobody traces and no span is opened for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import pytest

from saga import NOTHING, Event, Refusal, Run, Saga, Service
from saga._core.cloudevents import message
from saga._core.envelope import Delivery, Envelope
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.rows import Changes, Snapshot
from saga._core.words import Kind
from saga._runtime.context import ServiceContext
from saga._runtime.items import StepItem
from saga._runtime.planbook import PlanBook
from saga._runtime.sorting import items_of
from saga._runtime.steps import Trouble, meet_step
from saga._runtime.tracing import NullTracer
from saga._runtime.writing import Writing

pytestmark = pytest.mark.anyio

race = Saga("race", version=1, timeout=timedelta(minutes=5))
first, second = Service("first"), Service("second")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
PARENT = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


class Started(Event, name="race.started", version=1):
    what: str


class One(Event, name="race.one", version=1):
    number: int


class Never(Refusal, name="race.never", version=1):
    number: int


start = first.starts(race, Started)


@second.step(race, compensation=NOTHING)
async def go(event: Started, run: Run) -> One | Never | None:
    match event.what:
        case "emits":
            return One(number=1)
        case "refuses":
            return Never(number=2)
        case "publishes":
            await run.publish(One(number=3), key="k")
            return One(number=4)
        case "raises":
            raise ValueError(event.what)
        case _:
            return None


class Unit:
    """Be a transaction in which nothing is written."""

    writes = 0


def context_of() -> ServiceContext:
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


def items(context: ServiceContext, what: str, traceparent: str) -> Sequence[StepItem]:
    """Return the steps of an event that was sorted, and of one that went along the route it has left."""
    (plan,) = context.plans.plans()
    envelope = Envelope(
        id="S/first.started",
        source="/saga/first",
        type="race.started.v1",
        kind=Kind.EVENT,
        time=NOW,
        payload=b'{"what":"%s"}' % what.encode(),
        saga_id="S",
        plan=plan.hash,
        step=plan.start,
        tenant="t",
        expires_at=NOW + timedelta(minutes=5),
        traceparent=traceparent,
    )
    sent = message(envelope, "first.events", "S")
    delivery = Delivery(topic=sent.topic, partition=0, offset=1, key=sent.key, value=sent.value, headers=sent.headers)
    found = [*items_of(context, delivery, None), *items_of(context, delivery, None)]
    assert len(context.routes._known) == 1
    return cast("list[StepItem]", found)


async def changes_of(context: ServiceContext, item: StepItem, untraced: str | None) -> Changes | str:
    nothing = cast("Any", None)
    writing = Writing(now=NOW + timedelta(seconds=1), untraced=untraced)
    with writing.timer.scope:
        try:
            await meet_step(context, nothing, cast("Any", Unit()), Snapshot(now=writing.now), writing, item)
        except Trouble as trouble:
            return f"{trouble} below {trouble.span.traceparent}"
    return writing.changes()


@pytest.mark.parametrize("traceparent", ["", PARENT])
@pytest.mark.parametrize("what", ["emits", "refuses", "publishes", "raises", "is silent"])
async def test_what_is_written_is_the_same(what: str, traceparent: str) -> None:
    context = context_of()
    found = [
        await changes_of(context, item, untraced)
        for item in items(context, what, traceparent)
        for untraced in (None, "")
    ]
    assert found[0] == found[1] == found[2] == found[3]
    if isinstance(found[0], Changes):
        assert [run.traceparent for run in found[0].insert_runs] == [traceparent]


async def test_without_a_parent_what_surrounds_the_batch_is_handed_on() -> None:
    context = context_of()
    (item, _) = items(context, "emits", "")
    changes = await changes_of(context, item, PARENT)
    assert isinstance(changes, Changes)
    assert [run.traceparent for run in changes.insert_runs] == [PARENT]
    assert dict(changes.outbox[0].headers)["traceparent"] == PARENT.encode()
