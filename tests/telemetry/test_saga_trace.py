"""A saga in one process, from its start to its end, is one trace."""

from __future__ import annotations

from collections.abc import Mapping
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


ask: Start[TripAsked] = desk.starts(trip, TripAsked)


@hotel.step(trip, retry=Retry(attempts=2, base_seconds=0.01, cap_seconds=0.01))
async def book_room(asked: TripAsked, run: Run) -> RoomBooked:
    if asked.price == FLAKY and run.attempt == 1:
        msg = f"no answer for {asked.price}"
        raise ConnectionError(msg)
    return RoomBooked(price=asked.price)


@book_room.compensation
async def cancel_room(booked: RoomBooked, run: Run) -> None:
    pass


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
        handle = await ask(TripAsked(price=price))
        ended = await handle.outcome(timeout_seconds=30)
    assert ended.ending is ending
    return Trace(exporter), handle.saga_id


FORWARD = (
    "create trip.asked.v1",
    "process desk.events",
    "create room.booked.v1",
    "process hotel.events",
    "create seat.booked.v1",
    "process flights.events",
)
PAID = (*FORWARD, "create trip.paid.v1")
OUTCOME = ("create trip.asked.v1", "create saga.outcome", "process saga.outcomes")


def assert_one_trace(trace: Trace, saga_id: str) -> None:
    contexts = [span.get_span_context() for span in trace.spans]
    assert len({context.trace_id for context in contexts if context is not None}) == 1
    assert [span.name for span in trace.spans if span.parent is None] == ["create trip.asked.v1"]
    assert {attributes(span).get("saga.id") for span in trace.spans} == {saga_id}


async def test_a_completed_saga_is_one_trace(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, 50, Ending.COMPLETED)
    assert_one_trace(trace, saga_id)
    called = (*FORWARD[:4], "call flights.book_seat")
    created = {*(FORWARD[:length] for length in range(1, 7)), called, PAID, OUTCOME[:2], OUTCOME}
    sent = {way for way in trace.ways if way[-1].startswith("send ")}
    assert trace.ways - sent == created
    topics = ("desk.events", "hotel.events", "flights.events", "bank.events", "saga.outcomes")
    assert {way[-1] for way in sent} == {f"send {topic}" for topic in topics}
    assert all(way[-2].startswith("create ") for way in sent)


async def test_a_failed_attempt_shows_its_error_and_the_next_hangs_beside_it(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, FLAKY, Ending.COMPLETED)
    assert_one_trace(trace, saga_id)
    attempts = [span for span in trace.spans if span.name == "process desk.events"]
    failed = [span for span in attempts if span.status.status_code is StatusCode.ERROR]
    # The first attempt is made twice: in its batch, and alone to see whether a neighbour was to blame.
    assert {attributes(span)["error.type"] for span in failed} == {"ConnectionError"}
    assert len(attempts) == len(failed) + 1
    assert {trace.way(span) for span in attempts} == {FORWARD[:2]}
    assert not any("no answer" in span.to_json() for span in trace.spans)
    assert PAID in trace.ways


async def test_a_compensated_saga_is_one_trace(tmp_path: Path) -> None:
    trace, saga_id = await run_trip(tmp_path, 500, Ending.COMPENSATED)
    assert_one_trace(trace, saga_id)
    asked = FORWARD[0]
    assert {
        (*FORWARD, "create bank.refused.v1"),
        (asked, "create saga.close", "process hotel.commands"),
        (asked, "create saga.undo", "process hotel.commands", "compensate hotel.book_room"),
        (asked, "create saga.undo", "process flights.commands", "compensate flights.book_seat"),
        OUTCOME,
    } <= trace.ways
