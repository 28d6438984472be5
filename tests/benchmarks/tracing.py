"""Measure what tracing adds to one step, without servers: `python -m tests.benchmarks.tracing`.

A step is what a step of the runtime opens: a span for handling its message, one for the event it makes, one for sending
that. Spans are recorded and queued, and thrown away where they would be sent: that goes on in a thread of its own and
depends on who takes them. A line of JSON for each way; the time is this thread's own, the median of the rounds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import median

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from saga._core.envelope import Delivery, Envelope
from saga._core.frozen import replace
from saga._core.words import Kind
from saga._runtime.tracing import NullTracer
from saga.ports import SpanKind, Tracer
from saga.telemetry.otel import OtelTracer
from saga.telemetry.sampling import SagaSampler

WAYS = ("off", "idle", "0.01", "1.0")
"""No tracer, one that finds no provider, and one that records this share of all sagas."""
STEPS, SAGAS, ROUNDS = 4, 1_000, 9

NOW = datetime.now(UTC)
DELIVERY = Delivery(topic="orders.events", partition=0, offset=1, key=b"s1", value=b"{}")
ENVELOPE = Envelope(
    id="s1/orders.start",
    source="/orders",
    type="order.placed.v1",
    kind=Kind.EVENT,
    time=NOW,
    payload=b"{}",
    saga_id="018f4c2e-7b1a-7c7e-9b59-0c3d6f1e2a4b",
)


class Thrown(SpanExporter):
    """Take spans and throw them away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Do nothing."""
        del spans
        return SpanExportResult.SUCCESS


def tracer_of(way: str) -> Tracer:
    """Return the tracer of one of the `WAYS`, or of any other share."""
    if way == "off":
        return NullTracer()
    if way == "idle":
        return OtelTracer()
    provider = TracerProvider(sampler=SagaSampler(ParentBased(TraceIdRatioBased(float(way)))))
    provider.add_span_processor(BatchSpanProcessor(Thrown(), max_queue_size=50_000))
    return OtelTracer(provider)


def run_saga(tracer: Tracer) -> None:
    """Open the spans of a start and of its steps."""
    saga_id = ENVELOPE.saga_id
    with tracer.span(
        "create order.placed.v1", SpanKind.PRODUCER, "", {"saga.id": saga_id, "saga.name": "race"}
    ) as made:
        told = made.traceparent
    for _ in range(STEPS):
        envelope = replace(ENVELOPE, traceparent=told)
        with tracer.process(DELIVERY, envelope, ("saga.step", "orders.step"), NOW) as handled:
            below = handled.traceparent
            with tracer.span("create stock.reserved.v1", SpanKind.PRODUCER, below, {"saga.id": saga_id}) as made:
                told = made.traceparent
        if not isinstance(tracer, NullTracer):
            with tracer.span("send inventory.events", SpanKind.PRODUCER, told, {"saga.id": saga_id}):
                pass


def us_per_step(way: str) -> Iterator[float]:
    """Yield the microseconds of each round; what the runtime itself does for each is a part of none."""
    tracer = tracer_of(way)
    run_saga(tracer)
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(SAGAS):
            run_saga(tracer)
        yield 1e6 * (time.thread_time() - began) / SAGAS / STEPS


def main() -> None:
    """Measure all ways, and print a line for each."""
    for way in WAYS:
        line = {"case": f"tracing-{way}", "us_per_step": round(median(us_per_step(way)), 2)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
