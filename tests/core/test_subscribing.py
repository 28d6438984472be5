# pyright: reportArgumentType=false, reportCallIssue=false, reportUnknownLambdaType=false
# mypy: disable-error-code="arg-type,call-overload,type-var,no-untyped-call,misc"
from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga import NOTHING, Event, Run, Saga, Service
from saga._core.cloudevents import UNTIMED, decode
from saga._core.envelope import Delivery
from saga._core.inbox import inbox_day, message_name, published_id, time_fault
from saga._core.limits import DEFAULT_LIMITS
from saga._core.plain import plain_row
from saga._core.resolve import resolve_all
from saga._core.words import Kind
from saga.errors import DeclarationError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Moved(Event, name="customer.moved", version=1):
    city: str


class Other(Event, name="customer.left", version=1):
    city: str


class Same(Event, name="customer.moved", version=1):
    town: str


def of(topic: str | None = None, source: Any = None, event: Any = Moved) -> Callable[[Service], Any]:
    def declare(service: Service) -> Any:
        return service.on(event, topic=topic, source=source)

    return declare


def declared(function: Any, **options: Any) -> Callable[[Service], Any]:
    return lambda service: service.on(Moved, source="customers", **options)(function)


async def bill(event: Moved, run: Run) -> None: ...
async def no_run(event: Moved) -> None: ...
async def turned(run: Run, event: Moved) -> None: ...
async def another(event: Other, run: Run) -> None: ...
async def answers(event: Moved, run: Run) -> Other: ...  # type: ignore[empty-body]
async def bare(event: Moved, run) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001


def plain(event: Moved, run: Run) -> None: ...


def twice(service: Service) -> None:
    service.on(Moved, source="customers")(bill)
    service.on(Moved, source="crm")(bill)


def like_a_step(service: Service) -> None:
    service.on(Moved, source="customers")(bill)
    service.step(Saga("one", version=1), compensation=NOTHING)(bill)


def same_on_the_wire(service: Service) -> None:
    async def note(event: Same, run: Run) -> None: ...

    service.on(Moved, source="customers")(bill)
    service.on(Same, source="customers")(note)


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (of(), r"billing.on\(Moved\): say where the event comes from: source='customers' for the events of that serv"),
        (of("a.events", "a"), "say where the event comes from"),
        (of(source="Customers"), "billing.on.Moved.: source 'Customers' is not a usable name"),
        (of("saga.runs"), "no plain events are on topic 'saga.runs', only messages of sagas"),
        (of("billing.commands"), "no plain events are on topic 'billing.commands'"),
        (of("customers.events.urgent"), "no plain events are on topic 'customers.events.urgent'"),
        (of("a b"), "topic 'a b' cannot be used"),
        (of(source="a", event=int), r"billing.on\(int\): int is not an Event class"),
        (
            declared(no_run),
            r"billing.no_run \(on Moved\): takes the event and the run; write `\(event: Moved, run: Run",
        ),
        (declared(turned), "takes the event and the run"),
        (declared(another), "takes the event and the run"),
        (declared(answers), r"returns what nobody would receive; .* run.publish\(...\)"),
        (declared(bare), "parameter 'run' has no annotation"),
        (declared(plain), "plain is not async"),
        (declared(bill, timeout=timedelta()), "timeout is 0:00:00: it must be at least one millisecond"),
        (twice, r"billing.bill \(on Moved\): another subscriber has this name already; rename one function"),
        (like_a_step, r"billing.bill \(on Moved\): a step has this name already"),
        (same_on_the_wire, "two classes with the wire type 'customer.moved.v1'"),
    ],
)
def test_a_subscriber_that_cannot_work_is_refused(declare: Callable[[Service], Any], sentence: str) -> None:
    def resolved() -> None:
        service = Service("billing")
        declare(service)
        resolve_all([service])

    with pytest.raises(DeclarationError, match=sentence):
        resolved()


def test_a_subscriber_reads_the_events_of_a_service_or_a_topic_and_stays_a_function() -> None:
    service = Service("billing")
    for_all = Service("customers")
    assert service.on(Moved, source=for_all)(bill) is bill

    @service.on(Moved, topic="legacy-crm")
    async def note(event: Moved, run: Run) -> None: ...

    (definition,) = resolve_all([service])
    assert [(each.name, each.topic) for each in definition.subscribers] == [
        ("billing.bill", "customers.events"),
        ("billing.note", "legacy-crm"),
    ]


@pytest.mark.parametrize(
    ("at", "fault"),
    [
        (NOW, ""),
        (NOW - timedelta(days=8), ""),
        (NOW - timedelta(days=8, microseconds=1), "more than 8 days ago"),
        (NOW + timedelta(days=1), ""),
        (NOW + timedelta(days=1, microseconds=1), "more than a day ahead"),
        (UNTIMED, "has no ce_time"),
    ],
)
def test_the_inbox_vouches_for_its_days(at: datetime, fault: str) -> None:
    found = time_fault(at, NOW, 8)
    assert fault in found
    assert bool(found) == bool(fault)


def test_a_published_event_comes_back_as_what_it_was() -> None:
    row = plain_row(
        Moved(city="Graz"),
        message_id="m1",
        source_service="customers",
        topic="customers.events",
        key="ann",
        tenant="acme",
        now=NOW,
        traceparent="00-ab-cd-01",
        causation_id="c0",
        correlation_id="s1",
    )
    delivery = Delivery(topic="t", partition=0, offset=0, key=b"ann", value=row.payload, headers=row.headers)
    found = decode(delivery, DEFAULT_LIMITS)
    assert (found.kind, found.saga_id, found.tenant, found.correlation_id) == (Kind.EVENT, "", "acme", "s1")
    assert (found.causation_id, found.traceparent) == ("c0", "00-ab-cd-01")
    assert message_name(found) == "/saga/customers m1"
    assert inbox_day(found).isoformat() == "2026-03-01"


def test_the_day_is_that_of_utc() -> None:
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/crm"),
        ("ce_type", b"a.v1"),
        ("ce_time", b"2026-03-01T00:30:00+02:00"),
    )
    found = decode(Delivery(topic="t", partition=0, offset=0, key=None, value=b"{}", headers=headers), DEFAULT_LIMITS)
    assert inbox_day(found).isoformat() == "2026-02-28"


def test_published_ids_never_change() -> None:
    """They are part of the wire protocol; a change would let every event under way be handled twice."""
    found = published_id("s1", "orders.place", "", "step", 0)
    assert found == "2b586f07-c9e6-52ea-9482-92c208eb2d51"
    others = {
        published_id("s2", "orders.place", "", "step", 0),
        published_id("s1", "orders.take", "", "step", 0),
        published_id("s1", "orders.place", "1of2", "step", 0),
        published_id("s1", "orders.place", "", "compensation", 0),
        published_id("s1", "orders.place", "", "step", 1),
    }
    assert len(others | {found}) == 6
