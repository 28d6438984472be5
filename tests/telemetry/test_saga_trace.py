"""A saga in one process, from its start to its end, is one trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from saga import Dependency, Ended, Ending, Event, Refusal, Retry, Run, Saga, Service, Start
from saga.app import App, Coordinator
from saga.telemetry.otel import OtelTracer

pytestmark = pytest.mark.anyio

FLAKY = 42
BROKEN, BAD_SQL, ROLLED_BACK = 43, 44, 45
UNDO_FLAKY, UNDO_BROKEN = 142, 143

trip = Saga("trip", version=1, timeout=timedelta(minutes=1))
desk, hotel, flights, bank = map(Service, ("desk", "hotel", "flights", "bank"))


class TripAsked(Event, name="trip.asked", version=1):
    price: int


class RoomBooked(Event, name="room.booked", version=1):
    price: int


class SeatBooked(Event, name="seat.booked", version=1):
    price: int


class Paid(Event, name="trip.paid", version=1):
    price: int


class TooDear(Refusal, name="bank.refused", version=1):
    pass


cancelled: list[str] = []
ask: Start[TripAsked] = desk.starts(trip, TripAsked)


@hotel.step(trip, retry=Retry(attempts=2, base_seconds=0.01, cap_seconds=0.01))
async def book_room(asked: TripAsked, run: Run) -> RoomBooked:
    if asked.price == BROKEN or (asked.price == FLAKY and run.attempt == 1):
        msg = f"no answer for {asked.price}"
        raise ConnectionError(msg)
    if asked.price == BAD_SQL:
        await run.db.execute("insert into nowhere (price) values ($1)", asked.price)
    if asked.price == ROLLED_BACK:
        run.connection.rollback()
    return RoomBooked(price=asked.price)


@book_room.compensation(retry=Retry(attempts=2, base_seconds=0.01, cap_seconds=0.01))
async def cancel_room(booked: RoomBooked, run: Run) -> None:
    cancelled.append(run.saga_id)
    if booked.price == UNDO_BROKEN or (booked.price == UNDO_FLAKY and cancelled.count(run.saga_id) == 1):
        msg = f"no answer for {booked.price}"
        raise ConnectionError(msg)


@flights.step(trip, calls=Dependency("airline"))
async def book_seat(booked: RoomBooked, run: Run) -> SeatBooked:
    return SeatBooked(price=booked.price)


@book_seat.compensation
async def cancel_seat(booked: SeatBooked, run: Run) -> None:
    pass


@bank.pivot(trip)
async def pay(booked: SeatBooked, run: Run) -> Paid | TooDear:
    return TooDear() if booked.price > 100 else Paid(price=booked.price)


@desk.on_end(trip)
async def settle(end: Ended, run: Run) -> None:
    pass


class Trace:
    """Hold the spans of a run by ID and tell the way from the root to each."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self.spans = exporter.get_finished_spans()
        self._by_id = {_id(span): span for span in self.spans}

    def way(self, span: ReadableSpan) -> tuple[str, ...]:
        above = () if span.parent is None else self.way(self._by_id[span.parent.span_id])
        return (*above, span.name)

    @property
    def ways(self) -> set[tuple[str, ...]]:
        return {self.way(span) for span in self.spans}


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def attributes(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


async def run_trip(folder: Path, price: int, ending: Ending) -> tuple[Trace, str]:
    trace, (ended,) = await run_trips(folder, [price])
    assert ended.ending is ending
    return trace, ended.saga_id


async def run_trips(folder: Path, prices: Sequence[int]) -> tuple[Trace, list[Ended]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with App(
        (desk, hotel, flights, bank),
        store=f"sqlite:///{folder / 'trip.db'}",
        transport="memory://",
        coordinator=Coordinator(),
        tracer=OtelTracer(provider),
    ):
        handles = [await ask(TripAsked(price=price)) for price in prices]
        ended = [await handle.outcome(timeout_seconds=60) for handle in handles]
    return Trace(exporter), ended


FORWARD = (
    "create trip.asked.v1",
    "process desk.events",
    "create room.booked.v1",
    "process hotel.events",
    "call flights.book_seat",
    "create seat.booked.v1",
    "process flights.events",
)
PAID = (*FORWARD, "create trip.paid.v1")
OUTCOME = ("create saga.outcome", "process saga.outcomes")
WHOLE = (FORWARD[0], "saga trip")


def assert_one_trace(trace: Trace, saga_id: str) -> None:
    contexts = [span.get_span_context() for span in trace.spans]
    assert len({context.trace_id for context in contexts if context is not None}) == 1
    assert [span.name for span in trace.spans if span.parent is None] == ["create trip.asked.v1"]
    assert {attributes(span).get("saga.id") for span in trace.spans} == {saga_id}
    assert not any(span.links for span in trace.spans)


def totals(trace: Trace) -> dict[str, object]:
    (whole,) = [span for span in trace.spans if span.name == "saga trip"]
    wanted = ("ending", "cause", "refusal", "steps", "retries", "undone")
    return {name: value for name in wanted if (value := attributes(whole).get(f"saga.{name}")) is not None}


async def test_a_completed_saga_is_one_trace(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, 50, Ending.COMPLETED)
    assert_one_trace(trace, saga_id)
    forward = {FORWARD[:length] for length in range(1, len(FORWARD) + 1)}
    sent = {way for way in trace.ways if way[-1].startswith("send ")}
    assert trace.ways - sent == {*forward, PAID, WHOLE, (FORWARD[0], OUTCOME[0]), (FORWARD[0], *OUTCOME)}
    topics = ("desk.events", "hotel.events", "flights.events", "bank.events", "saga.outcomes")
    assert {way[-1] for way in sent} == {f"send {topic}" for topic in topics}
    assert all(way[-2].startswith("create ") for way in sent)
    assert not failed(trace)
    assert totals(trace) == {"ending": "completed", "steps": 3, "retries": 0, "undone": 0}


def failed(trace: Trace) -> list[ReadableSpan]:
    return [span for span in trace.spans if span.status.status_code is StatusCode.ERROR]


async def test_a_failed_attempt_is_an_event_and_the_next_hangs_beside_it(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, FLAKY, Ending.COMPLETED)
    assert_one_trace(trace, saga_id)
    attempts = [span for span in trace.spans if span.name == "process desk.events"]
    assert {trace.way(span) for span in attempts} == {FORWARD[:2]}
    events = [event for span in attempts for event in span.events if event.name == "tried again"]
    told = [dict(event.attributes or {}) for event in events]
    # A message that the broker has twice is tried twice.
    assert {(each["saga.attempt"], each["error.type"]) for each in told} == {(1, "ConnectionError")}
    assert not failed(trace)
    assert totals(trace)["retries"] == 1
    assert not any("no answer" in span.to_json() for span in trace.spans)
    assert PAID in trace.ways


async def test_a_refused_saga_is_one_trace_without_errors(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, 500, Ending.COMPENSATED)
    assert_one_trace(trace, saga_id)
    back = (*FORWARD, "create bank.refused.v1", "undo trip")
    assert {
        WHOLE,
        (*back, "create saga.close", "process hotel.commands"),
        (*back, "create saga.undo", "process hotel.commands", "compensate hotel.book_room"),
        (*back, "create saga.undo", "process flights.commands", "compensate flights.book_seat"),
        (*back, *OUTCOME),
    } <= trace.ways
    assert not failed(trace)
    compensations = [span for span in trace.spans if span.name.startswith("compensate ")]
    assert {attributes(span)["saga.direction"] for span in compensations} == {"back"}
    refused = {"ending": "compensated", "cause": "refused", "refusal": "bank.refused.v1"}
    assert totals(trace) == {**refused, "steps": 2, "retries": 0, "undone": 2}


async def test_only_the_step_that_failed_is_an_error(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, BROKEN, Ending.COMPENSATED)
    assert_one_trace(trace, saga_id)
    (span,) = failed(trace)
    assert (trace.way(span), attributes(span)["saga.step"]) == (FORWARD[:2], "hotel.book_room")
    assert attributes(span)["error.type"] == "ConnectionError"
    assert (*FORWARD[:2], "create hotel.book_room", "undo trip", "create saga.close") in trace.ways
    assert totals(trace) == {"ending": "compensated", "cause": "failed", "steps": 0, "retries": 1, "undone": 0}


@pytest.mark.parametrize("price", [BAD_SQL, ROLLED_BACK])
async def test_a_step_that_has_broken_its_transaction_is_an_error(tmp_path: Path, price: int) -> None:
    trace, saga_id = await run_trip(tmp_path, price, Ending.COMPENSATED)
    assert_one_trace(trace, saga_id)
    (span,) = failed(trace)
    assert (trace.way(span), attributes(span)["saga.step"]) == (FORWARD[:2], "hotel.book_room")
    assert "nowhere" not in span.to_json()


async def test_a_compensation_that_is_tried_again_is_no_error(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, UNDO_FLAKY, Ending.COMPENSATED)
    assert_one_trace(trace, saga_id)
    assert not failed(trace)
    attempts = [span for span in trace.spans if span.name == "compensate hotel.book_room"]
    assert sorted([event.name for event in span.events] for span in attempts) == [[], ["tried again"]]
    assert all("process hotel.commands" in trace.way(span) for span in attempts)


async def test_a_compensation_that_needs_a_person_is_the_error(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, UNDO_BROKEN, Ending.STUCK)
    assert {attributes(span).get("saga.id") for span in trace.spans} == {saga_id}
    (span,) = failed(trace)
    assert (span.name, attributes(span)["error.type"]) == ("compensate hotel.book_room", "ConnectionError")
    assert not [span for span in trace.spans if span.name == "saga trip"]
    (told,) = [span for span in trace.spans if span.name == "create saga.outcome"]
    assert attributes(told)["saga.ending"] == "stuck"
    assert not any("no answer" in span.to_json() for span in trace.spans)


async def test_who_is_rolled_back_with_a_neighbour_shows_which_of_its_runs_counts(tmp_path: Path) -> None:
    prices = [FLAKY if number % 8 == 7 else 50 for number in range(64)]
    trace, ended = await run_trips(tmp_path, prices)
    handled = [span for span in trace.spans if span.name == "process desk.events"]
    undone = [span for span in handled if any(event.name == "rolled back" for event in span.events)]
    assert undone, "no two sagas were in one transaction"
    for end in ended:
        own = [span for span in handled if attributes(span)["saga.id"] == end.saga_id]
        assert len([span for span in own if not span.events]) == 1
