"""What comes after a long wait is a trace of its own, linked to the one before, and as much recorded as that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler

from saga._core.envelope import Delivery, Envelope
from saga._core.story import LONG_WAIT, StoredSpan, Story, followed, is_sampled, trace_of
from saga._core.words import Kind
from saga.ports import Below, SpanKind
from saga.telemetry.otel import OtelTracer
from saga.telemetry.sampling import SagaSampler

MADE = datetime(2025, 1, 31, 12, tzinfo=UTC)
SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
DELIVERY = Delivery(topic="orders.events", partition=3, offset=17, key=b"s1", value=b"{}")
SOON, LATE = MADE + LONG_WAIT, MADE + LONG_WAIT + timedelta(seconds=1)
NEVER = ParentBased(ALWAYS_OFF)


class Spans:
    """Hold a tracer and what it has recorded."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OtelTracer(provider)

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.all
        return span


def event(traceparent: str) -> Envelope:
    return Envelope(
        id="s1/orders.start",
        source="/orders",
        type="order.placed.v1",
        kind=Kind.EVENT,
        time=MADE,
        payload=b"{}",
        saga_id="s1",
        traceparent=traceparent,
    )


def handle(spans: Spans, traceparent: str, now: datetime) -> str:
    with spans.tracer.process(DELIVERY, event(traceparent), ("saga.step", "orders.step"), now) as span:
        return span.traceparent


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


def trace_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def test_a_message_is_handled_in_the_trace_of_its_creation() -> None:
    spans = Spans()
    told = handle(spans, SAMPLED, SOON)
    assert trace_of(told) == "a" * 32
    assert (spans.only.name, linked(spans.only)) == ("process orders.events", [])
    assert dict(spans.only.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders.events",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 17,
        "messaging.message.id": "s1/orders.start",
        "messaging.message.conversation_id": "s1",
        "saga.id": "s1",
        "saga.step": "orders.step",
    }


def test_after_a_long_wait_there_is_a_new_trace_with_a_link() -> None:
    spans = Spans(SagaSampler(NEVER))
    told = handle(spans, SAMPLED, LATE)
    span = spans.only
    assert (span.parent, linked(span)) == (None, [int("a" * 32, 16)])
    assert (trace_of(told), is_sampled(told)) == (f"{trace_id(span):032x}", True)
    assert (span.attributes or {})["saga.id"] == "s1"


def test_a_sampler_that_does_not_want_the_new_trace_leaves_the_saga_in_the_old_one() -> None:
    spans = Spans(NEVER)
    told = handle(spans, SAMPLED, LATE)
    assert (trace_of(told), is_sampled(told), linked(spans.only)) == ("a" * 32, True, [])


@pytest.mark.parametrize("sampler", [SagaSampler(NEVER), None])
def test_what_was_not_recorded_before_the_wait_is_not_recorded_after_it(sampler: Sampler | None) -> None:
    spans = Spans(sampler)
    assert not is_sampled(handle(spans, UNSAMPLED, LATE))
    assert spans.all == ()


def undo(spans: Spans, traceparent: str) -> str:
    attributes = {"saga.id": "s1"}
    with spans.tracer.span("undo checkout", SpanKind.INTERNAL, traceparent, attributes, Below.FAILED) as span:
        return span.traceparent


def test_the_way_back_is_recorded_where_the_way_forward_was_not() -> None:
    spans = Spans(SagaSampler(NEVER))
    told = undo(spans, UNSAMPLED)
    assert (is_sampled(told), linked(spans.only)) == (True, [int("a" * 32, 16)])
    assert trace_of(told) != "a" * 32


def test_only_so_many_ways_back_are_recorded_in_a_second() -> None:
    now = 0.0
    spans = Spans(SagaSampler(NEVER, failed_per_second=4, clock_seconds=lambda: now))
    for _ in range(10):
        undo(spans, UNSAMPLED)
    assert len(spans.all) == 1
    now = 100.0
    told = [is_sampled(undo(spans, UNSAMPLED)) for _ in range(10)]
    assert (len(spans.all), told) == (3, [True, True, *[False] * 8])


def test_other_peoples_traces_are_sampled_as_they_want() -> None:
    spans = Spans(SagaSampler(NEVER))
    with spans.tracer.span("create a.v1", SpanKind.PRODUCER, "", {"saga.id": "s1"}):
        pass
    assert spans.all == ()


STORED = StoredSpan(
    name="saga checkout", attributes={"saga.id": "s1"}, started_at=MADE, ended_at=MADE + timedelta(seconds=2)
)


def test_a_story_is_told_with_its_own_times_below_its_parent() -> None:
    spans = Spans()
    failed = StoredSpan(
        name="run payment.capture",
        attributes={"saga.id": "s1"},
        started_at=MADE + timedelta(microseconds=1),
        ended_at=MADE + timedelta(seconds=1),
        error_type="_OTHER",
    )
    spans.tracer.tell(Story(top=STORED, parent=SAMPLED, runs=(failed,)))
    run, top = spans.all
    assert top.parent is not None
    assert run.parent is not None
    assert (trace_id(top), top.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    assert run.parent.span_id == (top.context.span_id if top.context else 0)
    began = 1_738_324_800_000_000_000
    assert (top.start_time, top.end_time) == (began, began + 2_000_000_000)
    assert (run.start_time, run.end_time) == (began + 1000, began + 1_000_000_000)
    assert (run.attributes or {})["error.type"] == "_OTHER"


def test_a_story_of_days_is_a_trace_of_its_own() -> None:
    spans = Spans(SagaSampler(NEVER))
    other = f"00-{'c' * 32}-{'d' * 16}-01"
    spans.tracer.tell(Story(top=STORED, links=(SAMPLED, other, "garbage")))
    assert (spans.only.parent, linked(spans.only)) == (None, [int("a" * 32, 16), int("c" * 32, 16)])


def test_nothing_is_told_below_what_was_not_recorded() -> None:
    spans = Spans()
    spans.tracer.tell(Story(top=STORED, parent=UNSAMPLED, runs=(STORED,)))
    assert spans.all == ()


OTHER, OTHER_UNSAMPLED = f"00-{'c' * 32}-{'d' * 16}-01", f"00-{'c' * 32}-{'d' * 16}-00"


@pytest.mark.parametrize(
    ("here", "heard", "expected"),
    [
        (SAMPLED, "", False),
        (SAMPLED, SAMPLED, False),
        (SAMPLED, OTHER, True),
        (SAMPLED, OTHER_UNSAMPLED, False),
        (UNSAMPLED, OTHER, True),
        (UNSAMPLED, OTHER_UNSAMPLED, True),
    ],
)
def test_a_saga_goes_on_in_the_trace_last_heard_of_unless_it_would_be_lost(
    here: str, heard: str, expected: bool
) -> None:
    assert followed(here, heard) is expected
