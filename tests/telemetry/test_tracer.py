from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from types import ModuleType

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

from saga._runtime.tracing import NullTracer
from saga._runtime.trouble import HandlerTrouble
from saga.ports import SpanKind, Tracer
from saga.telemetry import open_tracer
from saga.telemetry.otel import OtelTracer

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def tracer(provider: TracerProvider) -> OtelTracer:
    return OtelTracer(provider)


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def ids(span: ReadableSpan) -> tuple[int, int, int | None]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id, span.parent.span_id if span.parent else None


def test_a_span_hangs_below_the_traceparent_it_is_given(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("process orders.events", SpanKind.CONSUMER, PARENT, {"saga.id": "s1"}) as span:
        told = span.traceparent
    trace_id, span_id, parent_id = ids(only(exporter))
    assert (trace_id, parent_id) == (int("a" * 32, 16), int("b" * 16, 16))
    assert TRACEPARENT.fullmatch(told)
    assert told.split("-")[1:3] == ["a" * 32, f"{span_id:016x}"]


def test_nothing_but_the_traceparent_connects_two_tracers(exporter: InMemorySpanExporter) -> None:
    told = ""
    for name in ("create order.placed.v1", "process orders.events", "create stock.reserved.v1"):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with OtelTracer(provider).span(name, SpanKind.INTERNAL, told, {}) as span:
            told = span.traceparent
    found = [ids(span) for span in exporter.get_finished_spans()]
    assert len({trace_id for trace_id, _, _ in found}) == 1
    assert [parent for _, _, parent in found] == [None, found[0][1], found[1][1]]


def test_without_a_parent_the_ambient_span_is_it(
    tracer: Tracer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with (
        provider.get_tracer("user").start_as_current_span("POST /orders") as request,
        tracer.span("create order.placed.v1", SpanKind.PRODUCER, "", {}),
    ):
        pass
    created, _ = exporter.get_finished_spans()
    assert ids(created)[2] == request.get_span_context().span_id


def test_the_open_span_is_the_ambient_one_for_the_handlers_own_spans(
    tracer: Tracer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    before = trace.get_current_span()
    with tracer.span("process a.events", SpanKind.CONSUMER, PARENT, {}):
        provider.get_tracer("user").start_span("select").end()
    query, process = exporter.get_finished_spans()
    assert ids(query)[2] == ids(process)[1]
    assert trace.get_current_span() is before


def test_the_parent_is_local_exactly_when_it_is_the_open_span(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with (
        tracer.span("process a.events", SpanKind.CONSUMER, PARENT, {}) as process,
        tracer.span("create b.v1", SpanKind.PRODUCER, process.traceparent, {}),
    ):
        pass
    create, process_ = exporter.get_finished_spans()
    assert create.parent is not None
    assert process_.parent is not None
    assert (create.parent.is_remote, process_.parent.is_remote) == (False, True)


@pytest.mark.parametrize("garbage", ["x", "00-0-0-00", f"ff{PARENT[2:]}", f"00-{'0' * 32}-{'b' * 16}-01"])
def test_a_parent_that_is_no_traceparent_starts_a_trace(
    garbage: str, tracer: Tracer, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with (
        provider.get_tracer("user").start_as_current_span("unrelated"),
        tracer.span("process a.events", SpanKind.CONSUMER, garbage, {}),
    ):
        pass
    assert ids(exporter.get_finished_spans()[0])[2] is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SpanKind.PRODUCER, trace.SpanKind.PRODUCER),
        (SpanKind.CONSUMER, trace.SpanKind.CONSUMER),
        (SpanKind.INTERNAL, trace.SpanKind.INTERNAL),
    ],
)
def test_kinds(kind: SpanKind, expected: trace.SpanKind, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("x", kind, "", {}):
        pass
    assert only(exporter).kind is expected


@pytest.mark.parametrize(
    ("name", "destination"),
    [("process orders.events", "orders.events"), ("send saga.runs", "saga.runs"), ("create a.v1", None)],
)
def test_message_spans_carry_the_messaging_attributes(
    name: str, destination: str | None, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.span(name, SpanKind.PRODUCER, "", {"saga.id": "s1"}) as span:
        span.set("saga.attempt", 2)
    operation = name.partition(" ")[0]
    expected: dict[str, object] = {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "saga.id": "s1",
        "saga.attempt": 2,
    }
    if destination is not None:
        expected["messaging.destination.name"] = destination
    assert only(exporter).attributes == expected


def test_a_given_destination_wins(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("create a.v1", SpanKind.PRODUCER, "", {"messaging.destination.name": "orders.events"}):
        pass
    assert (only(exporter).attributes or {})["messaging.destination.name"] == "orders.events"


def test_other_spans_are_no_messages(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("compensate inventory.reserve", SpanKind.INTERNAL, "", {}):
        pass
    assert not only(exporter).attributes


def test_a_failure_tells_its_type_and_never_its_message(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("process a.events", SpanKind.CONSUMER, "", {}) as span:
        span.fail(ValueError("card 4711"))
    failed = only(exporter)
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert "4711" not in failed.to_json()


def test_the_users_error_counts_and_not_the_runtimes_wrapping(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    error = ConnectionError("card 4711")
    with pytest.raises(HandlerTrouble), tracer.span("create a.v1", SpanKind.PRODUCER, "", {}):
        raise HandlerTrouble(error) from error
    failed = only(exporter)
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ConnectionError"
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.events == ()


def test_what_leaves_a_handling_is_done_again_and_no_failure(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    error = ConnectionError("card 4711")
    with pytest.raises(HandlerTrouble), tracer.span("process a.events", SpanKind.CONSUMER, "", {}):
        raise HandlerTrouble(error) from error
    span = only(exporter)
    (event,) = span.events
    assert (event.name, dict(event.attributes or {})) == ("rolled back", {"error.type": "ConnectionError"})
    assert span.status.status_code is trace.StatusCode.UNSET
    assert "4711" not in span.to_json()


def test_a_held_span_ends_when_it_is_told_to_at_the_time_its_context_was_left(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with suppress(ConnectionError), tracer.span("process a.events", SpanKind.CONSUMER, "", {}) as span:
        span.hold()
        raise ConnectionError
    assert exporter.get_finished_spans() == ()
    before_ns = time.time_ns()
    span.event("tried again", {"saga.attempt": 1}, ConnectionError())
    span.end()
    span.end()
    found = only(exporter)
    assert (found.end_time or 0) <= before_ns
    assert [event.name for event in found.events] == ["tried again"]
    assert found.status.status_code is trace.StatusCode.UNSET


def test_a_link_points_to_another_context(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("process a.events", SpanKind.CONSUMER, "", {}) as span:
        span.link(PARENT)
        span.link("")
    assert [link.context.trace_id for link in only(exporter).links] == [int("a" * 32, 16)]


def test_below_an_unsampled_trace_others_record_nothing_either(
    provider: TracerProvider, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.span("process a.events", SpanKind.CONSUMER, UNSAMPLED, {}) as span:
        provider.get_tracer("user").start_span("select").end()
        assert span.traceparent == UNSAMPLED
    assert not trace.get_current_span().get_span_context().is_valid
    assert exporter.get_finished_spans() == ()


def test_a_sampler_that_does_not_go_by_the_parent_is_asked(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with OtelTracer(provider).span("process a.events", SpanKind.CONSUMER, UNSAMPLED, {}) as span:
        assert span.traceparent != UNSAMPLED
    assert only(exporter).name == "process a.events"


def test_being_cancelled_is_no_failure(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(KeyboardInterrupt), tracer.span("process a.events", SpanKind.CONSUMER, "", {}):
        raise KeyboardInterrupt
    assert only(exporter).status.status_code is trace.StatusCode.UNSET


def test_an_unsampled_trace_is_handed_on_as_such_and_recorded_nowhere(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with OtelTracer(provider).span("process a.events", SpanKind.CONSUMER, UNSAMPLED, {}) as span:
        told = span.traceparent
        span.set("a", 1)
        span.fail(ValueError())
    assert told.startswith(f"00-{'a' * 32}-")
    assert told.endswith("-00")
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("tracer", [NullTracer(), OtelTracer(trace.NoOpTracerProvider())], ids=["null", "no provider"])
@pytest.mark.parametrize("parent", ["", PARENT, UNSAMPLED])
def test_who_records_nothing_hands_the_parent_on(tracer: Tracer, parent: str) -> None:
    with tracer.span("process a.events", SpanKind.CONSUMER, parent, {"saga.id": "s"}) as span:
        span.set("a", 1)
        span.fail(ValueError())
        assert span.traceparent == parent


def test_who_opens_many_spans_is_told_whether_any_is_recorded() -> None:
    assert OtelTracer(TracerProvider(shutdown_on_exit=False)).untraced() is None
    assert OtelTracer().untraced() == ""  # the program has no provider
    assert NullTracer().untraced() == ""


def test_open_tracer_uses_opentelemetry_where_it_is_installed() -> None:
    assert isinstance(open_tracer(), OtelTracer)


def test_without_opentelemetry_there_is_a_null_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: dict[str, ModuleType | None] = {
        name: None for name in sys.modules if name.partition(".")[0] == "opentelemetry"
    }
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "saga.telemetry.otel")
    assert isinstance(open_tracer(), NullTracer)


def test_a_broken_installation_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "contextvars", None)
    monkeypatch.delitem(sys.modules, "saga.telemetry.otel")
    monkeypatch.delitem(sys.modules, "saga.telemetry.spans")
    with pytest.raises(ModuleNotFoundError, match="contextvars"):
        open_tracer()
